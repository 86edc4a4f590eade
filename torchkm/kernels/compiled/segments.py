"""What the rows of each cluster add up to, for labels that are known: numbers side by side.

A thread takes some of the numbers of every row, so that sums need not be added up over threads, and
come out alike however many there are.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side

# Numbers of a row that a thread takes at a time.
NUMBERS = 256


@in_order
def add(rows, origin, labels, sums, squares):
    """Add ``rows (n, d)`` less the ``origin (d,)`` to ``sums (k, d)`` by their ``labels (n,)``.

    And their squares, part by part of as many numbers as a thread takes, to ``squares (p,)``.
    """
    for part in range(len(squares)):
        _add_part(rows, origin, labels, sums, squares, part)


@on_threads
def add_on_threads(rows, origin, labels, sums, squares):
    """Do what ``add`` does, on as many threads as there are."""
    for part in prange(len(squares)):
        _add_part(rows, origin, labels, sums, squares, part)


@in_order
def _add_part(rows, origin, labels, sums, squares, part):
    some = slice(part * NUMBERS, (part + 1) * NUMBERS)
    zeros, square = origin[some], 0.0
    for i in range(len(rows)):
        row, total = rows[i, some], sums[np.uint64(labels[i]), some]
        square += _add_row(row, zeros, total)
    squares[part] += square


@side_by_side
def _add_row(row, zeros, total):
    """Add a row to a total; return its square, added up side by side."""
    square = row.dtype.type(0)
    for j in range(len(row)):
        number = row[j] - zeros[j]
        total[j] += number
        square += number * number
    return square
