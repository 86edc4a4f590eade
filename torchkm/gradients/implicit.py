"""The implicit gradient as a function of autograd: the fixed point forward, a solve backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.caller import warn_caller
from torchkm.functional.ranks import Ranks
from torchkm.functional.soft import NOTHING, in_own_precision, origin_amid, soft_step, soft_sums
from torchkm.functional.soft_problem import SoftProblem
from torchkm.gradients.curvature import Curvature
from torchkm.gradients.linear import Solved, conjugate_gradients, gmres
from torchkm.gradients.strategies import Implicit

_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}

# A system that is left with so many times its tolerance was not solved.
_FAR_OFF = 100


class UntrustedGradientWarning(UserWarning):
    """The gradient that was asked for is not that of a fixed point, or is a very sensitive one."""


@dataclass
class Adjoint:
    """What the last backward pass told of its linear system; nothing of ``Implicit(tol=0)``.

    Attributes:
        n_iter: products that were made, or None before.
        residual: what was left, in shares of the upstream gradient ``(*batch,)``.
        definite: whether the fixed point is a strict minimum, as far as was seen ``(*batch,)``.
    """

    n_iter: int | None = None
    residual: Tensor | None = None
    definite: Tensor | None = None


class ImplicitCentroids(torch.autograd.Function):
    """Passes a fixed point on, and differentiates it by what it depends on."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        temperature: Tensor,
        start: Tensor,
        fixed: Tensor,
        metric: str,
        options: Implicit,
        adjoint: Adjoint,
        ranks: Ranks | None,
    ) -> Tensor:
        """Return the ``fixed`` point."""
        return fixed.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep rows and centroids: as much for any number of steps."""
        x, weight, temperature, _, _, *ctx.given = inputs
        ctx.save_for_backward(x, weight, temperature, output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Solve for what each row, weight and the temperature did to the fixed point."""
        x, weight, temperature, centroids = ctx.saved_tensors
        metric, options, adjoint, ranks = ctx.given
        problem = SoftProblem(x, weight, temperature, metric, ranks=ranks)
        with in_own_precision(x):
            # The centroids are those of all ranks, and each has a loss of its own by them.
            given = problem, centroids, problem.total(upstream[0]), options, adjoint
            pulled = _by_gmres(*given) if options.solver == "gmres" else _by_curvature(*given)
        return *pulled, torch.zeros_like(centroids), *[None] * 5


def _by_curvature(
    problem: SoftProblem, centroids: Tensor, upstream: Tensor, options: Implicit, adjoint: Adjoint
) -> tuple[Tensor, Tensor, Tensor]:
    curvature = Curvature(problem, centroids, options.ridge)
    tol = tolerance(options, centroids.dtype)
    right = curvature.tangent(upstream)
    solved = conjugate_gradients(
        curvature.product, right, curvature.diagonal, tol, options.max_iter
    )
    _tell(adjoint, solved, tol)
    return curvature.pullback(solved.solution)


def _by_gmres(
    problem: SoftProblem, centroids: Tensor, upstream: Tensor, options: Implicit, adjoint: Adjoint
) -> tuple[Tensor, ...]:
    """Solve ``(1 + ridge - J') u = upstream`` with ``J'`` from the gradient of the map itself."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "Implicit(solver='gmres') has no second derivatives, and create_graph=True asks for "
            "them; use solver='cg'"
        )
    inputs = [t.detach().requires_grad_() for t in (problem.x, problem.weight, problem.temperature)]
    at = centroids.detach().requires_grad_()
    with torch.enable_grad():
        moved = soft_step(problem.of(*inputs), at)

    def product(u: Tensor) -> Tensor:
        return (1 + options.ridge) * u - torch.autograd.grad(moved, at, u, retain_graph=True)[0]

    # One that nothing belongs to stays where it is, whatever the rows do.
    origin = origin_amid(problem, centroids)
    masses = soft_sums(problem, origin, centroids - origin)[0].unsqueeze(-1)
    upstream = torch.where(masses > NOTHING, upstream, 0)
    tol = tolerance(options, centroids.dtype)
    solved = gmres(product, upstream, tol, options.max_iter)
    _tell(adjoint, solved, tol)
    return torch.autograd.grad(moved, inputs, solved.solution)


def tolerance(options: Implicit, dtype: torch.dtype) -> float:
    """Return what may be left of the system."""
    return _TOLERANCE[dtype] if options.tol is None else options.tol


def _tell(adjoint: Adjoint, solved: Solved, tol: float) -> None:
    """Write down how the solve went, and warn where it did not go well."""
    if not tol:  # nothing may be read back, and nothing written where it is traced
        return
    adjoint.n_iter = solved.n_iter
    adjoint.residual, adjoint.definite = solved.residual.detach(), solved.definite
    if not bool(solved.definite.all()):
        warn("the centroids are no strict minimum of the free energy, so no gradient is defined")
    elif bool((solved.residual > _FAR_OFF * tol).any()):
        worst = float(solved.residual.max())
        warn(
            f"{solved.n_iter} products left {worst:.1e} of the linear system; give "
            "Implicit(max_iter=...) more of them, or Implicit(ridge=...)"
        )


def warn(what: str) -> None:
    """Warn that a gradient is not to be trusted, and say why."""
    message = f"the gradient is not to be trusted: {what}"
    warn_caller(message, UntrustedGradientWarning)
