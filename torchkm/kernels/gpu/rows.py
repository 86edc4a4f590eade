"""Rows made ready: measured once, and rounded once where the product wants another format."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def extents(
    rows,
    origin,
    origin_stride,
    found,
    n,
    d,
    row_stride,
    problem_stride,
    BM: tl.constexpr,
    BD: tl.constexpr,
):
    """Find the largest distance ``(d,)`` of a number from the origin, over some of the rows."""
    rows += tl.program_id(2).to(tl.int64) * problem_stride
    origin += tl.program_id(2) * origin_stride
    column = tl.program_id(1) * BD + tl.arange(0, BD)
    within = column < d
    zero = tl.load(origin + column, mask=within, other=0.0)
    largest = tl.zeros((BD,), tl.float32)
    for block in range(tl.program_id(0) * BM, n, tl.num_programs(0) * BM):
        at = block + tl.arange(0, BM)
        mask = (at < n)[:, None] & within[None, :]
        where = rows + at.to(tl.int64)[:, None] * row_stride + column[None, :]
        x = tl.load(where, mask=mask, other=0).to(tl.float32)
        apart = tl.where(mask, tl.abs(x - zero[None, :]), 0.0)
        apart = tl.where(apart <= 3.4e38, apart, float("inf"))  # a maximum may pass over NaN
        largest = tl.maximum(largest, tl.max(apart, 0))
    tl.atomic_max(found + column, largest, mask=within)


@triton.jit
def prepare(
    rows,
    origin,
    origin_stride,
    weights,
    low,
    norms,
    residuals,
    spreads,
    squares,
    n,
    d,
    row_stride,
    problem_stride,
    weight_stride,
    scale,
    lost_share,
    WIDTH: tl.constexpr,
    KEEP: tl.constexpr,
    SHIFT: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
):
    """Measure rows; where they are to be kept, write them less the origin, scaled and rounded.

    ``norms`` are those of the rows as they enter the product, ``residuals`` of what rounding took
    away or the product will, both rounded up; ``spreads`` those of the rows less the origin;
    ``squares`` the weighted sum of squared distances from the origin, one of each program.
    """
    problem = tl.program_id(1)
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < n
    at = at.to(tl.int64)
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    square = tl.zeros((BM,), tl.float64)
    entering = tl.zeros((BM,), tl.float32)
    lost = tl.zeros((BM,), tl.float32)
    for start in range(0, WIDTH, BK):
        column = start + tl.arange(0, BK)
        mask = inside[:, None] & (column < d)[None, :]
        x = tl.load(rows + at[:, None] * row_stride + column[None, :], mask=mask, other=0)
        zero = tl.load(origin + column, mask=column < d, other=0.0)
        exact = tl.where(mask, x.to(tl.float64) - zero.to(tl.float64)[None, :], 0.0)
        square += tl.sum(exact * exact, 1)
        shifted = x.to(tl.float32)
        if SHIFT:
            shifted = tl.where(mask, shifted - zero[None, :], 0.0) * scale
        entering += tl.sum(shifted * shifted, 1)
        if KEEP:
            rounded = shifted.to(low.dtype.element_ty)
            kept = inside[:, None] & (column < WIDTH)[None, :]
            place = problem.to(tl.int64) * n + at
            tl.store(low + place[:, None] * WIDTH + column[None, :], rounded, mask=kept)
            rest = shifted - rounded.to(tl.float32)
            lost += tl.sum(rest * rest, 1)
    norm = tl.sqrt(entering) * 1.0001
    residual = tl.sqrt(lost) * 1.0001 + norm * lost_share
    tl.store(norms + problem.to(tl.int64) * n + at, norm, mask=inside)
    tl.store(residuals + problem.to(tl.int64) * n + at, residual, mask=inside)
    spread = tl.sqrt(square).to(tl.float32) * scale
    tl.store(spreads + problem.to(tl.int64) * n + at, spread, mask=inside)
    if WEIGHTED:
        weights += problem.to(tl.int64) * weight_stride
        square *= tl.load(weights + at, mask=inside, other=0.0).to(tl.float64)
    tl.store(squares + problem * tl.num_programs(0) + tl.program_id(0), tl.sum(square, 0))


@triton.jit
def sq_distances(
    rows,
    centroids,
    labels,
    found,
    n,
    k,
    d,
    row_stride,
    problem_stride,
    BM: tl.constexpr,
    BK: tl.constexpr,
):
    """Measure rows from the centroids of their labels, as sums of squared differences."""
    problem = tl.program_id(1)
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < n
    at = at.to(tl.int64)
    rows += problem.to(tl.int64) * problem_stride
    label = tl.load(labels + problem.to(tl.int64) * n + at, mask=inside, other=0).to(tl.int64)
    centroid = problem.to(tl.int64) * k + label
    total = tl.zeros((BM,), tl.float32)
    for start in range(0, d, BK):
        column = start + tl.arange(0, BK)
        mask = inside[:, None] & (column < d)[None, :]
        x = tl.load(rows + at[:, None] * row_stride + column[None, :], mask=mask, other=0)
        c = tl.load(centroids + centroid[:, None] * d + column[None, :], mask=mask, other=0.0)
        apart = tl.where(mask, x.to(tl.float32) - c, 0.0)
        total += tl.sum(apart * apart, 1)
    tl.store(found + problem.to(tl.int64) * n + at, total, mask=inside)
