"""Soft assignment: responsibilities and the soft Lloyd step, both differentiable.

A row belongs to each centroid in proportion to ``exp(-squared distance / temperature)``. A soft
Lloyd step moves each centroid to the mean of the rows, weighed by their responsibilities: an EM
step of an equal mixture of spherical Gaussians with variance ``temperature / 2``, and a descent of
the free energy (Rose, Gurewitz and Fox 1990, doi:10.1103/PhysRevLett.65.945).

Rows are read in blocks. Where gradients are recorded, a block is computed again in the backward
pass, so that no more than a block of responsibilities is ever held. Nothing here looks at a value:
all of it can be traced, compiled and mapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torchkm.functional.soft_problem import SoftProblem, as_soft_problem
from torchkm.kernels import rows_of

# Clusters whose responsibilities sum to less keep their centroid.
NOTHING = 1e-30


def responsibilities(
    x: Tensor, centroids: Tensor, temperature: Any, *, metric: str = "euclidean"
) -> Tensor:
    """Return how much of each row belongs to each centroid.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: ``(*batch, k, d)``.
        temperature: above 0; a number, or a tensor that broadcasts to ``(*batch,)``. In units of
            squared distance: where two centroids differ by it, their shares differ e-fold.
        metric: ``"euclidean"``, or ``"cosine"``, whose squared distance is ``2 - 2 cos``.

    Returns:
        ``(*batch, n, k)``; each row sums to one. In float32, or float64 where anything is.

    Raises:
        TypeError: no float tensors.
        ValueError: shapes that do not fit, an unknown metric, a number for a temperature that is
            not above 0. Temperatures in a tensor are not looked at, as that would wait for them.

    Cost:
        ``2 n k d`` operations; holds the result.

    Example:
        >>> import torch
        >>> x, centroids = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0]])
        >>> responsibilities(x, centroids, 1.0)
        tensor([[0.9820, 0.0180],
                [0.5000, 0.5000],
                [0.0180, 0.9820]])
    """
    problem, centroids = as_soft_problem(x, centroids, temperature, None, metric)
    with in_own_precision(problem.x):
        origin = origin_amid(problem, centroids)
        return shares_of(problem.x - origin, centroids - origin, problem.temperature)


def soft_lloyd(
    x: Tensor,
    centroids: Tensor,
    temperature: Any,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
) -> Tensor:
    """Make one soft Lloyd step: move each centroid to the mean of its share of the rows.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: ``(*batch, k, d)``.
        temperature: above 0; a number, or a tensor that broadcasts to ``(*batch,)``.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"``, or ``"cosine"``, where the mean goes back to the unit sphere.

    Returns:
        Centroids ``(*batch, k, d)``. One that nothing belongs to stays where it was.

    Raises:
        TypeError: as ``responsibilities``.
        ValueError: as ``responsibilities``.

    Cost:
        ``4 n k d`` operations; a block of responsibilities in memory, also with gradients.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [8.0]])
        >>> soft_lloyd(x, torch.tensor([[0.0], [9.0]]), 0.1)
        tensor([[0.5000],
                [8.0000]])
    """
    problem, centroids = as_soft_problem(x, centroids, temperature, sample_weight, metric)
    return soft_step(problem, centroids)


def soft_step(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Make one soft Lloyd step for a problem."""
    with in_own_precision(problem.x):
        origin = origin_amid(problem, centroids)
        masses, sums = soft_sums(problem, origin, centroids - origin)
        masses = masses.unsqueeze(-1)  # (*batch, k, 1)
        held = ~(masses <= NOTHING)  # as a NaN does, which must not come to rest
        if problem.unit_rows:
            moved = torch.nn.functional.normalize(sums, dim=-1)
        else:
            moved = origin + sums / torch.where(held, masses, 1)
        return torch.where(held, moved, centroids)


def soft_sums(problem: SoftProblem, origin: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masses ``(*batch, k)`` and sums ``(*batch, k, d)`` of rows less the origin.

    Where rows are spread over ranks, of those of all.
    """

    def sums(rows: Tensor, weight: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
        shares = shares_of(rows, centred, temperature) * weight.unsqueeze(-1)  # (*batch, b, k)
        ones = rows.new_ones(*rows.shape[:-1], 1)
        return shares.mT @ torch.cat([rows, ones], dim=-1)  # (*batch, k, d + 1)

    both = problem.total(reduce(torch.add, of_blocks(sums, problem, origin, centred)))
    return both[..., -1], both[..., :-1]


def origin_amid(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Return a point ``(*batch, 1, d)`` to measure from; zero on the unit sphere."""
    if problem.unit_rows:
        return centroids.new_zeros(1, centroids.shape[-1])
    return centroids.detach().mean(-2, keepdim=True)


def blocks(problem: SoftProblem, k: int) -> Iterator[slice]:
    """Yield runs of rows such that rows and scores of all problems of a batch make a block."""
    *batch, n, d = problem.x.shape
    size = max(1, rows_of(d + k, problem.x.device) // max(1, torch.Size(batch).numel()))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def of_blocks(
    of_block: Callable[..., Tensor], problem: SoftProblem, origin: Tensor, centred: Tensor
) -> Iterator[Tensor]:
    """Yield what ``of_block`` says of each block of rows, less the origin.

    It is given rows ``(*batch, b, d)``, their weights, the centroids and the temperature.
    """
    weight, runs = problem.weight, list(blocks(problem, centred.shape[-2]))
    again = problem.recompute and len(runs) > 1 and torch.is_grad_enabled()

    def of_rows(rows: Tensor, *others: Tensor) -> Tensor:
        return of_block(rows - origin, *others)

    for run in runs:
        args = problem.x[..., run, :], weight[..., run], centred, problem.temperature
        yield checkpoint(of_rows, *args, use_reentrant=False) if again else of_rows(*args)


def scores_of(rows: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
    """Return ``-|x - c|^2 / temperature`` less what is the same for all centroids of a row."""
    half_norms = centred.square().sum(-1).unsqueeze(-2) / 2  # (*batch, 1, k)
    return (rows @ centred.mT - half_norms) * (2 / temperature)


def shares_of(rows: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
    """Return the responsibilities ``(*batch, b, k)`` of rows, both less an origin.

    What is too small to matter is zero: with numbers below the normal ones, products here and in
    the backward pass take many times as long.
    """
    scores = scores_of(rows, centred, temperature)
    scores = scores - scores.detach().amax(-1, keepdim=True)
    least = math.log(torch.finfo(scores.dtype).tiny) / 2
    return torch.nn.functional.threshold(scores, least, -torch.inf).softmax(-1)


def sq_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """Return squared distances ``(*batch, n, k)``, with derivatives of two orders.

    Measured from amid the centroids; never below zero, but for rounding.
    """
    origin = centroids.detach().mean(-2, keepdim=True)
    rows, centred = x - origin, centroids - origin
    norms = rows.square().sum(-1, keepdim=True) + centred.square().sum(-1).unsqueeze(-2)
    return norms - 2 * rows @ centred.mT


def in_own_precision(x: Tensor) -> torch.autocast:
    """Turn autocast off where ``x`` lies: distances keep their digits."""
    return torch.autocast(x.device.type, enabled=False)
