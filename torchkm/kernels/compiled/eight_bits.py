"""Rows in eight bits, each on a grid of its own, and what their products leave to be told apart.

A row is rounded to ``x = zero + step i``, its finest grid. The product of its whole numbers bounds
its scores; a centroid whose upper bound lies below the best of the lower ones cannot be nearest.
What else can, the rivals, is multiplied out while the row is at hand.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.jit import in_order, on_threads
from torchkm.kernels.compiled.rivals import ROWS, SURE, UNKNOWN, at_least, dot, tell_apart

# The step of a grid is no less than this share of the numbers, so that float32 tells which it is.
_FINEST = np.float32(2.0**-18)
_TINIEST = np.float32(2.0**-126)

# What float32 loses of a number on a grid, in shares of how many steps it lies from zero; and what
# it loses of a score, in shares of what that was added up from.
_LOST, _ROUNDED = np.float32(2.0**-22), np.float32(2.0**-21)

# What float32 loses of a bound.
_MARGIN = np.float32(1 + 2.0**-18)


@in_order
def round_rows(rows, bits, numbers, grids):
    """Write the nearest ``numbers (b, d)``, int8, of float32 ``rows``, and ``grids (b, 3)``.

    ``bits (b, d)`` are the same rows seen as int32. A grid is its step, its zero and the norm of
    the row, which is not finite where the row is not.
    """
    ends = np.empty(2, np.int32)
    for i in range(len(rows)):
        ends[0], ends[1] = _ends(bits[i])
        low, high = ends.view(np.float32)
        largest = max(abs(low), abs(high))
        step = max((high - low) / np.float32(255), _FINEST * largest, _TINIEST)
        zero = low + np.float32(128) * step
        grids[i, 0], grids[i, 1], grids[i, 2] = step, zero, np.sqrt(dot(rows[i], rows[i]))
        _round(rows[i], np.float32(1) / step, zero / step, numbers[i])


@on_threads
def round_rows_on_threads(rows, bits, numbers, grids):
    """Do what ``round_rows`` does, on as many threads as there are."""
    for part in prange(-(-len(rows) // ROWS)):
        some = slice(part * ROWS, (part + 1) * ROWS)
        round_rows(rows[some], bits[some], numbers[some], grids[some])


@in_order
def settle(rows, product, grids, rounded, exact, rounding, labels, leads):
    """Find the best of ``k`` centroids for each row, and whether it leads.

    Args:
        rows: ``(b, d)``.
        product: of their whole numbers and the centroids' ``(b, k)``, int32.
        grids: of the rows ``(b, 3)``.
        rounded: the grain of the centroids' whole numbers, and for each centroid what is added to
            a product for a score, the sum of its numbers and of their sizes, and what its score is
            off by for each unit of a row's norm, and whatever the row ``(5, k)``.
        exact: centroids ``(k, d)`` and bias ``(k,)`` that make scores in the dtype of the rows, and
            the centroids as near to the rows as these tell ``(k, d)``.
        rounding: what the difference of two such scores loses, for each unit of a row's norm and
            whatever the row, and that of squared distances for each unit of them.
        labels: where they go ``(b,)``.
        leads: where it goes whether they lead ``(b,)``, above zero where they are proven.

    Returns:
        How many scores were multiplied out.
    """
    k = product.shape[1]
    lower, upper = np.empty(k, np.float32), np.empty(k, np.float32)
    best, rivals = np.empty(1, np.int32), np.empty(k, np.int64)
    n_scored = 0
    for i in range(len(rows)):
        norm = grids[i, 2]
        labels[i], leads[i] = 0, -1
        if not norm < np.float32(np.inf):
            continue
        _bound(product[i], grids[i], rounded, lower, upper)
        best[0] = _highest(lower.view(np.int32))
        n_rivals = at_least(upper, best.view(np.float32)[0], rivals)
        if n_rivals == 1:
            labels[i], leads[i] = rivals[0], SURE
            continue
        n_scored += n_rivals
        labels[i], leads[i] = tell_apart(rows[i], norm, rivals[:n_rivals], UNKNOWN, exact, rounding)
    return n_scored


@on_threads
def settle_on_threads(rows, product, grids, rounded, exact, rounding, labels, leads):
    """Do what ``settle`` does, on as many threads as there are."""
    n_scored = 0
    for part in prange(-(-len(rows) // ROWS)):
        some = slice(part * ROWS, (part + 1) * ROWS)
        n_scored += settle(
            rows[some],
            product[some],
            grids[some],
            rounded,
            exact,
            rounding,
            labels[some],
            leads[some],
        )
    return n_scored


@in_order
def _bound(product, grid, rounded, lower, upper):
    """Write what the scores ``(k,)`` of a row are at least, and at most."""
    grain, bias, sums, sizes, shares, fixed = rounded
    step, zero, norm = grid[0], grid[1], grid[2]
    lost = _LOST * (abs(zero) + np.float32(256) * step)
    lost += _ROUNDED * (abs(zero) + np.float32(128) * step)
    per_size = (np.float32(0.5) * step + lost) * _MARGIN
    unit, per_norm = step * grain, norm * _MARGIN
    for c in range(len(product)):
        score = np.float32(product[c]) * unit + bias[c] + zero * sums[c]
        off = per_size * sizes[c] + per_norm * shares[c] + fixed[c]
        lower[c], upper[c] = score - off, score + off


@in_order
def _ends(bits):
    """Return the bits of the smallest and the largest of float32 numbers seen as int32.

    As whole numbers, which are compared side by side where floats are not.
    """
    low, high = np.int32(2**31 - 1), np.int32(-(2**31))
    for j in range(len(bits)):
        place = _place(bits[j])
        low, high = min(low, place), max(high, place)
    return _place(low), _place(high)


@in_order
def _highest(bits):
    high = np.int32(-(2**31))
    for j in range(len(bits)):
        high = max(high, _place(bits[j]))
    return _place(high)


@in_order
def _place(bits):
    """Turn the bits of a float32 number to a whole number in the same order, and back."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(2**31 - 1))


@in_order
def _round(row, per_number, zero, numbers):
    for j in range(len(row)):
        # From above zero, where to cut off the rest is to round.
        steps = row[j] * per_number - zero + np.float32(128.5)
        numbers[j] = np.int8(np.int32(steps) - np.int32(128))
