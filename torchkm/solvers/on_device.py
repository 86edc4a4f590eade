"""Passes that a GPU makes by itself: the host starts them, and hears of the end a little late.

Momentum, empty clusters, what a pass saw and whether there is another are decided on the device. A
first descent takes the labels of a low precision as they come; once it has settled, a second one
proves every label, so that it ends where float32 would.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import check_finite
from torchkm.functional.assignment import check_norms, sq_distances_to
from torchkm.functional.geometry import unit
from torchkm.functional.problem import Problem
from torchkm.functional.stats import ClusterStats
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import PassRecord, Status, Watch

# By what a problem on the device says that it is done.
_STATUS = {1: Status.LABELS_UNCHANGED, 2: Status.TOLERANCE, 3: Status.MAX_ITER}

# Passes between two looks at whether all is done.
_AT_ONCE = 4

# The inertia from sums, which are whole numbers, is good to this share of that about the origin.
_CANCELLED = 1e-6


def descend(
    problem: Problem,
    starts: Tensor,
    precision: str,
    max_iter: int,
    tol: float,
    momentum: float,
    watch: Watch | None,
) -> Fit:
    """Make passes from each of ``starts (r, k, d)`` until nothing moves; return the best fit.

    With ``momentum`` labels are proven once the centroids have settled, otherwise in every pass.
    Several starts share each read of the rows until the best of them is known.

    Raises:
        ValueError: rows that are not finite, or too large to square.
        RuntimeError: too little memory; the message says how much there should be.
    """
    if len(starts) > 1:
        starts = _best(problem, starts, precision, max_iter, tol, momentum)
    passes = _passes(problem, starts, precision, max_iter, tol, momentum)
    stopped = False
    if momentum and passes.form.proves:
        stopped = _settle(passes, False, watch)
        if not stopped and int(passes.state.done[0]) != 3:
            passes.reopen()
            stopped = _settle(passes, True, watch)
    else:
        stopped = _settle(passes, True, watch)
    status = Status.CALLBACK if stopped else _STATUS[int(passes.state.done[0])]
    return _finished(problem, passes, status)


def _best(
    problem: Problem, starts: Tensor, precision: str, max_iter: int, tol: float, momentum: float
) -> Tensor:
    """Return where the best of ``starts (r, k, d)`` leads, ``(1, k, d)``."""
    passes = _passes(problem, starts, precision, max_iter, tol, momentum)
    _settle(passes, False, None)
    passes.look()
    best = passes.inertia().argmin()
    return passes.state.centroids[best].unsqueeze(0)


def _passes(
    problem: Problem, starts: Tensor, precision: str, max_iter: int, tol: float, momentum: float
) -> kernels.Passes:
    """Return passes over the rows of a problem, measured."""
    x = problem.x
    assert isinstance(x, Tensor)
    rows = unit(x.float()) if problem.unit_rows else x
    passes = with_room(rows, starts, problem.sample_weight, precision, max_iter, momentum, problem)
    extent = passes.measure()
    check_reach(x, extent)
    passes.state.still.copy_(tol * passes.variance())
    return passes


def with_room(
    rows: Tensor,
    starts: Tensor,
    weight: Tensor | None,
    precision: str,
    max_iter: int,
    momentum: float,
    problem: Problem,
) -> kernels.Passes:
    """Return passes; without a rounded copy of the rows where there is no memory for it.

    Raises:
        RuntimeError: too little memory even so.
    """
    ways = [precision, "tf32"] if precision == "auto" else [precision]
    for way in ways:
        try:
            return kernels.passes(
                rows,
                starts,
                weight,
                precision=way,
                max_iter=max_iter,
                momentum=momentum,
                unit_rows=problem.unit_rows,
            )
        except torch.cuda.OutOfMemoryError:
            continue
    n, b = rows.shape[-2], len(starts)
    needed = b * n * 28 + starts.numel() * 40
    free = torch.cuda.mem_get_info(rows.device)[0]
    raise RuntimeError(
        f"too little memory on {rows.device}: {n:,} rows in {b} problems with k={starts.shape[1]} "
        f"need about {needed / 1e9:.1f} GB beside the rows, and {free / 1e9:.1f} GB are free"
    )


def check_reach(x: Tensor, extent: Tensor) -> None:
    """Raise where rows ``x``, which reach ``extent ()`` from their mean, are too large or no rows.

    Raises:
        ValueError: as ``check_norms``.
    """
    if not math.isfinite(float(extent)):
        check_finite(x.reshape(-1, x.shape[-1]))
    check_norms(x, extent.double().square().float().reshape(1) * x.shape[-1])


def _settle(passes: kernels.Passes, proven: bool, watch: Watch | None) -> bool:
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


def _settle_watched(passes: kernels.Passes, proven: bool, watch: Watch) -> bool:
    while True:
        passes.advance(1, proven=proven)
        record = records(passes, 0)[-1]
        stop = watch(record, passes.state.means[0].clone())
        if passes.ask().is_done():
            return False
        if stop:
            passes.state.done.fill_(3)
            return True


def records(passes: kernels.Passes, problem: int) -> tuple[PassRecord, ...]:
    """Return what the passes of a problem saw."""
    n, n_passes = passes.block.n, int(passes.state.n_passes[problem])
    figures = passes.state.history[problem, :n_passes].tolist()
    return tuple(
        PassRecord(
            number, max(inertia, 0.0), shift, int(changed), int(reseeded), n, n, int(rescored)
        )
        for number, (inertia, shift, changed, reseeded, rescored) in enumerate(figures, start=1)
    )


def _finished(problem: Problem, passes: kernels.Passes, status: Status) -> Fit:
    """Return the fit that ends at the last means."""
    history = records(passes, 0)
    passes.rest()
    centroids, labels = passes.state.centroids[0].clone(), passes.labels[0].long()
    inertia = float(passes.inertia()[0])
    if inertia < _CANCELLED * float(passes.state.sq_norms[0]):
        sq_distances = sq_distances_to(problem, centroids, labels)
        inertia = ClusterStats.weighed(sq_distances, problem.sample_weight).item()
    return Fit(centroids, labels, inertia, status, history, passes.form.name)
