"""From sums to the centroids that the next pass looks at, and whether there is a next pass.

Three small kernels: the means of all clusters; one decision for all of them; and the step that it
allows, written in the forms that the product wants. What a pass has to tell is put into a history
on the device, so that nobody has to wait for it.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Why a problem is done; 0 goes on. ``Status`` has the words.
GOES_ON, LABELS_UNCHANGED, TOLERANCE, MAX_ITER = 0, 1, 2, 3

# What the history has of a pass: inertia, shift, n_changed, n_reseeded, n_rescored.
N_FIGURES = 5


@triton.jit
def means(
    sums,
    counts,
    members,
    inverse_units,
    weight_unit,
    origin,
    origin_stride,
    centroids,
    found,
    partial,
    done,
    k,
    d,
    digits,
    UNIT: tl.constexpr,
    BD: tl.constexpr,
):
    """Write the mean of a cluster to ``found``, and its share of inertia and shift to ``partial``.

    A cluster without rows keeps its centroid. A number that moves by no more than rounding may
    account for has not moved: ``digits`` units in the last place.
    """
    cluster, problem = tl.program_id(0), tl.program_id(1)
    if tl.load(done + problem) != 0:
        return
    here = problem.to(tl.int64) * k + cluster
    origin += problem * origin_stride
    count = tl.load(counts + here).to(tl.float64) / tl.load(weight_unit)
    lives = tl.load(members + here) > 0
    share = 1.0 / tl.where(lives, count, 1.0)
    length = tl.zeros((), tl.float64)
    if UNIT:
        for start in range(0, d, BD):
            column = start + tl.arange(0, BD)
            inside = column < d
            mean = _mean(sums, inverse_units, origin, here, column, inside, d, share)
            length += tl.sum(mean * mean, 0)
        lives = lives & (length > 0)
        length = 1.0 / tl.sqrt(tl.where(lives, length, 1.0))
    inertia = tl.zeros((), tl.float64)
    shift = tl.zeros((), tl.float64)
    for start in range(0, d, BD):
        column = start + tl.arange(0, BD)
        inside = column < d
        zero = tl.load(origin + column, mask=inside, other=0.0).to(tl.float64)
        mean = _mean(sums, inverse_units, origin, here, column, inside, d, share)
        now = tl.load(centroids + here * d + column, mask=inside, other=0.0)
        apart = now.to(tl.float64) - zero
        inertia += tl.sum(tl.where(inside, count * apart * (apart - 2 * (mean - zero)), 0.0), 0)
        if UNIT:
            mean = mean * length
        new = tl.where(lives, mean.to(tl.float32), now)
        tl.store(found + here * d + column, new, mask=inside)
        step = tl.abs(new.to(tl.float64) - now.to(tl.float64))
        limit = (tl.abs(now.to(tl.float64)) + 2 * tl.abs(apart)) * digits
        shift += tl.sum(tl.where(inside & (step > limit), step * step, 0.0), 0)
    tl.store(partial + here * 2, tl.where(tl.load(members + here) > 0, inertia, 0.0))
    tl.store(partial + here * 2 + 1, shift)


@triton.jit
def _mean(sums, inverse_units, origin, here, column, inside, d, share):
    """Return the mean ``(BD,)`` of a cluster, where its rows lie."""
    total = tl.load(sums + here * d + column, mask=inside, other=0).to(tl.float64)
    unit = tl.load(inverse_units + column, mask=inside, other=0.0)
    zero = tl.load(origin + column, mask=inside, other=0.0).to(tl.float64)
    return tl.where(inside, zero + total * unit * share, 0.0)


@triton.jit
def decide(
    partial,
    sq_norms,
    counters,
    limits,
    history,
    n_passes,
    momentum,
    done,
    k,
    capacity,
    max_passes,
    still,
    most,
    PROGRESSIVE: tl.constexpr,
    BK: tl.constexpr,
):
    """Record the pass, say whether it was the last, and how far the next step may go.

    ``momentum`` holds, per problem: the last inertia, steps since it rose, and the step allowed.
    """
    problem = tl.program_id(0)
    if tl.load(done + problem) != 0:
        return
    inertia = tl.load(sq_norms + problem)
    shift = tl.zeros((), tl.float64)
    for start in range(0, k, BK):
        cluster = start + tl.arange(0, BK)
        inside = cluster < k
        at = partial + (problem.to(tl.int64) * k + cluster) * 2
        inertia += tl.sum(tl.load(at, mask=inside, other=0.0), 0)
        shift += tl.sum(tl.load(at + 1, mask=inside, other=0.0), 0)
    counters += problem * 8
    n_changed = tl.load(counters) + tl.load(counters + 2)
    n_rescored = tl.load(counters + 1) + tl.load(counters + 3)
    n_reseeded = tl.load(counters + 4)
    for column in range(0, 5):
        tl.store(counters + column, 0)
    for column in range(0, 3):
        tl.store(limits + problem * 4 + column, 0.0)
    number = tl.load(n_passes + problem)
    at = history + (problem.to(tl.int64) * capacity + number) * 5
    tl.store(at, inertia)
    tl.store(at + 1, shift)
    tl.store(at + 2, n_changed.to(tl.float64))
    tl.store(at + 3, n_reseeded.to(tl.float64))
    tl.store(at + 4, n_rescored.to(tl.float64))
    tl.store(n_passes + problem, number + 1)

    state = momentum + problem * 4
    rises = inertia > tl.load(state)
    n_steps = tl.where(rises, 0.0, tl.load(state + 1) + 1)
    n_steps = tl.where(n_reseeded > 0, 0.0, n_steps)
    share = (n_steps - 1) / (n_steps + 2)
    share = tl.where(share < most, share, most)
    tl.store(state, tl.where(n_reseeded > 0, float("inf"), inertia))
    tl.store(state + 1, n_steps)
    tl.store(state + 2, tl.where(n_steps > 1, share, 0.0))

    rests = (n_changed == 0) & (n_reseeded == 0)
    if PROGRESSIVE:  # with momentum, labels may rest while the centroids do not
        rests = rests & (shift == 0)
    reason = tl.where(number + 1 >= max_passes, 3, 0)
    reason = tl.where(shift <= tl.load(still + problem), 2, reason)
    reason = tl.where(rests, 1, reason)
    tl.store(done + problem, reason)


@triton.jit
def step(
    found,
    before,
    centroids,
    origin,
    origin_stride,
    momentum,
    operand,
    halves,
    centred,
    exact_halves,
    limits,
    done,
    k,
    k_padded,
    d,
    scale,
    rounding,
    WIDTH: tl.constexpr,
    SHIFTED: tl.constexpr,
    MEASURED: tl.constexpr,
    UNIT: tl.constexpr,
    FROM_MEANS: tl.constexpr,
    BD: tl.constexpr,
):
    """Move a centroid on from its mean, and write it as the products want it.

    ``operand`` holds it less the origin, times ``scale``, in the number format of the product;
    ``centred`` in float32. Where rows are not ``SHIFTED`` the half norm makes up for that.
    """
    cluster, problem = tl.program_id(0), tl.program_id(1)
    here = problem.to(tl.int64) * k + cluster
    there = problem.to(tl.int64) * k_padded + cluster
    origin += problem * origin_stride
    share = 0.0
    if FROM_MEANS:
        share = tl.load(momentum + problem * 4 + 2).to(tl.float32)
        share = tl.where(tl.load(done + problem) != 0, 0.0, share)
    length = tl.zeros((), tl.float32)
    if UNIT:
        for start in range(0, d, BD):
            column = start + tl.arange(0, BD)
            inside = column < d
            ahead = _ahead(found, before, here * d + column, inside, share)
            length += tl.sum(ahead * ahead, 0)
        length = tl.where(length > 0, tl.sqrt(length), 1.0)
    square = tl.zeros((), tl.float32)
    across = tl.zeros((), tl.float32)
    square_rounded = tl.zeros((), tl.float32)
    for start in range(0, WIDTH, BD):
        column = start + tl.arange(0, BD)
        inside = column < d
        ahead = _ahead(found, before, here * d + column, inside, share)
        if UNIT:
            if share > 0:
                ahead = ahead / length
        if FROM_MEANS:
            tl.store(
                before + here * d + column,
                tl.load(found + here * d + column, mask=inside),
                mask=inside,
            )
        tl.store(centroids + here * d + column, ahead, mask=inside)
        zero = tl.load(origin + column, mask=inside, other=0.0)
        apart = tl.where(inside, ahead - zero, 0.0)
        square += tl.sum(apart * apart, 0)
        across += tl.sum(apart * zero, 0)
        kept = column < WIDTH
        tl.store(centred + there * WIDTH + column, apart, mask=kept)
        scaled = apart * scale
        if operand.dtype.element_ty == tl.float16:  # a centroid beyond it is far from all rows
            rounded = tl.clamp(scaled, -65504.0, 65504.0).to(tl.float16)
        else:
            rounded = scaled.to(operand.dtype.element_ty)
        tl.store(operand + there * WIDTH + column, rounded, mask=kept)
        if MEASURED:
            lost = scaled - rounded.to(tl.float32)
            square_rounded += tl.sum(lost * lost, 0)
    tl.store(exact_halves + there, square / 2)
    half = square / 2 * scale * scale
    if not SHIFTED:
        half += across
    tl.store(halves + there, half)
    norm = tl.sqrt(square) * scale * 1.0001
    lost_norm = norm * rounding
    if MEASURED:
        lost_norm = tl.sqrt(square_rounded) * 1.0001
    tl.atomic_max(limits + problem * 4, norm)
    tl.atomic_max(limits + problem * 4 + 1, lost_norm)
    tl.atomic_max(limits + problem * 4 + 2, tl.abs(half) * 1.0001)


@triton.jit
def _ahead(found, before, at, inside, share):
    """Return where a step leads that goes on by ``share`` from the last means."""
    mean = tl.load(found + at, mask=inside, other=0.0)
    if share > 0:
        mean += share * (mean - tl.load(before + at, mask=inside, other=0.0))
    return mean
