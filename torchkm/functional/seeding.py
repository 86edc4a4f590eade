"""Where centroids begin: by name, as given, or by a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import as_init, check_finite
from torchkm.functional.checks import as_generator, check_k, check_known
from torchkm.functional.geometry import check_directions, unit
from torchkm.functional.plusplus import kmeans_parallel, kmeans_plusplus
from torchkm.functional.problem import Problem, as_problem, rows_as_centroids
from torchkm.functional.sampling import draw_without_replacement
from torchkm.kernels import CsrRows

Init = str | Tensor | Callable[[Tensor, int, torch.Generator], Any] | Any


def random_rows(problem: Problem, k: int, generator: torch.Generator) -> Tensor:
    """``k`` different rows, with chances in proportion to their weight; returns ``(k, d)``."""
    x = problem.x
    index = draw_without_replacement(len(x), k, problem.sample_weight, generator, x.device)
    return rows_as_centroids(problem, index)


INITS = {
    "k-means++": kmeans_plusplus,
    "k-means||": kmeans_parallel,
    "random": random_rows,
}


def seed(
    x: Any,
    k: int,
    init: Init = "k-means++",
    *,
    sample_weight: Any = None,
    metric: str = "euclidean",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the first ``k`` centroids for rows ``x``.

    Args:
        x: rows ``(n, d)``, dense or CSR.
        k: number of centroids, at most ``n``.
        init: ``"k-means++"`` (greedy, ``2 + ln k`` trials, on a random ``max(4096, 16 k)`` of
            the rows), ``"k-means||"`` (for large k), ``"random"`` (different rows), an array
            ``(k, d)``, or a function ``init(x, k, generator)`` that returns one. CSR rows come
            to it as a sparse tensor.
        sample_weight: ``(n,)``, non-negative.
        metric: ``"euclidean"`` or ``"cosine"`` (the centroids have unit length).
        generator: where randomness comes from; None draws a fresh seed from the system. The
            global random state is never used.

    Returns:
        Centroids ``(k, d)`` in float32, or float64 for float64 rows.

    Raises:
        TypeError: rows, weights, k or generator of the wrong type.
        ValueError: an unknown name (the message lists the known ones), k above n, or an array
            of the wrong shape.

    Cost:
        k-means++: ``2 k m p ln k`` operations for its ``m`` rows in ``p`` dimensions: d, or 64
        where d is 128 or more. k-means||: five passes with ``2 k`` centroids. random: none.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [0.0], [5.0]])
        >>> seed(x, 2, generator=torch.Generator().manual_seed(0)).sort(dim=0).values
        tensor([[0.],
                [5.]])
    """
    problem = as_problem(x, sample_weight, metric)
    check_finite(problem.x)
    return seeds(problem, check_k(k, len(problem.x)), init, as_generator(generator))


def seeds(problem: Problem, k: int, init: Init, generator: torch.Generator) -> Tensor:
    """Return the first ``k`` centroids of a problem, by whatever ``init`` is."""
    if isinstance(init, str):
        return INITS[check_known("init", init, INITS)](problem, k, generator)
    x = problem.x
    # A function knows tensors.
    rows = x.matrix if isinstance(x, CsrRows) else x
    given = init(rows, k, generator) if callable(init) else init
    centroids = as_init(given, k, x)
    check_directions(centroids, problem.metric, "init")
    return unit(centroids) if problem.unit_rows else centroids.clone()
