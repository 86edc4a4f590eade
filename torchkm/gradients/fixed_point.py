"""Converged soft k-means with the gradient that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.functional.checks import check_integer, check_number
from torchkm.functional.ranks import Ranks
from torchkm.functional.soft import soft_step
from torchkm.functional.soft_problem import SoftProblem, as_soft_problem
from torchkm.gradients.implicit import Adjoint, ImplicitCentroids, warn
from torchkm.gradients.strategies import (
    Envelope,
    Gradient,
    Implicit,
    OneStep,
    Unroll,
    as_gradient,
)
from torchkm.solvers.soft import Settled, settle, spread_of

# A map that shrinks distances by less than this has a gradient that a little noise turns round.
_SENSITIVE = 0.99

# Centroids within this share of the spread of the rows have merged.
_MERGED = 1e-3


class FixedPoint(NamedTuple):
    """Where soft Lloyd steps ended.

    Attributes:
        centroids: ``(*batch, k, d)``, with the gradient that was asked for.
        n_iter: steps made ``(*batch,)``.
        residual: how far the last one moved a centroid, root of the mean square, in shares of the
            spread of the rows ``(*batch,)``.
        converged: whether that was at most ``tol`` ``(*batch,)``.
        contraction: the factor by which the last steps shrank ``(*batch,)``, about the largest
            eigenvalue of the map. The error of a one-step gradient is at most that share.
        adjoint: what an implicit backward pass tells of its linear system, once it was run.
    """

    centroids: Tensor
    n_iter: Tensor
    residual: Tensor
    converged: Tensor
    contraction: Tensor
    adjoint: Adjoint


def fixed_point(
    x: Tensor,
    centroids: Tensor,
    temperature: Any,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
    gradient: Any = "implicit",
    max_iter: int = 100,
    tol: float = 1e-6,
    ranks: Ranks | None = None,
) -> FixedPoint:
    """Make soft Lloyd steps until they rest, and differentiate where they do.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: where to start ``(*batch, k, d)``.
        temperature: above 0; a number, or a tensor that broadcasts to ``(*batch,)``.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.
        gradient: ``"implicit"``, ``"one_step"``, ``"unroll"``, ``"envelope"``, ``"detach"``, or one
            of the objects of ``torchkm.gradients`` with options.
        max_iter: steps at most.
        tol: movement to end at, in shares of the spread of the rows. At 0 exactly ``max_iter``
            steps are made and nothing is read back: so it compiles, and maps under ``torch.func``.
        ranks: the processes that the rows are spread over, each with its own and all with the same
            start. Gradients are those of the sum of all their losses.

    Returns:
        ``FixedPoint``.

    Raises:
        TypeError: no float tensors, or a gradient that is no name or strategy.
        ValueError: shapes that do not fit, unknown names, numbers out of range, or rows that are
            not finite.

    Warns:
        UntrustedGradientWarning: the steps have not come to rest, or hardly shrink, or all
            centroids have merged, so that the gradient asked for means little.

    Cost:
        ``4 n k d`` operations a step, without gradients. Backward: as much again for each product
        of ``"implicit"`` (as ``adjoint.n_iter`` counts them), for one step of ``"one_step"``, and
        twice for each step of ``"unroll"``.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [8.0], [9.0]], requires_grad=True)
        >>> found = fixed_point(x, torch.tensor([[0.0], [9.0]]), 0.5)
        >>> found.centroids[1].backward()
        >>> x.grad.flatten()
        tensor([0.0000, 0.0000, 0.5000, 0.5000])
    """
    gradient = as_gradient(gradient)
    max_iter, tol = check_integer("max_iter", max_iter, 1), check_number("tol", tol, 0)
    problem, start = as_soft_problem(x, centroids, temperature, sample_weight, metric)
    problem = replace(problem, ranks=ranks)
    return differentiated(problem, start, gradient, max_iter, tol)


def differentiated(
    problem: SoftProblem, start: Tensor, gradient: Gradient, max_iter: int, tol: float
) -> FixedPoint:
    """Settle a problem from centroids ``start (*batch, k, d)``.

    Raises:
        ValueError: as ``fixed_point``.
    """
    adjoint = Adjoint()
    if problem.ranks is not None and isinstance(gradient, Implicit) and gradient.solver == "gmres":
        raise ValueError("Implicit(solver='gmres') is for rows of one process; use solver='cg'")
    if tol:
        _check_signs(problem)
    if isinstance(gradient, Unroll):
        settled = settle(replace(problem, recompute=gradient.checkpoint), start, max_iter, tol)
        centroids = settled.centroids
    else:
        still = _held(problem)
        with torch.no_grad():
            settled = settle(still, start.detach(), max_iter, tol)
        centroids = _attached(problem, start, settled.centroids, gradient, adjoint)
    if tol:
        _check(problem, settled, gradient)
    return FixedPoint(centroids, *settled[1:], adjoint)


def _attached(
    problem: SoftProblem, start: Tensor, fixed: Tensor, gradient: Gradient, adjoint: Adjoint
) -> Tensor:
    """Return the ``fixed`` point with its gradient."""
    if isinstance(gradient, Envelope):
        return fixed
    if isinstance(gradient, OneStep):
        for _ in range(gradient.steps):
            fixed = soft_step(problem, fixed)
        return fixed
    inputs = problem.x, problem.weight, problem.temperature, start
    if isinstance(gradient, Implicit):
        options = problem.metric, gradient, adjoint, problem.ranks
        return ImplicitCentroids.apply(*inputs, fixed, *options)
    return _Refused.apply(*inputs, fixed)


class _Refused(torch.autograd.Function):
    """Passes a fixed point on, and refuses to differentiate it."""

    @staticmethod
    def forward(*inputs: Tensor) -> Tensor:
        return inputs[-1].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        raise RuntimeError(
            "these centroids were found with gradient='detach' and have none; ask for "
            "gradient='implicit', or call centroids.detach()"
        )


def _held(problem: SoftProblem) -> SoftProblem:
    return problem.of(problem.x.detach(), problem.weight.detach(), problem.temperature.detach())


def _check_signs(problem: SoftProblem) -> None:
    """Raise where a weight is negative or a temperature is not above zero.

    Raises:
        ValueError: the message has the number.
    """
    if not bool((problem.temperature > 0).all()):
        least = float(problem.temperature.min())
        raise ValueError(f"temperature must be above 0, got {least:g}")
    if problem.sample_weight is not None and bool((problem.sample_weight < 0).any()):
        least = float(problem.sample_weight.min())
        raise ValueError(f"sample_weight must not be negative, got {least:g}")


def _check(problem: SoftProblem, settled: Settled, gradient: Gradient) -> None:
    """Warn where the gradient that was asked for cannot be trusted; raise where nothing can.

    Raises:
        ValueError: rows, weights or centroids that are not finite.
    """
    if not bool(torch.isfinite(settled.residual).all()):
        raise ValueError("x, centroids and sample_weight must be finite, and weights not all zero")
    if not isinstance(gradient, (Implicit, OneStep)):
        return
    if not bool(settled.converged.all()):
        warn(
            f"{int(settled.n_iter.max())} steps left a residual of "
            f"{float(settled.residual.max()):.1e}; give max_iter more of them, a larger tol, or "
            "start nearer"
        )
    elif bool((settled.contraction > _SENSITIVE).any()):
        factor = float(settled.contraction.nan_to_num(0).max())
        warn(
            f"steps shrink by a factor of {factor:.4f} only, as near a change in the number of "
            "clusters; try another temperature, or Implicit(ridge=...)"
        )
    elif settled.centroids.shape[-2] > 1 and bool(_merged(problem, settled.centroids).any()):
        warn(
            "all centroids have merged: the temperature is above the critical one, twice the "
            "largest variance of the rows along a direction"
        )


def _merged(problem: SoftProblem, centroids: Tensor) -> Tensor:
    apart = centroids - centroids.mean(-2, keepdim=True)
    return apart.square().sum(-1).amax(-1).sqrt() < _MERGED * spread_of(problem)
