"""Rows that stay on the host while a GPU clusters them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.problem import Problem
from torchkm.functional.seeding import Init, seeds
from torchkm.solvers import on_device
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import PassRecord, Status, Watch
from torchkm.solvers.rules import UpdateRule

# Bytes of a block: enough to keep the link busy, little beside the memory of a GPU.
_BLOCK_BYTES = 2**28

# The share of the free memory that rows may take, with what passes lay out beside them.
_SHARE = 0.8


def fits(x: kernels.Rows, device: torch.device) -> bool:
    """Return whether rows ``x (n, d)`` and what passes lay out beside them fit on ``device``."""
    if device.type != "cuda" or not isinstance(x, Tensor):
        return True
    needed = x.nbytes + beside(x)
    return needed < _SHARE * _free(device)


def _free(device: torch.device) -> int:
    """Return how many bytes are to be had: those that nobody has, and those that torch keeps."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def beside(x: kernels.Rows) -> int:
    """Return how many bytes passes lay out beside rows ``x (n, d)``, but for their centroids."""
    n, d = x.shape
    return n * (2 * d + 40)


def hindrance(
    problem: Problem, device: torch.device, solver: str | UpdateRule, refine: int
) -> str | None:
    """Return what rows that stay on the host lack to be clustered on ``device``, and what came."""
    x = problem.x
    if device == x.device:
        return f"to lie on the host, got them on {device}"
    if not isinstance(x, Tensor) or problem.unit_rows or x.dtype == torch.float64:
        rows = f"{str(x.dtype).removeprefix('torch.')} rows with metric={problem.metric!r}"
        return f'to be dense, of float32 or less, with metric="euclidean", got {rows}'
    if not kernels.has_gpu_kernels(x[:1].to(device)):
        return f"Triton and a GPU of compute capability 8.0 or above, got {device} without them"
    if solver != "auto":
        return f'solver="auto", got solver={solver!r}'
    return f"refine=0, got refine={refine}" if refine else None


def descend(
    problem: Problem,
    k: int,
    init: Init,
    n_init: int,
    device: torch.device,
    going: on_device.Going,
    watch: Watch | None,
    generator: torch.Generator,
    block_bytes: int = _BLOCK_BYTES,
) -> Fit:
    """Cluster rows on the host, block by block on ``device``.

    A random block of them is clustered first, on the device alone, from ``n_init`` starts; passes
    over all rows, Lloyd's, then go on from the best until nothing moves. Those score in TF32, and
    prove every label, whatever precision the block is scored in.

    For a problem without ``hindrance``.

    Raises:
        ValueError: rows that are not finite, or too large to square.
    """
    x = problem.x
    assert isinstance(x, Tensor)
    n, size = len(x), max(1, block_bytes // (x.shape[1] * x.element_size()))
    part = _part(problem, min(n, max(size, 16 * k)), device, generator)
    starts = torch.stack([seeds(part, k, init, generator) for _ in range(n_init)])
    first = on_device.descend(part, starts, going, None)
    weight = None if problem.sample_weight is None else problem.sample_weight.to(device)
    streamed = kernels.streamed(x, first.centroids, weight, part.origin, size, going.max_iter)
    on_device.check_reach(x, streamed.measure())
    state = streamed.state
    weighed = float(n if weight is None else weight.sum())
    state.still.copy_(going.tol * state.sq_norms / (weighed * x.shape[1]))
    history: list[PassRecord] = []
    stopped = False
    while not stopped and not int(state.done[0]):
        streamed.advance()
        history = list(on_device.records(state, n, 0))
        stopped = watch is not None and bool(watch(history[-1], state.means[0].clone()))
    status = on_device.STATUS[int(state.done[0])] if int(state.done[0]) else Status.CALLBACK
    inertia = float(streamed.look())
    labels = streamed.labels[0].long()
    return Fit(state.centroids[0].clone(), labels, inertia, status, tuple(history), "tf32")


def _part(
    problem: Problem, n_rows: int, device: torch.device, generator: torch.Generator
) -> Problem:
    """Return ``n_rows`` random rows of a problem on ``device``, measured from their mean."""
    index = torch.randperm(len(problem.x), generator=generator, device=generator.device)[:n_rows]
    some = problem.take(index.sort().values)
    assert isinstance(some.x, Tensor)
    rows = some.x.to(device)
    weight = None if some.sample_weight is None else some.sample_weight.to(device)
    origin = rows.mean(0, dtype=torch.float32)
    return replace(some, x=rows, sample_weight=weight, given_origin=origin)
