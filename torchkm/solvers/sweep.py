"""Many k on the same rows: each begins from what those before it know.

The rows are shuffled and seeded once, for the largest k: greedy k-means++ chooses one seed after
the other, so its first k are seeds for k. What has settled with fewer centroids is another start:
the clusters that part best are parted. The better of the two after a few passes over a few rows
goes on, as restarts do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.checks import (
    as_generator,
    check_k,
)
from torchkm.functional.precision import check_precision
from torchkm.functional.problem import Problem, as_problem
from torchkm.functional.seeding import seeds
from torchkm.functional.splitting import halves
from torchkm.solvers.descent import Descent
from torchkm.solvers.eager import eagerly
from torchkm.solvers.fit import Settings, effort_of
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import Watch
from torchkm.solvers.progressive import Effort, descend, first_rows, plan
from torchkm.solvers.restarts import race
from torchkm.solvers.result import KMeansResult, result_of, warn_of_empty

# Rows that tell which clusters part well: of each cluster, and of all at least.
_ROWS_PER_CLUSTER, _FEWEST_ROWS = 64, 2**12


@eagerly
def sweep(
    x: Any,
    ks: Iterable[int],
    *,
    refine: int = 0,
    precision: str = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    generator: torch.Generator | None = None,
) -> dict[int, KMeansResult]:
    """Cluster rows around each of several numbers of centroids, by the progressive solver.

    Args:
        x: rows ``(n, d)``, as for ``kmeans``.
        ks: numbers of clusters, each from 1 to ``n``, in any order.
        refine: as for ``kmeans``, for each k.
        precision: as for ``kmeans``.
        max_iter: passes over all rows at most, for each k.
        tol: as for ``kmeans``.
        sample_weight: ``(n,)``, non-negative.
        metric: ``"euclidean"`` or ``"cosine"``.
        generator: where randomness comes from; None draws a fresh seed from the system.

    Returns:
        A ``KMeansResult`` for each k, the smallest first. The labels of all are held.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as ``kmeans``; no k at all.

    Warns:
        EmptyClusterWarning: clusters that hold no row at the end.

    Cost:
        As ``kmeans`` for each k, but for one seeding and fewer passes.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> {k: round(result.inertia, 6) for k, result in sweep(x, [1, 2, 4]).items()}
        {1: 82.0, 2: 1.0, 4: 0.0}
    """
    settings = Settings(
        refine=refine, precision=precision, max_iter=max_iter, tol=tol, metric=metric
    )
    each = solve_each(x, ks, sample_weight, as_generator(generator), None, settings)
    results = {len(result.centroids): result for result in each}
    for result in results.values():
        warn_of_empty(result)
    return results


@eagerly
def solve_each(
    x: Any,
    ks: Iterable[int],
    sample_weight: Any,
    generator: torch.Generator,
    watch: Watch | None,
    settings: Settings,
) -> Iterator[KMeansResult]:
    """Check what ``sweep`` was given and run it; yields a result for each k, the smallest first."""
    problem = as_problem(x, sample_weight, settings.metric)
    rising = as_ks(ks, len(problem.x))
    effort = effort_of(settings, problem, watch)
    check_precision(settings.precision, problem)
    return map(result_of, _fits(problem, rising, settings.precision, effort, generator))


def as_ks(ks: Any, n: int) -> list[int]:
    """Return ``ks`` as different integers that rise, from 1 to the number of rows ``n``.

    Raises:
        TypeError: not an iterable of integers.
        ValueError: empty; a k outside of ``[1, n]``.
    """
    if isinstance(ks, (str, bytes)) or not isinstance(ks, Iterable):
        raise TypeError(f"ks must be several integers, got {ks!r}")
    rising = sorted({check_k(k, n, "each of ks") for k in ks})
    if not rising:
        raise ValueError(f"ks must hold at least one k, got {ks!r}")
    return rising


@torch.no_grad()
def _fits(
    problem: Problem, ks: list[int], precision: str, effort: Effort, generator: torch.Generator
) -> Iterator[Fit]:
    """Yield the fit of each of ``ks``, which rise."""
    course = plan(problem, first_rows(problem, ks[-1], precision), True, generator)
    first = course.part(0)
    seeded = seeds(first, ks[-1], "k-means++", generator)
    grown: list[Tensor] = []
    for k, k_next in pairwise([*ks, 0]):
        start = race([first], [seeded[:k], *grown])
        descent = Descent(course.problem, course.order, start, precision, effort.watch)
        yield descend(descent, course.sizes, effort, generator)
        grown = grown_to(descent, k_next, generator)
        del descent  # two of them would hold the rounded rows twice


def grown_to(descent: Descent, k: int, generator: torch.Generator) -> list[Tensor]:
    """Return ``[centroids (k, d)]``, settled ones of which some are parted in two.

    Nothing where even that would not make ``k`` of them.
    """
    centroids = descent.means
    n_more = k - len(centroids)
    if not 0 < n_more <= len(centroids):
        return []
    rows, labels = descent.some_rows(max(_FEWEST_ROWS, _ROWS_PER_CLUSTER * len(centroids)))
    parts = halves(rows, len(centroids), labels, generator)
    parted = parts.gains.topk(n_more).indices
    kept = centroids.index_copy(0, parted, parts.centroids[parted, 0])
    return [torch.cat([kept, parts.centroids[parted, 1]])]
