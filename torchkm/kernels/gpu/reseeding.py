"""Empty clusters, repaired where they arise: each is given the row that its own serves worst."""

from __future__ import annotations

import triton
import triton.language as tl

from torchkm.kernels.gpu.whole import whole as _whole


@triton.jit
def reseed(
    rows,
    origin,
    origin_stride,
    units,
    weights,
    spreads,
    scores,
    labels,
    sums,
    counts,
    members,
    centroids,
    counters,
    done,
    n,
    k,
    d,
    row_stride,
    problem_stride,
    spread_stride,
    weight_stride,
    weight_unit,
    digits,
    WEIGHTED: tl.constexpr,
    BK: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """Give each empty cluster the farthest row that its own can spare; mostly there is none."""
    problem = tl.program_id(0)
    if tl.load(done + problem) != 0:
        return
    members += problem * k
    empty, n_empty = _first_empty(members, k, BK)
    if n_empty == 0:
        return
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    weights += problem.to(tl.int64) * weight_stride
    first = problem.to(tl.int64) * n
    sums += problem.to(tl.int64) * k * d
    centroids += problem.to(tl.int64) * k * d
    counts += problem * k
    one = tl.load(weight_unit)
    last = tl.full((), float("inf"), tl.float32)
    last_row = tl.full((), -1, tl.int32)
    n_given = tl.zeros((), tl.int32)
    n_tries = 2 * n_empty
    while (n_empty > 0) & (n_tries > 0):
        best = tl.full((), float("-inf"), tl.float32)
        best_row = tl.zeros((), tl.int32) + n
        for start in range(0, n, BN):
            at = start + tl.arange(0, BN)
            inside = at < n
            spread = tl.load(
                spreads + problem.to(tl.int64) * spread_stride + at, mask=inside, other=0.0
            )
            far = spread * spread - 2 * tl.load(scores + first + at, mask=inside, other=0.0)
            if WEIGHTED:
                inside = inside & (tl.load(weights + at, mask=inside, other=0.0) > 0)
            inside = inside & ((far < last) | ((far == last) & (at > last_row)))
            far = tl.where(inside, far, float("-inf"))
            top = tl.max(far, 0)
            row = tl.min(tl.where(inside & (far == top), at, n), 0)
            best_row = tl.where(top > best, row, best_row)
            best = tl.maximum(best, top)
        last, last_row = best, best_row
        n_tries -= 1
        if best_row < n:
            donor = tl.load(labels + first + best_row)
            weight = one
            if WEIGHTED:
                weight = tl.load(weights + best_row).to(tl.float64) * one
            whole = _whole(weight)
            apart = _is_apart(rows, origin, centroids, best_row, donor, row_stride, d, digits, BD)
            if (apart > 0) & (tl.load(counts + donor) > whole):
                tl.debug_barrier()
                for start in range(0, d, BD):
                    column = start + tl.arange(0, BD)
                    inside = column < d
                    at = rows + best_row.to(tl.int64) * row_stride + column
                    x = tl.load(at, mask=inside, other=0).to(tl.float64)
                    x -= tl.load(origin + column, mask=inside, other=0.0).to(tl.float64)
                    if WEIGHTED:
                        x *= tl.load(weights + best_row).to(tl.float64)
                    share = _whole(x * tl.load(units + column, mask=inside, other=0.0))
                    tl.atomic_add(sums + donor.to(tl.int64) * d + column, -share, mask=inside)
                    tl.atomic_add(sums + empty.to(tl.int64) * d + column, share, mask=inside)
                tl.atomic_add(counts + donor, -whole)
                tl.atomic_add(counts + empty, whole)
                tl.atomic_add(members + donor, -1)
                tl.atomic_add(members + empty, 1)
                tl.store(labels + first + best_row, empty)
                n_given += 1
                tl.debug_barrier()
                empty, n_empty = _first_empty(members, k, BK)
        else:
            n_tries = 0
    tl.store(counters + problem * 8 + 4, n_given)


@triton.jit
def _first_empty(members, k, BK: tl.constexpr):
    """Return the first cluster without rows, and how many there are."""
    first = tl.zeros((), tl.int32) + k
    number = tl.zeros((), tl.int32)
    for start in range(0, k, BK):
        cluster = start + tl.arange(0, BK)
        hollow = (tl.load(members + cluster, mask=cluster < k, other=1) <= 0) & (cluster < k)
        first = tl.minimum(first, tl.min(tl.where(hollow, cluster, k), 0))
        number += tl.sum(hollow.to(tl.int32), 0)
    return first, number


@triton.jit
def _is_apart(rows, origin, centroids, row, label, row_stride, d, digits, BD: tl.constexpr):
    """Return in how many numbers a row differs from its centroid by more than rounding."""
    number = tl.zeros((), tl.int32)
    for start in range(0, d, BD):
        column = start + tl.arange(0, BD)
        inside = column < d
        at = rows + row.to(tl.int64) * row_stride + column
        x = tl.load(at, mask=inside, other=0).to(tl.float64)
        c = tl.load(centroids + label.to(tl.int64) * d + column, mask=inside, other=0.0)
        c = c.to(tl.float64)
        zero = tl.load(origin + column, mask=inside, other=0.0).to(tl.float64)
        limit = (tl.abs(c) + 2 * tl.abs(c - zero)) * digits
        number += tl.sum((inside & (tl.abs(x - c) > limit)).to(tl.int32), 0)
    return number
