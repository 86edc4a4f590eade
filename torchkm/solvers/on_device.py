"""Passes that a GPU makes by itself: the host starts them, and hears of the end a little late.

Momentum, empty clusters, what a pass saw and whether there is another are decided on the device. A
first descent takes the labels of a low precision as they come; once it has settled, a second one
proves every label, so that it ends where float32 would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

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
        RuntimeError: too little memory; the message says how much there should be.
    """
    x, weight = problem.x, problem.sample_weight
    if not isinstance(x, Tensor):
        raise TypeError("passes on a GPU are for dense rows")
    if len(starts) > 1:
        passes = _measured(x, weight, problem.metric, starts, going)
        _settle(passes, False, None)
        passes.rest()
        starts = passes.centroids[passes.inertia().argmin()].unsqueeze(0).clone()
        del passes
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
        RuntimeError: as ``descend``.
    """
    passes = _measured(x, weight, metric, starts, going)
    _settle_and_prove(passes, going, None)
    return _finished(passes)


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
    ways = [going.precision, "tf32"] if going.precision == "auto" else [going.precision]
    for way in ways:
        try:
            return kernels.passes(
                rows,
                starts,
                weight,
                precision=way,
                max_iter=going.max_iter,
                momentum=going.momentum,
                unit_rows=unit_rows,
            )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    n, b, k = rows.shape[-2], len(starts), starts.shape[1]
    needed, free = b * n * 40 + starts.numel() * 40, torch.cuda.mem_get_info(rows.device)[0]
    raise RuntimeError(
        f"too little memory on {rows.device}: {b} problems of {n:,} rows with k={k} need about "
        f"{needed / 1e9:.1f} GB beside their rows, and {free / 1e9:.1f} GB are free"
    )


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
