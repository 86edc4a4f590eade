"""The nearest centroid of each row, by one product that never leaves the registers.

A program keeps some rows and lets all centroids pass by; of the scores ``x'c - |c|^2 / 2`` it keeps
the best. Which centroid a score belongs to is written into the lowest bits of the score itself, so
that one maximum finds both. Where labels are to be proven it keeps the second best as well: rows
whose lead may be rounding are put on a list, and scored again in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchkm.kernels.gpu.whole import sums_of_members as _sums_of_members
from torchkm.kernels.gpu.whole import whole as _whole


@triton.jit
def _tile_of_rows(rows, origin, at, stride, column, d, SHIFT: tl.constexpr, TO: tl.constexpr):
    """Return rows ``(BM, BK)`` as they enter the product."""
    inside = (column < d)[None, :]
    x = tl.load(rows + at[:, None] * stride + column[None, :], mask=inside, other=0)
    if SHIFT:
        shift = tl.load(origin + column, mask=column < d, other=0.0)
        x = tl.where(inside, x.to(tl.float32) - shift[None, :], 0.0)
    return x.to(TO)


@triton.jit
def _append(list_rows, list_labels, counter, chosen, rows, labels):
    """Put the ``chosen`` of some rows on a list, with their labels."""
    ones = chosen.to(tl.int32)
    place = tl.cumsum(ones, 0) - ones
    first = tl.atomic_add(counter, tl.sum(ones, 0))
    tl.store(list_rows + first + place, rows, mask=chosen)
    tl.store(list_labels + first + place, labels, mask=chosen)


@triton.jit
def assign(
    rows,
    origin,
    origin_stride,
    norms,
    residuals,
    operand,
    halves,
    limits,
    labels,
    scores,
    moved,
    moved_from,
    doubtful,
    counters,
    done,
    n,
    d,
    n_tiles,
    row_stride,
    problem_stride,
    norm_stride,
    lost_share,
    sum_share,
    units,
    weights,
    sums,
    counts,
    members,
    k,
    weight_stride,
    weight_unit,
    WIDTH: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    RESIDENT: tl.constexpr,
    SHIFT: tl.constexpr,
    MEASURE: tl.constexpr,
    PROVE: tl.constexpr,
    PRECISION: tl.constexpr,
    ADD: tl.constexpr,
    BA: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """Label ``n`` rows and list those that move.

    ``ADD`` adds the rows up as well, while they are in cache: those whose label is settled, for as
    many centroids as one tile has.

    ``MEASURE`` takes norms as the rows go by; the residual of a row is then ``lost_share`` of
    its norm. The first two ``counters`` are those of moved and of doubtful rows.
    """
    problem = tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    TO: tl.constexpr = operand.dtype.element_ty
    width_of_problem = n_tiles * BN
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < n
    at = tl.where(inside, at, n - 1).to(tl.int64)
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    operand += problem.to(tl.int64) * width_of_problem * WIDTH
    halves += problem * width_of_problem
    limits += problem * 4
    here = problem.to(tl.int64) * n + at

    best = tl.full((BM,), float("-inf"), tl.float32)
    second = tl.full((BM,), float("-inf"), tl.float32)
    label = tl.zeros((BM,), tl.int32)
    squares = tl.zeros((BM,), tl.float32)
    in_tile = tl.arange(0, BN)
    if RESIDENT:
        column = tl.arange(0, WIDTH)
        x = _tile_of_rows(rows, origin, at, row_stride, column, d, SHIFT, TO)
        if MEASURE:
            squares += tl.sum(x.to(tl.float32) * x.to(tl.float32), 1)
    for tile in range(0, n_tiles):
        centroid = tile * BN + in_tile
        if RESIDENT:
            c = tl.load(operand + centroid[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :])
            products = tl.dot(x, tl.trans(c), input_precision=PRECISION)
        else:
            products = tl.zeros((BM, BN), tl.float32)
            for start in range(0, WIDTH, BK):
                column = start + tl.arange(0, BK)
                x = _tile_of_rows(rows, origin, at, row_stride, column, d, SHIFT, TO)
                c = tl.load(operand + centroid[:, None] * WIDTH + column[None, :])
                products = tl.dot(x, tl.trans(c), products, input_precision=PRECISION)
                if MEASURE:
                    if tile == 0:
                        squares += tl.sum(x.to(tl.float32) * x.to(tl.float32), 1)
        score = products - tl.load(halves + centroid)[None, :]
        bits = score.to(tl.int32, bitcast=True)
        named = ((bits & ~(BN - 1)) | (BN - 1 - in_tile)[None, :]).to(tl.float32, bitcast=True)
        top = tl.max(named, 1)
        if PROVE:
            under = tl.max(tl.where(named == top[:, None], float("-inf"), named), 1)
            second = tl.maximum(tl.maximum(second, under), tl.minimum(best, top))
        name = BN - 1 - (top.to(tl.int32, bitcast=True) & (BN - 1))
        label = tl.where(top > best, tile * BN + name, label)
        best = tl.maximum(best, top)

    old = tl.load(labels + here, mask=inside, other=0)
    settled = inside
    if PROVE:
        if MEASURE:
            norm = tl.sqrt(squares) * 1.0001
            residual = norm * lost_share
            tl.store(norms + here, norm, mask=inside)
        else:
            there = problem.to(tl.int64) * norm_stride + at
            norm = tl.load(norms + there, mask=inside, other=0.0)
            residual = tl.load(residuals + there, mask=inside, other=0.0)
        largest = tl.load(limits)
        error = residual * largest + norm * tl.load(limits + 1)
        error += sum_share * (norm * largest + tl.load(limits + 2))
        error = 2 * error + BN * 1.2e-7 * (tl.abs(best) + tl.abs(second))
        settled = inside & (best - second > error)
        _append(
            doubtful + problem.to(tl.int64) * n,
            doubtful + problem.to(tl.int64) * n,
            counters + problem * 8 + 1,
            inside & ~(best - second > error),
            at.to(tl.int32),
            at.to(tl.int32),
        )
    tl.store(scores + here, best, mask=inside)
    tl.store(labels + here, label, mask=settled)
    if ADD:
        tl.atomic_add(
            counters + problem * 8 + 2, tl.sum((settled & (label != old)).to(tl.int32), 0)
        )
        member = settled[:, None] & (label[:, None] == in_tile[None, :])
        number = tl.sum(member.to(tl.int64), 0)
        present = number
        if WEIGHTED:
            weight = tl.load(weights + problem.to(tl.int64) * weight_stride + at)
            whole = _whole(weight.to(tl.float64) * tl.load(weight_unit))
            number = tl.sum(tl.where(member, whole[:, None], 0), 0)
            present = tl.sum((member & (whole > 0)[:, None]).to(tl.int64), 0)
        exists = in_tile < k
        tl.atomic_add(counts + problem * k + in_tile, number, mask=exists, sem="relaxed")
        tl.atomic_add(
            members + problem * k + in_tile, present.to(tl.int32), mask=exists, sem="relaxed"
        )
        for start in range(0, d, BA):
            feature = start + tl.arange(0, BA)
            within = feature < d
            part = rows + at[:, None] * row_stride + feature[None, :]
            apart = tl.load(part, mask=within[None, :], other=0).to(tl.float64)
            apart -= tl.load(origin + feature, mask=within, other=0.0).to(tl.float64)[None, :]
            if WEIGHTED:
                apart *= weight.to(tl.float64)[:, None]
            unit = tl.load(units + feature, mask=within, other=0.0)
            total = _sums_of_members(member, _whole(apart * unit[None, :]), BN, BA)
            place = (problem.to(tl.int64) * k + in_tile)[:, None] * d + feature[None, :]
            mask = exists[:, None] & within[None, :]
            tl.atomic_add(sums + place, total, mask=mask, sem="relaxed")
    else:
        _append(
            moved + problem.to(tl.int64) * n,
            moved_from + problem.to(tl.int64) * n,
            counters + problem * 8,
            settled & (label != old),
            at.to(tl.int32),
            old,
        )


@triton.jit
def score_again(
    rows,
    origin,
    origin_stride,
    centred,
    halves,
    doubtful,
    winners,
    counters,
    done,
    n,
    d,
    n_tiles,
    row_stride,
    problem_stride,
    WIDTH: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    SHIFT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Score the doubtful rows in float32, each tile of ``centred (k, WIDTH)`` by other programs.

    The best of a row is the largest of its ``winners``: a score, whose bits are put in an order of
    whole numbers, and below it the label, so that the lowest wins among equals.
    """
    problem = tl.program_id(2)
    if tl.load(done + problem) != 0:
        return
    n_doubtful = tl.load(counters + problem * 8 + 1)
    rows += problem.to(tl.int64) * problem_stride
    origin += problem * origin_stride
    centroid = tl.program_id(1) * BN + tl.arange(0, BN)
    centred += problem.to(tl.int64) * n_tiles * BN * WIDTH
    half = tl.load(halves + problem * n_tiles * BN + centroid)
    first = problem.to(tl.int64) * n
    for block in range(tl.program_id(0) * BM, n_doubtful, tl.num_programs(0) * BM):
        place = block + tl.arange(0, BM)
        inside = place < n_doubtful
        at = tl.load(doubtful + first + place, mask=inside, other=0).to(tl.int64)
        products = tl.zeros((BM, BN), tl.float32)
        for start in range(0, WIDTH, BK):
            column = start + tl.arange(0, BK)
            x = _tile_of_rows(rows, origin, at, row_stride, column, d, SHIFT, tl.float32)
            c = tl.load(centred + centroid[:, None] * WIDTH + column[None, :])
            products = tl.dot(x, tl.trans(c), products, input_precision=PRECISION)
        score = products - half[None, :]
        top = tl.max(score, 1)
        label = tl.min(tl.where(score == top[:, None], centroid[None, :], 2147483647), 1)
        bits = top.to(tl.int32, bitcast=True)
        bits = tl.where(bits < 0, bits ^ 2147483647, bits)
        entry = (bits.to(tl.int64) << 32) | (2147483647 - label).to(tl.int64)
        tl.atomic_max(winners + first + at, entry, mask=inside, sem="relaxed")


@triton.jit
def label_again(doubtful, winners, labels, moved, moved_from, counters, done, n, BM: tl.constexpr):
    """Give the doubtful rows the labels that won, and forget who did."""
    problem = tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    n_doubtful = tl.load(counters + problem * 8 + 1)
    first = problem.to(tl.int64) * n
    for block in range(tl.program_id(0) * BM, n_doubtful, tl.num_programs(0) * BM):
        place = block + tl.arange(0, BM)
        inside = place < n_doubtful
        row = tl.load(doubtful + first + place, mask=inside, other=0)
        winner = tl.load(winners + first + row, mask=inside, other=0)
        tl.store(winners + first + row, -9223372036854775807, mask=inside)
        label = 2147483647 - (winner & 2147483647).to(tl.int32)
        old = tl.load(labels + first + row, mask=inside, other=0)
        tl.store(labels + first + row, label, mask=inside)
        moves = inside & (label != old)
        _append(moved + first, moved_from + first, counters + problem * 8, moves, row, old)
