"""What a fit reports: why it stopped, and what each pass saw."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from torch import Tensor


class Status(Enum):
    """Why a fit stopped; ``value`` is its name in files, ``message`` a sentence for people.

    Example:
        >>> Status.MAX_ITER.message
        'stopped at max_iter before the centroids settled'
    """

    LABELS_UNCHANGED = "labels_unchanged"
    TOLERANCE = "tolerance"
    NO_IMPROVEMENT = "no_improvement"
    MAX_ITER = "max_iter"
    CALLBACK = "callback"

    @property
    def message(self) -> str:
        """The reason as a sentence."""
        return _MESSAGES[self]

    @property
    def converged(self) -> bool:
        """Whether the centroids settled by themselves."""
        return self in (Status.LABELS_UNCHANGED, Status.TOLERANCE, Status.NO_IMPROVEMENT)


_MESSAGES = {
    Status.LABELS_UNCHANGED: "converged: no row changed its cluster in the last pass",
    Status.TOLERANCE: "converged: the centroids moved less than tol in the last pass",
    Status.NO_IMPROVEMENT: "converged: the inertia of batches no longer falls",
    Status.MAX_ITER: "stopped at max_iter before the centroids settled",
    Status.CALLBACK: "stopped by the callback",
}


class PassRecord(NamedTuple):
    """What one pass over the rows saw.

    Attributes:
        n_iter: number of the pass, from 1.
        inertia: weighted sum of squared distances to the centroids that the rows were given to
            (those before the pass's update), over the rows that took part.
        shift: squared distance that the centroids moved in the pass, summed.
        n_changed: rows whose label differs from the pass before.
        n_reseeded: empty clusters that were given a far row.
        n_rows: rows that took part; the progressive solver begins with some of them.
        n_scored: rows among them that were scored; the others could not have changed.
        n_rescored: rows among those that a first look left in doubt, in bfloat16 or along a few
            directions, and that were scored in full; none in bfloat16 over a part of the rows.
    """

    n_iter: int
    inertia: float
    shift: float
    n_changed: int
    n_reseeded: int
    n_rows: int
    n_scored: int
    n_rescored: int


Callback = Callable[[PassRecord], object]

# The same with the centroids ``(k, d)`` that the pass led to.
Watch = Callable[[PassRecord, Tensor], object]


class EmptyClusterWarning(UserWarning):
    """The rows have fewer distinct values than there are clusters, so some stay empty."""
