"""The one loop: batches through assign, accumulate and update until something says stop.

Lloyd is the case of one batch that holds every row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.functional import Assignment, ClusterStats
from torchkm.functional.geometry import sq_movements
from torchkm.functional.problem import Problem
from torchkm.functional.reseeding import farthest_rows
from torchkm.functional.stats import labels_and_inertia, one_read
from torchkm.kernels import sum_dtype
from torchkm.solvers.outcome import PassRecord, Status, Watch
from torchkm.solvers.rules import UpdateRule
from torchkm.solvers.update import CentroidState, Step, reseed_and_update, update


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Attributes:
        max_iter: passes at most.
        shift: summed squared movement in a pass that counts as none.
        watch: called after each pass; a true answer stops.
    """

    max_iter: int
    shift: float
    watch: Watch | None


@dataclass(frozen=True)
class Fit:
    """Where the loop ended.

    Attributes:
        centroids: ``(k, d)``.
        labels: of all rows, to these centroids.
        inertia: of all rows, about these centroids.
        status: why it stopped.
        history: a record of each pass.
        precision: the dtype that most rows were scored in.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    status: Status
    history: tuple[PassRecord, ...]
    precision: str


def assigned(
    problem: Problem,
    centroids: Tensor,
    status: Status,
    history: Iterable[PassRecord],
    found: Assignment | None = None,
) -> Fit:
    """Return a fit that ends at ``centroids (k, d)``; looks at all rows if none were ``found``."""
    labels, inertia = labels_and_inertia(problem, centroids, found)
    precision = str(centroids.dtype).removeprefix("torch.")
    return Fit(centroids, labels, inertia, status, tuple(history), precision)


def run(
    problem: Problem,
    centroids: Tensor,
    rule: UpdateRule,
    batch_size: int,
    stopping: Stopping,
    generator: torch.Generator,
) -> Fit:
    """Pass over the rows until the labels repeat, the centroids rest, or a limit is reached.

    One device synchronisation a pass, two in a pass that re-seeds a cluster.
    """
    n = len(problem.x)
    rule = rule.for_rows(n)
    counts = centroids.new_zeros(len(centroids), dtype=sum_dtype(centroids.device))
    state = CentroidState(centroids, counts)
    labels = torch.full((n,), -1, device=centroids.device)  # (n,)
    history: list[PassRecord] = []
    while True:
        batches = shuffled_batches(n, batch_size, generator) if rule.streaming else [None]
        one = _one_pass(problem, state, rule, batches, labels)
        record = PassRecord(len(history) + 1, *one.figures, n, n, 0)
        history.append(record)
        status = status_of(record, one.state.centroids, stopping)
        if status is Status.LABELS_UNCHANGED and one.whole is not None:
            # The same labels a pass ago gave these very centroids.
            return assigned(problem, state.centroids, status, history, one.whole)
        state, labels = one.state, one.labels
        if status is not None:
            return assigned(problem, state.centroids, status, history)


def shuffled_batches(n: int, batch_size: int, generator: torch.Generator) -> Iterable[Tensor]:
    """Return the indices of ``n`` rows in random order, in batches as equal as can be.

    There are as many batches as ``batch_size`` needs; none is a small remainder.
    """
    order = torch.randperm(n, generator=generator, device=generator.device)
    return torch.tensor_split(order, math.ceil(n / batch_size))


class _Pass(NamedTuple):
    state: CentroidState
    labels: Tensor  # (n,)
    whole: Assignment | None  # of all rows to the centroids before, where one batch held them
    figures: tuple[float, float, int, int]  # inertia, shift, n_changed, n_reseeded


class _Batch(NamedTuple):
    rows: Problem
    assignment: Assignment
    stats: ClusterStats
    before: CentroidState
    step: Step


def _one_pass(
    problem: Problem,
    state: CentroidState,
    rule: UpdateRule,
    batches: Iterable[Tensor | None],
    old_labels: Tensor,
) -> _Pass:
    start, labels = state.centroids, old_labels.clone()
    inertia = torch.zeros_like(state.counts[0])
    for index in batches:
        last = _one_batch(problem.take(index), state, rule)
        labels[... if index is None else index.to(labels.device)] = last.assignment.labels
        inertia += last.stats.inertia
        state = last.step.state
    n_changed = (labels != old_labels).sum()
    shift, n_empty = _shift(start, state, problem.origin), last.step.empty.sum()
    figures = [inertia, shift, n_changed, n_empty]
    total, moved, changed, empty = torch.stack([f.to(inertia) for f in figures]).tolist()
    n_reseeded = 0
    if empty:
        state, n_reseeded = _reseeded(last, rule, int(empty))
        moved = _shift(start, state, problem.origin).item()
    whole = None if rule.streaming else last.assignment
    return _Pass(state, labels, whole, (total, moved, int(changed), n_reseeded))


def _one_batch(rows: Problem, state: CentroidState, rule: UpdateRule) -> _Batch:
    assignment, stats = one_read(rows, state.centroids)
    return _Batch(rows, assignment, stats, state, update(stats, state, rule, rows.metric))


def _reseeded(batch: _Batch, rule: UpdateRule, n_empty: int) -> tuple[CentroidState, int]:
    rows, before = batch.rows, batch.before
    farthest = farthest_rows(rows, before.centroids, batch.assignment, n_empty)
    return reseed_and_update(batch.stats, before, rule, rows.metric, batch.step.empty, farthest)


def _shift(start: Tensor, state: CentroidState, origin: Tensor) -> Tensor:
    """Squared movement of the centroids, summed; what is only rounding counts as none.

    Centroids among equal rows would hand them on for many passes without it.
    """
    return sq_movements(start, state.centroids, origin).sum(dtype=state.counts.dtype)


def status_of(record: PassRecord, centroids: Tensor, stopping: Stopping) -> Status | None:
    """Return why to stop after a pass that led to ``centroids (k, d)``, or None."""
    stop = stopping.watch(record, centroids) if stopping.watch is not None else False
    if record.n_changed == 0 and record.n_reseeded == 0:
        return Status.LABELS_UNCHANGED
    if record.shift <= stopping.shift:
        return Status.TOLERANCE
    if stop:
        return Status.CALLBACK
    return Status.MAX_ITER if record.n_iter >= stopping.max_iter else None
