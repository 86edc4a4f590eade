"""Many problems of one size at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import as_tensor
from torchkm.functional.checks import as_generator, check_integer, check_k, check_number
from torchkm.functional.precision import check_precision
from torchkm.functional.problem import Problem, as_problem
from torchkm.functional.seeding import Init, seeds
from torchkm.solvers import on_device
from torchkm.solvers.eager import eagerly
from torchkm.solvers.fit import Settings, solve
from torchkm.solvers.outcome import Status
from torchkm.solvers.result import KMeansResult


@dataclass(frozen=True, repr=False)
class KMeansBatch:
    """What ``kmeans_batch`` found, for each problem.

    Attributes:
        centroids: ``(*batch, k, d)``.
        labels: ``(*batch, n)`` int64.
        inertia: ``(*batch,)`` float64.
        n_iter: passes made, ``(*batch,)`` int64.
        status: why each stopped; one after the other, the last index running fastest.
        precision: what rows were scored in.
    """

    centroids: Tensor
    labels: Tensor
    inertia: Tensor
    n_iter: Tensor
    status: tuple[Status, ...]
    precision: str

    def __repr__(self) -> str:
        """Name the sizes; tensors are left out."""
        *batch, k, d = self.centroids.shape
        return f"KMeansBatch(batch={tuple(batch)}, k={k}, d={d}, n={self.labels.shape[-1]})"


@eagerly
@torch.no_grad()
def kmeans_batch(
    x: Any,
    k: int,
    *,
    init: Init = "k-means++",
    precision: str = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    generator: torch.Generator | None = None,
) -> KMeansBatch:
    """Cluster the rows of many problems, each around ``k`` centroids of its own.

    On a GPU all problems share every kernel, and one that has settled takes no more time. Elsewhere
    they are clustered one after the other.

    Args:
        x: rows ``(*batch, n, d)``, as ``kmeans`` takes them; dense.
        k: centroids of each problem.
        init: as for ``kmeans``; an array is ``(k, d)`` for all problems or ``(*batch, k, d)``.
        precision: as for ``kmeans``.
        max_iter: passes at most.
        tol: as for ``kmeans``, of the variance of each problem.
        sample_weight: ``(*batch, n)`` or None.
        metric: ``"euclidean"`` or ``"cosine"``.
        generator: where randomness comes from.

    Raises:
        TypeError: as ``kmeans``.
        ValueError: as ``kmeans``, and rows of fewer than three dimensions.

    Cost:
        ``2 n k d`` operations for each pass of each problem that goes on.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[0.0], [1.0], [9.0]], [[0.0], [4.0], [5.0]]])
        >>> result = kmeans_batch(x, k=2, init=torch.tensor([[0.0], [8.0]]))
        >>> result.labels
        tensor([[0, 0, 1],
                [0, 1, 1]])
        >>> result.inertia
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    rows = as_tensor(x, "x")
    if rows.ndim < 3:
        raise ValueError(f"x must have shape (*batch, n, d), got {tuple(rows.shape)}")
    batch, (n, d) = rows.shape[:-2], rows.shape[-2:]
    if not rows.numel():
        raise ValueError(f"x must hold at least one problem, of one row, got {tuple(rows.shape)}")
    flat = rows.reshape(-1, n, d)
    weights = _of_each(sample_weight, (*batch, n), "sample_weight", len(flat))
    inits = _inits(init, batch, k, d)
    settings = Settings(precision=precision, max_iter=max_iter, tol=tol, metric=metric)
    problems = [as_problem(x, w, metric) for x, w in zip(flat, weights, strict=True)]
    check_k(k, n)
    random = as_generator(generator)
    if kernels.has_gpu_kernels(problems[0].x):
        return _on_device(problems, flat, batch, k, inits, settings, random)
    results = [
        solve(problem.x, k, start, problem.sample_weight, random, None, settings)
        for problem, start in zip(problems, inits, strict=True)
    ]
    return _stacked(results, batch)


def _of_each(value: Any, shape: tuple[int, ...], name: str, b: int) -> list[Tensor | None]:
    if value is None:
        return [None] * b
    tensor = as_tensor(value, name)
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    return list(tensor.reshape(b, *shape[-1:]))


def _inits(init: Init, batch: torch.Size, k: int, d: int) -> list[Init]:
    b = math.prod(batch)
    if isinstance(init, str) or callable(init):
        return [init] * b
    starts = as_tensor(init, "init")
    if starts.shape not in ((k, d), (*batch, k, d)):
        raise ValueError(
            f"init must have shape {(k, d)} or {(*batch, k, d)}, got {tuple(starts.shape)}"
        )
    return list(starts.expand(*batch, k, d).reshape(b, k, d))


def _stacked(results: list[KMeansResult], batch: torch.Size) -> KMeansBatch:
    first = results[0]
    return KMeansBatch(
        torch.stack([r.centroids for r in results]).view(*batch, *first.centroids.shape),
        torch.stack([r.labels for r in results]).view(*batch, -1),
        torch.tensor([r.inertia for r in results], dtype=torch.float64, device="cpu").view(batch),
        torch.tensor([r.n_iter for r in results], device="cpu").view(batch),
        tuple(r.status for r in results),
        first.precision,
    )


def _on_device(
    problems: list[Problem],
    rows: Tensor,
    batch: torch.Size,
    k: int,
    inits: list[Init],
    settings: Settings,
    generator: torch.Generator,
) -> KMeansBatch:
    check_precision(settings.precision, problems[0])
    max_iter = check_integer("max_iter", settings.max_iter, 1)
    tol = check_number("tol", settings.tol, 0)
    starts = torch.stack(
        [seeds(problem, k, init, generator) for problem, init in zip(problems, inits, strict=True)]
    )
    given = [p.sample_weight for p in problems if p.sample_weight is not None]
    weights = torch.stack(given) if given else None
    going = on_device.Going(settings.precision, max_iter, tol)
    fits = on_device.descend_each(rows, weights, problems[0].metric, starts, going)
    return KMeansBatch(
        fits.centroids.view(*batch, k, -1),
        fits.labels.view(*batch, -1),
        fits.inertia.view(batch),
        fits.n_iter.view(batch),
        fits.status,
        fits.precision,
    )
