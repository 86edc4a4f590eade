"""The fixed point of Lloyd steps: centroids that no longer move, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.functional.soft import soft_step
from torchkm.functional.soft_problem import SoftProblem

# Steps that move the centroids by less than so many roundings say nothing of how they shrink.
_ROUNDINGS = 100


class Settled(NamedTuple):
    """Where Lloyd steps ended, for each problem of a batch.

    Attributes:
        centroids: ``(*batch, k, d)``.
        n_iter: steps made ``(*batch,)``.
        residual: how far the last step moved a centroid, root of the mean square, in shares of the
            spread of the rows ``(*batch,)``.
        converged: whether that was at most ``tol`` ``(*batch,)``.
        contraction: by what factor the last steps shrank ``(*batch,)``: the largest eigenvalue of
            the map, once they point along its eigenvector. NaN after a single step.
    """

    centroids: Tensor
    n_iter: Tensor
    residual: Tensor
    converged: Tensor
    contraction: Tensor


def settle(
    problem: SoftProblem,
    centroids: Tensor,
    max_iter: int,
    tol: float,
    step: Callable[[SoftProblem, Tensor], Tensor] = soft_step,
) -> Settled:
    """Make steps from ``centroids (*batch, k, d)`` until none moves them by ``tol``.

    A problem of a batch that has converged stays as it is while others go on. With a ``tol`` of 0
    exactly ``max_iter`` steps are made and nothing is read back, so the loop can be traced.
    """
    batch = centroids.shape[:-2]
    spread = spread_of(problem)  # (*batch,)
    least = _ROUNDINGS * torch.finfo(centroids.dtype).eps
    residual = contraction = centroids.new_full(batch, torch.nan)
    n_iter = torch.zeros(batch, dtype=torch.int64, device=centroids.device)
    going = torch.ones(batch, dtype=torch.bool, device=centroids.device)
    for _ in range(max_iter):
        moved = step(problem, centroids)
        apart = (moved - centroids).detach().square().mean((-2, -1)).sqrt()
        apart = apart * centroids.shape[-1] ** 0.5 / spread
        shrunk = torch.where(residual > least, apart / residual, contraction)
        contraction = torch.where(going, shrunk, contraction)
        residual = torch.where(going, apart, residual)
        centroids = torch.where(going[..., None, None], moved, centroids)
        n_iter = n_iter + going
        if tol:
            going = going & ~(residual <= tol)
            if not bool(going.any()):
                break
    return Settled(centroids, n_iter, residual, residual <= max(tol, least), contraction)


def spread_of(problem: SoftProblem) -> Tensor:
    """Return the root of the mean squared distance of rows from their mean ``(*batch,)``."""
    if problem.unit_rows:
        return problem.x.new_ones(problem.x.shape[:-2])
    x, weight = problem.x.detach(), problem.weight.detach().unsqueeze(-1)
    total = problem.total(weight.sum((-2, -1)))
    mean = problem.total((weight * x).sum(-2, keepdim=True)) / total[..., None, None]
    square = problem.total((weight * (x - mean).square()).sum((-2, -1))) / total
    return square.sqrt().clamp_min(torch.finfo(x.dtype).tiny)
