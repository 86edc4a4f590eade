"""Batches drawn at random, until they no longer get better: mini-batch k-means for rows in memory.

Each centroid is the running mean of the rows it was given (Sculley 2010,
doi:10.1145/1772690.1772862). Centroids that hardly ever get one move to a row of the batch, and
the fit ends when a moving average of the batches' inertia stops falling: as in scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional import ClusterStats
from torchkm.functional.geometry import centroids_on, sq_movements
from torchkm.functional.problem import Problem, rows_as_centroids
from torchkm.functional.stats import one_read, rough_read
from torchkm.solvers.outcome import PassRecord, Status, Watch
from torchkm.solvers.rules import MiniBatch
from torchkm.solvers.update import CentroidState, updated

_RULE = MiniBatch()

# Rows for each cluster between two looks at which clusters hardly get any.
_ROWS_BETWEEN_LOOKS = 10


class Draws(Protocol):
    """Where chance comes from."""

    def batch(self) -> Tensor:
        """Return the rows ``(b,)`` of the next batch."""

    def some(self, n: int, size: int) -> Tensor:
        """Return ``size`` different numbers below ``n``."""


class Learnt(NamedTuple):
    """What one step did.

    Attributes:
        inertia: of the batch, about the centroids before it.
        shift: squared movement of the centroids, summed; NaN where it was not ``measured``.
        n_reassigned: centroids that were moved to a row.
    """

    inertia: float
    shift: float
    n_reassigned: int


@dataclass
class Learner:
    """Centroids that learn from one batch after the other.

    Attributes:
        state: centroids and their counts.
        reassignment_ratio: clusters with a smaller share of the largest count are reassigned.
        batch_size: rows that every batch counts as, however many it has.
        n_since: rows since that was looked at.
        measured: whether anybody wants to know how far the centroids move.
        directions: where labels may be guessed, along which directions; else None.
    """

    state: CentroidState
    reassignment_ratio: float
    batch_size: int
    n_since: int = 0
    measured: bool = True
    directions: kernels.Directions | None = None

    def step(self, rows: Problem, draws: Draws) -> Learnt:
        """Learn from a batch."""
        start, due = self.state.centroids, self._due()
        stats = self._read(rows, start)
        self.state = updated(stats, self.state, _RULE, rows.metric)
        n_reassigned = 0
        if due and self.reassignment_ratio > 0:
            self.state, n_reassigned = _reassigned(rows, self.state, self.reassignment_ratio, draws)
        moved = math.nan
        if self.measured:
            moved = sq_movements(start, self.state.centroids, rows.origin).sum().item()
        return Learnt(max(stats.inertia.item(), 0.0), moved, n_reassigned)

    def _read(self, rows: Problem, centroids: Tensor) -> ClusterStats:
        if self.directions is None:
            return one_read(rows, centroids)[1]
        return rough_read(rows, centroids, self.directions)

    def _due(self) -> bool:
        """Say whether rare clusters are to be looked at: in time, or as one has no row yet."""
        counts = self.state.counts
        self.n_since += self.batch_size
        if self.n_since < _ROWS_BETWEEN_LOOKS * len(counts) and not bool((counts == 0).any()):
            return False
        self.n_since = 0
        return True


@dataclass(frozen=True)
class Patience:
    """When to stop.

    Attributes:
        max_steps: batches at most.
        shift: squared movement in a step that counts as none; 0 does not stop.
        max_no_improvement: batches in a row that may leave the average inertia as it was, or None.
        watch: called after each step; a true answer stops.
    """

    max_steps: int
    shift: float
    max_no_improvement: int | None
    watch: Watch | None


class Sampled(NamedTuple):
    """Where the steps ended.

    Attributes:
        n_steps: made.
        mean_inertia: per row, averaged over the last batches.
        status: why they ended.
    """

    n_steps: int
    mean_inertia: float
    status: Status


@torch.no_grad()
def learn(problem: Problem, learner: Learner, draws: Draws, patience: Patience) -> Sampled:
    """Make steps on drawn batches until ``patience`` ends."""
    average = _Average(len(problem.x))
    learner.measured = patience.shift > 0 or patience.watch is not None
    for number in range(1, patience.max_steps + 1):
        rows = problem.batch(draws.batch())  # what is drawn by weight counts once
        learnt, n_rows = learner.step(rows, draws), len(rows.x)
        record = PassRecord(
            number, learnt.inertia, learnt.shift, n_rows, learnt.n_reassigned, n_rows, n_rows, 0
        )
        if patience.watch is not None and patience.watch(record, learner.state.centroids):
            return Sampled(number, average.value, Status.CALLBACK)
        average.add(learnt.inertia / n_rows, n_rows)
        if number == 1:  # its inertia is that of the start
            continue
        if learnt.shift <= patience.shift and patience.shift > 0:
            return Sampled(number, average.value, Status.TOLERANCE)
        average.judge()
        most = patience.max_no_improvement
        if most is not None and average.n_worse >= most:
            return Sampled(number, average.value, Status.NO_IMPROVEMENT)
    return Sampled(number, average.value, Status.MAX_ITER)


class _Average:
    """The moving average of the inertia per row over about ``n`` rows."""

    def __init__(self, n: int) -> None:
        self.value, self.n_batches, self.n_worse = math.nan, 0, 0
        self._n, self._least = n, math.inf

    def add(self, inertia: float, n_rows: int) -> None:
        share = min(1.0, 2.0 * n_rows / (self._n + 1))
        first = self.n_batches < 2  # the second takes the place of the first
        self.n_batches += 1
        self.value = inertia if first else self.value * (1 - share) + inertia * share

    def judge(self) -> None:
        better = self.value < self._least
        self.n_worse = 0 if better else self.n_worse + 1
        self._least = min(self._least, self.value)


def _reassigned(
    rows: Problem, state: CentroidState, ratio: float, draws: Draws
) -> tuple[CentroidState, int]:
    """Move clusters that hardly get a row to rows of the batch, half as many as it has at most."""
    centroids, counts = state
    least, largest = (end.item() for end in counts.aminmax())
    if least >= ratio * largest:
        return state, 0
    rare = counts < ratio * largest  # (k,)
    most = len(rows.x) // 2
    if int(rare.sum()) > most:
        # NumPy's order, in the dtype of the rows: of equal counts scikit-learn takes these first.
        order = np.argsort(counts.to(centroids.dtype).numpy(force=True))
        rare[torch.from_numpy(order[most:]).to(rare.device)] = False
    into = torch.nonzero(rare).squeeze(1)  # (r,)
    if not len(into):
        return state, 0
    chosen = draws.some(len(rows.x), len(into)).to(into.device)
    moved = rows_as_centroids(rows, chosen).to(centroids.dtype)
    moved = centroids_on(rows.metric, moved, moved)
    counts = torch.where(rare, counts[~rare].min(), counts)
    return CentroidState(centroids.index_copy(0, into, moved), counts), len(into)
