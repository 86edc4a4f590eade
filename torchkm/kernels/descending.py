"""What makes several passes by itself, and how it is told to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from torchkm.kernels.tracker import Followed


class Pace(NamedTuple):
    """How passes go on.

    Attributes:
        n_steps: made since the last start.
        inertia: of the last of them.
        most_momentum: how far a step may be extrapolated.
        still: movement of the means, in squares summed, that ends it; None is what the choice of
            the rows may cause.
        rounding: share of a number that counts as unmoved, and of its distance from the origin.
    """

    n_steps: int
    inertia: float
    most_momentum: float
    still: float | None
    rounding: tuple[float, float]


class Descended(NamedTuple):
    """Where passes led.

    Attributes:
        centroids: where the next pass looks, ``(k, d)``; or the one that is not finished.
        means: of the clusters, ``(k, d)``.
        n_steps: made since the last start.
        figures: inertia, movement and labels changed of each pass that is finished.
        unfinished: what one did that left clusters empty; the centroids are still to be moved.
    """

    centroids: Tensor
    means: Tensor
    n_steps: int
    figures: list[tuple[float, float, float]]
    unfinished: Followed | None


class Descending(ABC):
    """A tracker that makes passes in less time than it takes to ask for each."""

    @abstractmethod
    def enter(self) -> float | None:
        """Take new rows in; return a bound of how far they lie from the origin, if any did."""

    @abstractmethod
    def descend(self, centroids: Tensor, means: Tensor, pace: Pace, most: int) -> Descended:
        """Make one pass to ``most``, from ``centroids (k, d)``; ``means (k, d)`` are the last."""
