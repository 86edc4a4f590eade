"""Sums that follow the labels, in whole numbers.

Sums are kept as 64-bit integers: each feature in units so small that the sum of all rows just fits.
Whole numbers add up to the same total in any order, so that atomic additions are reproducible, and
what a row brought along is gone to the last bit when it leaves.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchkm.kernels.gpu.whole import rounded as _rounded
from torchkm.kernels.gpu.whole import whole as _whole


@triton.jit
def move(
    rows,
    origin,
    origin_stride,
    units,
    weights,
    labels,
    moved,
    moved_from,
    counters,
    sums,
    counts,
    members,
    done,
    n,
    k,
    d,
    row_stride,
    problem_stride,
    weight_stride,
    weight_unit,
    WEIGHTED: tl.constexpr,
    BD: tl.constexpr,
):
    """Take the rows on the list out of the clusters they were in, and add them to their new ones.

    ``weight_stride`` is 0 where all problems share their weights.
    """
    problem = tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    weights += problem.to(tl.int64) * weight_stride
    first = problem.to(tl.int64) * n
    sums += problem.to(tl.int64) * k * d
    counts += problem * k
    members += problem * k
    n_moved = tl.load(counters + problem * 8)
    one = tl.load(weight_unit)
    for place in range(tl.program_id(0), n_moved, tl.num_programs(0)):
        row = tl.load(moved + first + place)
        old = tl.load(moved_from + first + place)
        new = tl.load(labels + first + row)
        weight = one
        if WEIGHTED:
            weight = tl.load(weights + row).to(tl.float64) * one
        whole = _whole(weight)
        present = (whole > 0).to(tl.int32)
        tl.atomic_add(counts + new, whole, sem="relaxed")
        tl.atomic_add(members + new, present, sem="relaxed")
        tl.atomic_add(counts + old, -whole, mask=old >= 0, sem="relaxed")
        tl.atomic_add(members + old, -present, mask=old >= 0, sem="relaxed")
        for start in range(0, d, BD):
            column = start + tl.arange(0, BD)
            inside = column < d
            at = rows + row.to(tl.int64) * row_stride + column
            x = tl.load(at, mask=inside, other=0).to(tl.float64)
            x -= tl.load(origin + column, mask=inside, other=0.0).to(tl.float64)
            if WEIGHTED:
                x *= tl.load(weights + row).to(tl.float64)
            share = _whole(x * tl.load(units + column, mask=inside, other=0.0))
            tl.atomic_add(sums + new.to(tl.int64) * d + column, share, mask=inside, sem="relaxed")
            leaves = inside & (old >= 0)
            tl.atomic_add(sums + old.to(tl.int64) * d + column, -share, mask=leaves, sem="relaxed")


@triton.jit
def rank(
    labels,
    weights,
    ranks,
    numbered,
    counts,
    members,
    done,
    n,
    k,
    weight_stride,
    weight_unit,
    WEIGHTED: tl.constexpr,
    BM: tl.constexpr,
):
    """Number the rows of each cluster, in any order, and count them."""
    problem = tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < n
    label = tl.load(labels + problem.to(tl.int64) * n + at, mask=inside, other=0)
    number = tl.atomic_add(numbered + problem * k + label, 1, mask=inside, sem="relaxed")
    tl.store(ranks + problem.to(tl.int64) * n + at, number, mask=inside)
    if WEIGHTED:
        weights += problem.to(tl.int64) * weight_stride
        weight = tl.load(weights + at, mask=inside, other=0.0).to(tl.float64)
        whole = _whole(weight * tl.load(weight_unit))
        tl.atomic_add(counts + problem * k + label, whole, mask=inside, sem="relaxed")
        present = (whole > 0).to(tl.int32)
        tl.atomic_add(members + problem * k + label, present, mask=inside, sem="relaxed")


@triton.jit
def sort(labels, ranks, ends, numbered, order, sorted_labels, done, n, k, BM: tl.constexpr):
    """Write each row to its place among all, by label; a counting sort."""
    problem = tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    first = problem.to(tl.int64) * n
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < n
    label = tl.load(labels + first + at, mask=inside, other=0)
    start = tl.load(ends + problem * k + label, mask=inside, other=0)
    start -= tl.load(numbered + problem * k + label, mask=inside, other=0)
    place = first + start + tl.load(ranks + first + at, mask=inside, other=0)
    tl.store(order + place, at, mask=inside)
    tl.store(sorted_labels + place, label, mask=inside)


@triton.jit
def add_sorted(
    rows,
    origin,
    origin_stride,
    units,
    weights,
    order,
    sorted_labels,
    sums,
    done,
    n,
    k,
    d,
    row_stride,
    problem_stride,
    weight_stride,
    WEIGHTED: tl.constexpr,
    BR: tl.constexpr,
    BD: tl.constexpr,
    N_TILES: tl.constexpr,
):
    """Add up all rows, sorted by label: a program sums a run of them and writes once per cluster.

    Within a run sums are float64, of numbers that are whole already.
    """
    problem = tl.program_id(2)
    if tl.load(done + problem) != 0:
        return
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    weights += problem.to(tl.int64) * weight_stride
    order += problem.to(tl.int64) * n
    sorted_labels += problem.to(tl.int64) * n
    sums += problem.to(tl.int64) * k * d
    column = tl.program_id(1) * BD + tl.arange(0, BD)
    within = column < d
    shift = tl.load(origin + column, mask=within, other=0.0).to(tl.float64)
    unit = tl.load(units + column, mask=within, other=0.0)
    total = tl.zeros((BD,), tl.float64)
    begin = tl.program_id(0) * BR * N_TILES
    held = tl.load(sorted_labels + tl.minimum(begin, n - 1))
    for tile in range(0, N_TILES):
        start = begin + tile * BR
        at = start + tl.arange(0, BR)
        inside = at < n
        row = tl.load(order + at, mask=inside, other=0).to(tl.int64)
        mask = inside[:, None] & within[None, :]
        x = tl.load(rows + row[:, None] * row_stride + column[None, :], mask=mask, other=0)
        x = tl.where(mask, x.to(tl.float64) - shift[None, :], 0.0)
        if WEIGHTED:
            x *= tl.load(weights + row, mask=inside, other=0.0).to(tl.float64)[:, None]
        x = _rounded(x * unit[None, :])
        now = tl.load(sorted_labels + tl.minimum(start, n - 1))
        last = tl.load(sorted_labels + tl.minimum(start + BR, n) - 1)
        if (start < n) & (now == last) & (now == held):
            total += tl.sum(x, 0)
        else:
            label = tl.load(sorted_labels + at, mask=inside, other=2147483647)
            now = tl.where(start < n, now, 2147483647)
            while now < 2147483647:
                if now != held:
                    place = sums + held.to(tl.int64) * d + column
                    tl.atomic_add(place, _whole(total), mask=within, sem="relaxed")
                    total = tl.zeros((BD,), tl.float64)
                    held = now
                total += tl.sum(tl.where((label == now)[:, None], x, 0.0), 0)
                now = tl.min(tl.where(label > now, label, 2147483647), 0)
    place = sums + held.to(tl.int64) * d + column
    tl.atomic_add(place, _whole(total), mask=within, sem="relaxed")


@triton.jit
def tally(counters, n_problems, BP: tl.constexpr):
    """Add what a block moved and doubted to what its pass did, and empty its lists."""
    problem = tl.program_id(0) * BP + tl.arange(0, BP)
    inside = problem < n_problems
    for column in range(0, 2):
        at = counters + problem * 8 + column
        total = tl.load(at, mask=inside, other=0) + tl.load(at + 2, mask=inside, other=0)
        tl.store(at + 2, total, mask=inside)
        tl.store(at, 0, mask=inside)
