"""Wide rows against few centroids: multiplied and looked through while they are in cache.

A library's product of so few columns waits for memory, and so does the loop that looks through its
scores; here rows are read once.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side
from torchkm.kernels.compiled.rivals import ROWS
from torchkm.kernels.compiled.scores import settle

# Centroids that are multiplied at once, with two rows: their sums, and what is read for them, just
# fit a CPU's registers.
TILE = 5


@in_order
def label(rows, centroids, exact, rounding, labels, leads):
    """Find the best of ``k`` centroids for each row, and its lead, as ``scores.settle`` does.

    Against ``centroids (c, d)``, where ``c`` is ``k`` rounded up to whole tiles.
    """
    product = np.empty((ROWS, len(centroids)), rows.dtype)
    for start in range(0, len(rows), ROWS):
        some = slice(start, min(start + ROWS, len(rows)))
        _multiply(rows[some], centroids, product)
        settle(rows[some], product, exact, rounding, labels[some], leads[some])


@on_threads
def label_on_threads(rows, centroids, exact, rounding, labels, leads):
    """Do what ``label`` does, on as many threads as there are."""
    for part in prange(-(-len(rows) // ROWS)):
        some = slice(part * ROWS, (part + 1) * ROWS)
        label(rows[some], centroids, exact, rounding, labels[some], leads[some])


@in_order
def _multiply(rows, centroids, product):
    """Write the ``product (>= r, c)`` of ``rows (r, d)`` and ``centroids (c, d)``."""
    last = len(rows) - 1
    for i in range(0, len(rows), 2):
        other = min(i + 1, last)
        for c in range(0, len(centroids), TILE):
            tile = product[i, c : c + TILE], product[other, c : c + TILE]
            _multiply_two(rows[i], rows[other], centroids[c : c + TILE], tile[0], tile[1])


@side_by_side
def _multiply_two(row, other, centroids, of_row, of_other):
    """Write the products ``(TILE,)`` of two rows ``(d,)`` and ``centroids (TILE, d)``."""
    c0, c1, c2, c3, c4 = centroids[0], centroids[1], centroids[2], centroids[3], centroids[4]
    zero = row.dtype.type(0)
    p0, p1, p2, p3, p4 = zero, zero, zero, zero, zero
    q0, q1, q2, q3, q4 = zero, zero, zero, zero, zero
    for j in range(len(row)):
        x, y = row[j], other[j]
        p0 += x * c0[j]
        p1 += x * c1[j]
        p2 += x * c2[j]
        p3 += x * c3[j]
        p4 += x * c4[j]
        q0 += y * c0[j]
        q1 += y * c1[j]
        q2 += y * c2[j]
        q3 += y * c3[j]
        q4 += y * c4[j]
    of_row[0], of_row[1], of_row[2], of_row[3], of_row[4] = p0, p1, p2, p3, p4
    of_other[0], of_other[1], of_other[2], of_other[3], of_other[4] = q0, q1, q2, q3, q4
