"""Passes that a GPU makes by itself: the host starts them, and hears of the end a little late.

Momentum, empty clusters, what a pass saw and whether there is another are decided on the device. A
first descent takes the labels of a low precision as they come; once it has settled, a second one
proves every label, so that it ends where float32 would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import check_finite
from torchkm.functional.assignment import check_norms
from torchkm.functional.geometry import unit, uses_unit_rows
from torchkm.functional.problem import Problem
from torchkm.solvers.descent import MOST_MOMENTUM
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import PassRecord, Status, Watch

if TYPE_CHECKING:
    from torchkm.kernels.gpu.passes import Passes
    from torchkm.kernels.gpu.state import State

# By what a problem on the device says that it is done.
STATUS = {1: Status.LABELS_UNCHANGED, 2: Status.TOLERANCE, 3: Status.MAX_ITER}

# Passes between two looks at whether all is done.
_AT_ONCE = 4

# Problems that grids have room for.
_MOST_PROBLEMS = 65_535

T = TypeVar("T")


class Going(NamedTuple):
    """How far passes go.

    Attributes:
        precision: what rows are scored in.
        max_iter: passes at most.
        tol: squared movement that counts as none, in mean variances of a feature.
        momentum: how far steps are extrapolated; 0 makes Lloyd's passes.
    """

    precision: str
    max_iter: int
    tol: float
    momentum: float = MOST_MOMENTUM


class Fits(NamedTuple):
    """Where ``b`` problems ended.

    Attributes:
        centroids: ``(b, k, d)``.
        labels: to these centroids, ``(b, n)`` int64.
        inertia: about these centroids, ``(b,)`` float64.
        n_iter: passes made, ``(b,)``.
        status: why each stopped.
        precision: what rows were scored in.
    """

    centroids: Tensor
    labels: Tensor
    inertia: Tensor
    n_iter: Tensor
    status: tuple[Status, ...]
    precision: str


def descend(problem: Problem, starts: Tensor, going: Going, watch: Watch | None) -> Fit:
    """Make passes from each of ``starts (r, k, d)`` until nothing moves; return the best fit.

    With momentum labels are proven once the centroids have settled; otherwise, and where rows are
    scored in float32, in every pass.
    Several starts share each read of the rows until the best of them is known.

    Raises:
        ValueError: rows that are not finite, or too large to square.
        torch.OutOfMemoryError: too little memory, even for one start at a time.
    """
    x, weight = problem.x, problem.sample_weight
    if not isinstance(x, Tensor):
        raise TypeError("passes on a GPU are for dense rows")
    if len(starts) > 1:
        starts = _best(x, weight, problem.metric, starts, going)
    passes = _measured(x, weight, problem.metric, starts, going)
    stopped = _settle_and_prove(passes, going, watch)
    history = records(passes.state, passes.block.n, 0)
    fits = _finished(passes)
    status = fits.status[0]
    if stopped and not status.converged:
        status = Status.CALLBACK
    inertia = float(fits.inertia[0])
    return Fit(fits.centroids[0], fits.labels[0], inertia, status, history, fits.precision)


def descend_each(
    x: Tensor, weight: Tensor | None, metric: str, starts: Tensor, going: Going
) -> Fits:
    """Make passes over the rows ``x (b, n, d)`` of each problem, from ``starts (b, k, d)``.

    Raises:
        ValueError: as ``descend``.
        torch.OutOfMemoryError: too little memory, even for one problem at a time.
    """

    def fit(some: slice) -> Fits:
        weights = None if weight is None else weight[some]
        passes = _measured(x[some], weights, metric, starts[some], going)
        _settle_and_prove(passes, going, None)
        return _finished(passes)

    return _joined(_in_parts(fit, len(starts)))


def _best(x: Tensor, weight: Tensor | None, metric: str, starts: Tensor, going: Going) -> Tensor:
    """Return where the best of ``starts (r, k, d)`` leads, ``(1, k, d)``."""

    def settled(some: slice) -> tuple[Tensor, Tensor]:
        passes = _measured(x, weight, metric, starts[some], going)
        _settle(passes, False, None)
        passes.rest()
        return passes.centroids.clone(), passes.inertia()

    parts = _in_parts(settled, len(starts))
    inertia = torch.cat([of_part for _, of_part in parts])  # (r,)
    return torch.cat([centroids for centroids, _ in parts])[inertia.argmin()].unsqueeze(0)


def _in_parts(work: Callable[[slice], T], b: int) -> list[T]:
    """Do ``work`` for ``b`` problems: for all at once, or for fewer where there is no room."""
    found: list[T] = []
    start, size = 0, min(b, _MOST_PROBLEMS)
    while start < b:
        try:
            found.append(work(slice(start, start + size)))
            start += size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = -(-size // 2)
    return found


def _joined(parts: list[Fits]) -> Fits:
    return Fits(
        torch.cat([part.centroids for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.inertia for part in parts]),
        torch.cat([part.n_iter for part in parts]),
        tuple(status for part in parts for status in part.status),
        " and ".join(sorted({part.precision for part in parts})),
    )


def _measured(
    x: Tensor, weight: Tensor | None, metric: str, starts: Tensor, going: Going
) -> Passes:
    """Return passes over rows ``x``, measured."""
    unit_rows = uses_unit_rows(metric)
    rows = x
    if unit_rows:
        rows = unit(x.float().reshape(-1, x.shape[-1])).view(x.shape)
    passes = _with_room(rows, weight, starts, going, unit_rows)
    check_reach(x, passes.measure())
    passes.state.still.copy_(going.tol * passes.variance())
    return passes


def _with_room(
    rows: Tensor, weight: Tensor | None, starts: Tensor, going: Going, unit_rows: bool
) -> Passes:
    """Return passes; without a rounded copy of the rows where there is no memory for it."""

    def passes(precision: str) -> Passes:
        return kernels.passes(
            rows,
            starts,
            weight,
            precision=precision,
            max_iter=going.max_iter,
            momentum=going.momentum,
            unit_rows=unit_rows,
        )

    if going.precision != "auto":
        return passes(going.precision)
    try:
        return passes("auto")
    except torch.OutOfMemoryError:
        pass  # and let go of what the error holds
    return passes("tf32")


def check_reach(x: Tensor, extent: Tensor) -> None:
    """Raise where rows ``x``, which reach ``extent ()`` from their mean, are too large or no rows.

    Raises:
        ValueError: as ``check_norms``.
    """
    rows = x.reshape(-1, x.shape[-1])
    if not math.isfinite(float(extent)):
        check_finite(rows)
    check_norms(rows, extent.double().square().reshape(1).float() * x.shape[-1])


def _settle_and_prove(passes: Passes, going: Going, watch: Watch | None) -> bool:
    """Make passes until nothing moves, the last ones with proven labels; return as ``_settle``."""
    if going.momentum and not passes.form.is_float32:
        if _settle(passes, False, watch):
            passes.state.done.zero_()  # what it may have settled at was not proven
            return True
        passes.reopen()
    return _settle(passes, True, watch)


def _settle(passes: Passes, proven: bool, watch: Watch | None) -> bool:
    """Make passes until all problems are done; return whether who watches stopped them."""
    if watch is not None:
        return _settle_watched(passes, proven, watch)
    passes.advance(_AT_ONCE, proven=proven)
    answer = passes.ask()
    while True:
        passes.advance(_AT_ONCE, proven=proven)
        next_answer = passes.ask()
        if answer.is_done():
            return False
        answer = next_answer


def _settle_watched(passes: Passes, proven: bool, watch: Watch) -> bool:
    while not passes.ask().is_done():
        passes.advance(1, proven=proven)
        record = records(passes.state, passes.block.n, 0)[-1]
        if watch(record, passes.state.means[0].clone()):
            return True
    return False


def records(state: State, n: int, problem: int) -> tuple[PassRecord, ...]:
    """Return what the passes of a problem with ``n`` rows saw."""
    figures = state.history[problem, : int(state.n_passes[problem])].tolist()
    return tuple(
        PassRecord(i, max(inertia, 0.0), shift, int(changed), int(reseeded), n, n, int(rescored))
        for i, (inertia, shift, changed, reseeded, rescored) in enumerate(figures, start=1)
    )


def _finished(passes: Passes) -> Fits:
    """Return where the last means are, and whose rows are nearest to them."""
    state = passes.state
    reasons, n_iter = state.done.tolist(), state.n_passes.long()
    passes.rest()
    status = tuple(STATUS.get(reason, Status.CALLBACK) for reason in reasons)
    labels = passes.labels.long()
    return Fits(
        passes.centroids.clone(), labels, passes.inertia(), n_iter, status, passes.form.name
    )
