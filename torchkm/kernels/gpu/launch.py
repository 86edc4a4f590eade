"""Kernels and the grids that they are started on: one function for each step of a pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
import triton
from torch import Tensor

from torchkm.kernels.gpu import centroids, moving, reseeding, rows, scoring, tuning
from torchkm.kernels.gpu.state import Block, State

# Scaled rows and centroids stay below this in float16, with room for steps that overshoot.
_LARGEST_HALF = 13

# Bits that the sum of all rows may take of a 64-bit integer, and each row of it: a run of 128 is
# added in float64 and may take 51, and a program that scores rows adds four digits of 11.
_BITS, _MOST_BITS = 61, 43

# Shared memory that a program needs to score rows and add them up.
_SHARED_TO_ADD = 2**17

_ROUNDING = torch.finfo(torch.float32).eps

P = ParamSpec("P")
T = TypeVar("T")


def on_its_device(work: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Do ``work`` on the device of its first argument: kernels start on the current one."""

    @wraps(work)
    def there(first: Any, /, *args: P.args, **settings: P.kwargs) -> T:
        with torch.cuda.device(first.device) if first.device.type == "cuda" else nullcontext():
            return work(first, *args, **settings)

    return there


def extents(state: State, x: Tensor, largest: Tensor) -> None:
    """Raise ``largest (d,)`` to the distances of numbers of ``x (m, n, d)`` from their origins."""
    m, n, d = x.shape
    block = min(256, tuning.features(d))
    grid = min(triton.cdiv(n, 16), tuning.n_programs(x.device)), triton.cdiv(d, block), m
    rows.extents[grid](
        x, state.origin, state.origin_stride, largest, n, d, x.stride(1), x.stride(0), BM=16,
        BD=block,
    )  # fmt: skip


def measure(state: State, block: Block) -> Tensor:
    """Fix scale and units for the rows of a block; return how far ``()`` they reach.

    Waits for the device where rows are to be scaled.
    """
    largest = torch.zeros(state.d, device=block.x.device)
    extents(state, block.x, largest)
    fix_units(state, block.n, largest, block.weight)
    form, extent = state.format, largest.max()
    if form.kept and form.dtype == torch.float16:
        reach = min(max(float(extent), 1e-30), 1e30)
        state.scale = 2.0 ** (_LARGEST_HALF - math.frexp(reach)[1])
    return extent


def fix_units(state: State, n: int, largest: Tensor, weight: Tensor | None) -> None:
    """Fix the units in which ``n`` rows are added up whose numbers reach ``largest (d,)``."""
    bits = min(_MOST_BITS, _BITS - math.ceil(math.log2(max(n, 2))))
    reach = largest.double()
    if weight is None:
        state.weight_unit.fill_(1.0)
    else:
        heaviest = weight.max().double()
        reach = reach * heaviest
        state.weight_unit.copy_(_unit(heaviest, bits))
    state.units.copy_(torch.where(reach > 0, _unit(reach, bits), 1.0))
    torch.reciprocal(state.units, out=state.inverse_units)


def _unit(reach: Tensor, bits: int) -> Tensor:
    """Return how many units there are to one, where ``reach`` is to take so many bits of them."""
    return torch.exp2((bits - torch.frexp(reach)[1]).double())


def prepare(state: State, block: Block) -> None:
    """Measure the rows of a block, keep them rounded where that is asked for, add up squares."""
    x, n, form = block.x, block.n, state.format
    grid = triton.cdiv(n, 16), len(x)
    squares = torch.zeros(len(x), grid[0], dtype=torch.float64, device=x.device)
    rows.prepare[grid](
        x, state.origin, state.origin_stride, block.weights, block.low, block.norms,
        block.residuals, block.spreads, squares, n, block.d, x.stride(1), x.stride(0),
        block.weight_stride, state.scale, state.lost_share, WIDTH=state.width, KEEP=form.kept,
        SHIFT=form.shifted, WEIGHTED=block.weight is not None, BM=16, BK=min(128, state.width),
    )  # fmt: skip
    state.sq_norms += squares.sum(1)


def assign(
    state: State, block: Block, *, prove: bool, measure: bool = False, add: bool = False
) -> None:
    """Label the rows of a block; where ``prove``, as float32 would. ``add`` sums the rows too."""
    tile, form, low = state.tile, state.format, block.low
    scoring.assign[(triton.cdiv(block.n, tile.rows), state.b)](
        low, state.origin, state.origin_stride, block.norms, block.residuals, state.operand,
        state.halves, state.limits, block.labels, block.scores, block.moved, block.moved_from,
        block.doubtful, state.counters, state.done, block.n, state.width if form.kept else block.d,
        state.k_padded // tile.centroids, low.stride(1), block.stride(low), block.norm_stride,
        state.lost_share, state.sum_share, state.units, block.weights, state.sums, state.counts,
        state.members, state.k, block.weight_stride, state.weight_unit, WIDTH=state.width,
        BM=tile.rows, BN=tile.centroids, BK=tile.columns,
        RESIDENT=tuning.is_resident(state.width, form), SHIFT=form.shifted and not form.kept,
        MEASURE=measure, PROVE=prove, PRECISION=form.dot, ADD=add,
        BA=tuning.features_to_add(tile), WEIGHTED=block.weight is not None, num_warps=tile.warps,
        num_stages=tile.stages,
    )  # fmt: skip
    if prove:
        _assign_again(state, block)


def _assign_again(state: State, block: Block) -> None:
    tile, x, n = state.again, block.x, block.n
    n_tiles, n_programs = state.k_padded // tile.centroids, tuning.n_programs(x.device)
    n_blocks = min(triton.cdiv(n, tile.rows), triton.cdiv(n_programs, n_tiles))
    scoring.score_again[(n_blocks, n_tiles, state.b)](
        x, state.origin, state.origin_stride, state.centred, state.exact_halves, block.doubtful,
        block.winners, state.counters, state.done, n, block.d, n_tiles, x.stride(1),
        block.stride(x), WIDTH=state.width, BM=tile.rows, BN=tile.centroids, BK=tile.columns,
        SHIFT=True, PRECISION="tf32x3", num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    scoring.label_again[(min(triton.cdiv(n, 128), n_programs // 8 + 1), state.b)](
        block.doubtful, block.winners, block.labels, block.moved, block.moved_from,
        state.counters, state.done, n, BM=128,
    )  # fmt: skip


def can_add_while_scoring(state: State) -> bool:
    """Return whether rows can be added up in the program that scores them."""
    few = state.k_padded == state.tile.centroids <= 64
    return few and not state.format.kept and state.shared_memory >= _SHARED_TO_ADD


def move(state: State, block: Block) -> None:
    """Let the sums follow the rows whose label changed."""
    x, width = block.x, tuning.features(block.d)
    moving.move[(min(block.n, tuning.n_programs(x.device)), state.b)](
        x, state.origin, state.origin_stride, state.units, block.weights, block.labels, block.moved,
        block.moved_from, state.counters, state.sums, state.counts, state.members, state.done,
        block.n, state.k, block.d, x.stride(1), block.stride(x), block.weight_stride,
        state.weight_unit, WEIGHTED=block.weight is not None, BD=width,
        num_warps=4 if width > 128 else 1,
    )  # fmt: skip


def tally(state: State) -> None:
    """Empty the lists of a block, and keep how long they were."""
    moving.tally[(triton.cdiv(state.b, 32),)](state.counters, state.b, BP=32)


def add_all(state: State, block: Block) -> None:
    """Add up all rows of a block, in the order of their labels."""
    x, n, k, weighted = block.x, block.n, state.k, block.weight is not None
    state.forget_rows()
    state.numbered.zero_()
    ranks, order, grid = block.doubtful, block.moved_from, (triton.cdiv(n, 256), state.b)
    moving.rank[grid](
        block.labels, block.weights, ranks, state.numbered, state.counts, state.members,
        state.done, n, k, block.weight_stride, state.weight_unit, WEIGHTED=weighted, BM=256,
    )  # fmt: skip
    if not weighted:
        state.members.copy_(state.numbered)
        state.counts.copy_(state.numbered)
    ends = state.numbered.cumsum(1, dtype=torch.int32)
    moving.sort[grid](
        block.labels, ranks, ends, state.numbered, order, block.moved, state.done, n, k, BM=256
    )
    width = min(128, tuning.features(block.d))
    grid3 = triton.cdiv(n, 32 * 4), triton.cdiv(block.d, width), state.b
    moving.add_sorted[grid3](
        x, state.origin, state.origin_stride, state.units, block.weights, order, block.moved,
        state.sums, state.done, n, k, block.d, x.stride(1), block.stride(x), block.weight_stride,
        WEIGHTED=weighted, BR=32, BD=width, N_TILES=4, num_warps=4,
    )  # fmt: skip


def reseed(state: State, block: Block) -> None:
    """Give rows to empty clusters."""
    x = block.x
    reseeding.reseed[(state.b,)](
        x, state.origin, state.origin_stride, state.units, block.weights, block.spreads,
        block.scores, block.labels, state.sums, state.counts, state.members, state.centroids,
        state.counters, state.done, block.n, state.k, block.d, x.stride(1), block.stride(x),
        block.norm_stride, block.weight_stride, state.weight_unit, _ROUNDING,
        WEIGHTED=block.weight is not None, BK=1024, BN=1024, BD=tuning.features(block.d),
    )  # fmt: skip


def means(state: State, unit_rows: bool) -> None:
    """Write the means, and what each cluster contributes to inertia and shift."""
    centroids.means[(state.k, state.b)](
        state.sums, state.counts, state.members, state.inverse_units, state.weight_unit,
        state.origin, state.origin_stride, state.centroids, state.means, state.partial, state.done,
        state.k, state.d, _ROUNDING, UNIT=unit_rows, BD=tuning.features(state.d),
    )  # fmt: skip


def decide(state: State, momentum: float) -> None:
    """Record the pass and say whether there is another."""
    centroids.decide[(state.b,)](
        state.partial, state.sq_norms, state.counters, state.limits, state.history,
        state.n_passes, state.momentum, state.done, state.k, state.capacity, state.capacity,
        state.still, momentum, PROGRESSIVE=momentum > 0, BK=1024,
    )  # fmt: skip


def sq_distances(state: State, block: Block, out: Tensor) -> None:
    """Write the squared distance of each row to the centroid of its label, ``out (b, n)``."""
    x = block.x
    rows.sq_distances[(triton.cdiv(block.n, 16), state.b)](
        x, state.centroids, block.labels, out, block.n, state.k, block.d, x.stride(1),
        block.stride(x), BM=16, BK=min(128, tuning.features(block.d)),
    )  # fmt: skip


def step(state: State, unit_rows: bool, *, from_means: bool) -> None:
    """Bring the centroids to where the next pass looks, and write them as products want them."""
    form = state.format
    centroids.step[(state.k, state.b)](
        state.means, state.before, state.centroids, state.origin, state.origin_stride,
        state.momentum, state.operand, state.halves, state.centred, state.exact_halves,
        state.limits, state.done, state.k, state.k_padded, state.d, state.scale, form.lost,
        WIDTH=state.width, SHIFTED=form.shifted, MEASURED=form.dtype != torch.float32,
        UNIT=unit_rows, FROM_MEANS=from_means, BD=min(1024, tuning.power_of_two(state.width)),
    )  # fmt: skip
