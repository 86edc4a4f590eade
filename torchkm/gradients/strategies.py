"""The ways to differentiate a fixed point: each a small object, with a name for everyday use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torchkm.functional.checks import check_integer, check_known, check_number

SOLVERS = ("auto", "cg", "gmres")


@dataclass(frozen=True)
class Implicit:
    """The gradient of the fixed point itself, by the implicit function theorem.

    Memory does not depend on the number of steps; the backward pass solves a linear system.

    Attributes:
        tol: what may be left of the system, in shares of the upstream gradient; None is 1e-6 in
            float32 and 1e-10 in float64. At 0 exactly ``max_iter`` products are made, with nothing
            read back, so that it can be traced.
        max_iter: products with the curvature at most.
        ridge: added to the system, in shares of its diagonal: bounds the gradient near a
            bifurcation, at the price of a bias.
        solver: ``"cg"`` for the symmetric system of soft k-means, with derivatives of two orders;
            ``"gmres"`` uses the gradient of the map alone, and has one; ``"auto"`` is ``"cg"``.
    """

    tol: float | None = None
    max_iter: int = 100
    ridge: float = 0.0
    solver: str = "auto"

    def __post_init__(self) -> None:
        """Check the options."""
        if self.tol is not None:
            check_number("tol", self.tol, 0)
        check_integer("max_iter", self.max_iter, 1)
        check_number("ridge", self.ridge, 0)
        check_known("solver", self.solver, SOLVERS)


@dataclass(frozen=True)
class OneStep:
    """The gradient through the last ``steps`` steps from the fixed point, held constant.

    Misses the true one by at most ``contraction ** steps`` of it, as the masses measure length
    (Bolte, Pauwels and Vaiter 2023, arXiv:2305.13768).

    Attributes:
        steps: differentiated.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        """Check the options."""
        check_integer("steps", self.steps, 1)


@dataclass(frozen=True)
class Unroll:
    """The gradient through every step from the start, which it then depends on too.

    Attributes:
        checkpoint: keep the centroids of each step alone, and compute it again in the backward
            pass: less memory for a third more time.
    """

    checkpoint: bool = False


@dataclass(frozen=True)
class Envelope:
    """Centroids as constants: the exact gradient of a loss that they minimise, and of no other."""


@dataclass(frozen=True)
class Detach:
    """No gradient: a backward pass through the centroids raises."""


Gradient = Implicit | OneStep | Unroll | Envelope | Detach

GRADIENTS: dict[str, type[Gradient]] = {
    "detach": Detach,
    "envelope": Envelope,
    "implicit": Implicit,
    "one_step": OneStep,
    "unroll": Unroll,
}


def as_gradient(gradient: Any) -> Gradient:
    """Return a strategy, given itself or its name.

    Raises:
        TypeError: neither.
        ValueError: an unknown name; the message lists the known ones.

    Example:
        >>> as_gradient("one_step")
        OneStep(steps=1)
    """
    if isinstance(gradient, str):
        return GRADIENTS[check_known("gradient", gradient, GRADIENTS)]()
    if isinstance(gradient, Implicit | OneStep | Unroll | Envelope | Detach):
        return gradient
    known = ", ".join(sorted(GRADIENTS))
    raise TypeError(f"gradient must be a name ({known}) or a strategy, got {gradient!r}")
