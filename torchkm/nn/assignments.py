"""Ways to assign rows once the centroids rest: what a soft k-means layer gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchkm.functional import sinkhorn
from torchkm.functional.checks import as_generator, check_integer, check_known, check_number
from torchkm.functional.sampling import uniform
from torchkm.functional.soft import sq_distances
from torchkm.functional.soft_problem import SoftProblem


@dataclass(frozen=True)
class Soft:
    """Responsibilities as they are."""

    def __call__(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return shares ``(*batch, n, k)``."""
        return _logits(problem, centroids).softmax(-1)


@dataclass(frozen=True)
class StraightThrough:
    """The nearest centroid alone, with the gradient of the responsibilities: biased."""

    def __call__(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return zeros and ones ``(*batch, n, k)``."""
        return _hardened(_logits(problem, centroids).softmax(-1))


@dataclass(frozen=True)
class Gumbel:
    """Draws by the responsibilities (Jang, Gu and Poole 2017, arXiv:1611.01144).

    Attributes:
        sharpness: what noise and scores are divided by; towards 0 a draw is of one centroid.
        hard: whether that is made so, with the gradient of the soft draw.
    """

    sharpness: float = 1.0
    hard: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_number("sharpness", self.sharpness, 0, above=True)

    def __call__(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return shares ``(*batch, n, k)``."""
        logits = _logits(problem, centroids).log_softmax(-1)
        draws = uniform(tuple(logits.shape), as_generator(generator), logits.device)
        noise = -(-draws.log()).log()
        shares = ((logits + noise.to(logits.dtype)) / self.sharpness).softmax(-1)
        return _hardened(shares) if self.hard else shares


@dataclass(frozen=True)
class TopM:
    """Responsibilities among the ``m`` nearest centroids of each row, and zero elsewhere.

    Attributes:
        m: how many, at most all.
    """

    m: int = 2

    def __post_init__(self) -> None:
        """Check the options."""
        check_integer("m", self.m, 1)

    def __call__(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return shares ``(*batch, n, k)``."""
        logits = _logits(problem, centroids)
        best, index = logits.topk(min(self.m, logits.shape[-1]), dim=-1)
        return torch.zeros_like(logits).scatter(-1, index, best.softmax(-1))


@dataclass(frozen=True)
class Balanced:
    """Shares by which all clusters are of one size, or of given ones: Sinkhorn's.

    Attributes:
        max_iter: updates at most.
        tol: what the mass of the rows may be missed by.
        column_penalty: price of missing the sizes; None holds them.
    """

    max_iter: int = 100
    tol: float = 1e-4
    column_penalty: float | None = None

    def __call__(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return shares ``(*batch, n, k)``; sizes are met as near as ``tol``."""
        temperature = problem.temperature.squeeze(-1).squeeze(-1)
        mass = problem.weight / problem.weight.sum(-1, keepdim=True)
        plan = sinkhorn(
            sq_distances(problem.x, centroids),
            temperature,
            mass,
            column_penalty=self.column_penalty,
            max_iter=self.max_iter,
            tol=self.tol,
        ).plan
        return plan / plan.sum(-1, keepdim=True)


ASSIGNMENTS = {
    "gumbel": Gumbel,
    "sinkhorn": Balanced,
    "soft": Soft,
    "straight_through": StraightThrough,
    "top": TopM,
}


def as_assignment(assignment: Any) -> Any:
    """Return a way to assign, given itself or its name.

    Raises:
        TypeError: neither.
        ValueError: an unknown name; the message lists the known ones.

    Example:
        >>> as_assignment("top")
        TopM(m=2)
    """
    if isinstance(assignment, str):
        return ASSIGNMENTS[check_known("assignment", assignment, ASSIGNMENTS)]()
    if not callable(assignment):
        known = ", ".join(sorted(ASSIGNMENTS))
        raise TypeError(f"assignment must be a name ({known}) or a function, got {assignment!r}")
    return assignment


def _logits(problem: SoftProblem, centroids: Tensor) -> Tensor:
    return -sq_distances(problem.x, centroids) / problem.temperature


def _hardened(shares: Tensor) -> Tensor:
    """Return 1 at the largest share of each row and 0 elsewhere, with the gradient of all."""
    labels = shares.argmax(-1, keepdim=True)
    return torch.zeros_like(shares).scatter(-1, labels, 1) + (shares - shares.detach())
