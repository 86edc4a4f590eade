"""Passes that go downhill fast: labels that are followed, and steps that are extrapolated.

A pass costs what changes. Steps are Nesterov's (1983): each goes on in the direction of the last,
further the longer that went well, and begins anew when the inertia rises (O'Donoghue and Candès
2015, doi:10.1007/s10208-013-9150-3). Where they come to rest, Lloyd's passes rest too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional import Assignment, ClusterStats
from torchkm.functional.assignment import check_largest, sq_distances_to
from torchkm.functional.geometry import (
    centroids_on,
    most_rounding,
    rounding_of_means,
    sq_movements,
)
from torchkm.functional.problem import Problem
from torchkm.functional.reseeding import farthest_rows
from torchkm.kernels import Descending, Followed, Pace
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import PassRecord, Status, Watch
from torchkm.solvers.rules import Lloyd
from torchkm.solvers.update import CentroidState, reseed_and_update

# How far a step may be extrapolated. At 1 it would never come to rest.
MOST_MOMENTUM = 0.9

_LLOYD = Lloyd()


@dataclass
class Momentum:
    """Extrapolates steps.

    Attributes:
        most: how far a step may be extrapolated, in shares of it.
        means: where the last step led, ``(k, d)``, or None.
        inertia: of the last pass.
        n_steps: made since the last start.
    """

    most: float = MOST_MOMENTUM
    means: Tensor | None = None
    inertia: float = float("inf")
    n_steps: int = 0

    def ahead(self, means: Tensor, inertia: float) -> Tensor:
        """Return where to look next, given the ``means (k, d)`` that a pass led to."""
        last, self.means = self.means, means
        uphill, self.inertia = inertia > self.inertia, inertia
        self.n_steps = 0 if uphill else self.n_steps + 1
        if last is None or uphill or not self.most:
            return means
        share = min(self.most, (self.n_steps - 1) / (self.n_steps + 2))
        return torch.lerp(last, means, 1 + share)


class Descent:
    """Centroids on their way down, over a growing number of the rows in a given order.

    Attributes:
        problem: all the rows.
        centroids: ``(k, d)``, where the next pass looks.
        means: of the clusters of the last pass, ``(k, d)``.
        tracker: the rows so far and their labels.
        history: a record of each pass.
        stopped: whether who watches said to stop.
    """

    def __init__(
        self,
        problem: Problem,
        order: Tensor | None,
        centroids: Tensor,
        precision: str,
        watch: Watch | None,
        most_momentum: float = MOST_MOMENTUM,
    ) -> None:
        self.problem, self.centroids, self.means = problem, centroids, centroids
        self.history: list[PassRecord] = []
        self.stopped = False
        self.tracker = kernels.track(
            problem.x,
            order,
            problem.sample_weight,
            problem.origin,
            problem.unit_rows,
            len(centroids),
            precision,
        )
        self._order, self._watch, self._most = order, watch, most_momentum
        self._n = len(problem.x)
        self._followed = centroids.new_empty(0)  # what the tracker was last brought up to
        self._momentum = Momentum(most_momentum)
        self._unit_rows = problem.unit_rows
        by_itself = isinstance(self.tracker, Descending) and not problem.unit_rows
        self._several = cast("Descending", self.tracker) if by_itself else None

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``."""
        self.tracker.admit(n_rows)
        self._momentum.inertia = float("inf")  # of fewer rows: no measure of what follows

    def restart(self, centroids: Tensor) -> None:
        """Go on from other ``centroids (k, d)``, without momentum."""
        self.centroids, self._momentum = centroids, Momentum(self._most)

    def step(self) -> PassRecord:
        """Make one pass, look ahead and return its record.

        Over a part of the rows labels are not proven: its centroids are not yet those to be found.

        Raises:
            ValueError: rows that are not finite, or too large to square.
        """
        self._go_on(None, 1)
        return self.history[-1]

    def settle(self, shift: float, max_passes: int) -> None:
        """Make passes until the means move by no more than ``shift``."""
        self._settle(shift, max_passes)

    def settle_on_part(self, max_passes: int) -> None:
        """Make passes until the means move by no more than the choice of the rows may."""
        self._settle(None, max_passes)

    def follow_means(self) -> float:
        """Bring the labels up to the means, without a step; return the inertia about them."""
        return self.follow(self.means)

    def follow(self, centroids: Tensor) -> float:
        """Bring the labels up to ``centroids (k, d)``, without a step; return the inertia then."""
        if not torch.equal(centroids, self._followed):
            self.tracker.follow(centroids)
        if self.problem.sample_weight is not None:
            self.tracker.recount()  # heavy rows that left may have taken the digits of light ones
        return self.tracker.inertia(centroids)

    def end_at(self, centroids: Tensor, status: Status) -> Fit:
        """Return a fit that ends at ``centroids (k, d)``, with the labels that belong to them."""
        self.follow(centroids)
        labels, inertia = self.labels(), self.inertia(centroids)
        history, precision = tuple(self.history), self.tracker.precision
        return Fit(centroids, labels, inertia, status, history, precision)

    def labels(self) -> Tensor:
        """Return the labels ``(n,)`` of the last pass, by row."""
        return self.tracker.by_row(self.tracker.labels)

    def inertia(self, centroids: Tensor) -> float:
        """Return the inertia of all rows about ``centroids (k, d)``, to all its digits."""
        inertia = self.tracker.inertia(centroids)
        if inertia > self.tracker.cancelled * float(self.tracker.sq_norms):
            return inertia
        sq_distances = sq_distances_to(self.problem, centroids, self.labels())
        return ClusterStats.weighed(sq_distances, self.problem.sample_weight).item()

    def some_rows(self, n_rows: int) -> tuple[Problem, Tensor]:
        """Return the first rows that came in, about ``n_rows`` at most, and their labels.

        Where they stand as they lie they are few, and the first may be all of one kind: so all.
        """
        n_rows = min(n_rows, self.tracker.n_rows)
        if self._order is None or n_rows == len(self.problem.x):
            return self.problem, self.labels()
        return self.problem.take(self._order[:n_rows]), self.tracker.labels[:n_rows]

    def _settle(self, shift: float | None, max_passes: int) -> None:
        most = len(self.history) + max_passes
        while len(self.history) < most:
            self._go_on(shift, most - len(self.history))
            still = self.noise if shift is None else shift
            if self.history[-1].shift <= still or self.stopped:
                return

    def _go_on(self, shift: float | None, most: int) -> None:
        """Make a pass, or up to ``most`` where the tracker makes several and nobody watches."""
        start, tracker = self.centroids, self.tracker
        if self._several is not None:
            self._descend(self._several, shift, 1 if self._watch is not None else most)
            return
        self._followed = start
        self._end_pass(start, tracker.follow(start, proven=tracker.n_rows == self._n))

    def _descend(self, tracker: Descending, shift: float | None, most: int) -> None:
        self._check(tracker.enter())
        start, momentum = self.centroids, self._momentum
        rounding = rounding_of_means(start.dtype)
        pace = Pace(momentum.n_steps, momentum.inertia, self._most, shift, rounding)
        went = tracker.descend(start, self.means, pace, most)
        self.centroids = self._followed = went.centroids
        self.means = momentum.means = went.means
        momentum.n_steps = went.n_steps
        for inertia, moved, n_changed in went.figures:
            momentum.inertia = inertia
            self._record(inertia, moved, int(n_changed), self.tracker.n_rows)
        if went.unfinished is not None:
            self._end_pass(went.centroids, went.unfinished)
        elif len(went.figures) == 1:
            self._followed = start
        else:
            self._followed = start.new_empty(0)

    def _check(self, largest_norm: float | None) -> None:
        if largest_norm is not None:
            check_largest(self.problem.x, largest_norm, self.means.dtype)

    def _end_pass(self, start: Tensor, followed: Followed) -> None:
        """Move the centroids from ``start (k, d)``, once labels and sums are up to them."""
        self._check(followed.largest_norm)
        tracker, inertia, n_reseeded = self.tracker, self.tracker.inertia(start), 0
        if followed.n_empty:
            self.means, n_reseeded = self._reseeded(start, followed.n_empty, inertia)
            self._momentum = Momentum(self._most)
        else:
            self.means = self._on_metric(tracker.means, start).to(start.dtype)
        moved = self._shift(start)
        self.centroids = self._momentum.ahead(self.means, inertia)
        self.centroids = self._on_metric(self.centroids, self.means)
        self._record(inertia, moved, *followed[:3], n_reseeded=n_reseeded)

    def _record(
        self,
        inertia: float,
        moved: float,
        n_changed: int,
        n_scored: int,
        n_rescored: int = 0,
        n_reseeded: int = 0,
    ) -> None:
        number, n_rows = len(self.history) + 1, self.tracker.n_rows
        of_rows = n_changed, n_reseeded, n_rows, n_scored, n_rescored
        record = PassRecord(number, max(inertia, 0.0), moved, *of_rows)
        self.history.append(record)
        self.stopped = self._watch is not None and bool(self._watch(record, self.means))

    @property
    def noise(self) -> float:
        """Squared distance by which the means may miss those of all rows, summed over all.

        As their standard errors tell.
        """
        counts = self.tracker.counts
        spread = torch.where(counts > 0, 1 / counts, 0).sum().item()
        return self.history[-1].inertia / self.tracker.n_rows * spread

    @cached_property
    def _most_rounding(self) -> float:
        """Movements so small that rounding may be a part of them."""
        return most_rounding(self.means, self.problem.origin)

    def _on_metric(self, centroids: Tensor, fallback: Tensor) -> Tensor:
        if not self._unit_rows:
            return centroids
        return centroids_on(self.problem.metric, centroids, fallback)

    def _reseeded(self, start: Tensor, n_empty: int, inertia: float) -> tuple[Tensor, int]:
        """Return the means ``(k, d)`` with far rows in empty clusters, and how many got one."""
        tracker, metric = self.tracker, self.problem.metric
        stats = ClusterStats(tracker.counts, tracker.sums, tracker.counts.new_tensor(inertia))
        state = CentroidState(start, torch.zeros_like(stats.counts))
        farthest = farthest_rows(*self._measured(start), n_empty)
        empty = stats.counts <= 0
        after, n_reseeded = reseed_and_update(stats, state, _LLOYD, metric, empty, farthest)
        return after.centroids, n_reseeded

    def _shift(self, start: Tensor) -> float:
        """Return how far the centroids moved from ``start (k, d)``, in squares summed over all."""
        moved: float = torch.dist(self.means, start).item() ** 2
        if 0 < moved < self._most_rounding:
            return sq_movements(start, self.means, self.problem.origin).sum().item()
        return moved

    def _measured(self, centroids: Tensor) -> tuple[Problem, Tensor, Assignment]:
        rows, labels = self.some_rows(self.tracker.n_rows)
        found = Assignment(labels, sq_distances_to(rows, centroids, labels))
        return rows, centroids, found
