"""Rows that lie side by side, as columns, and what is found of a run of them.

A run stays in the first cache and is scored against one centroid after the other: ``x'c - |c|^2 /
2``, added up number by number and the last of them last, which decides ties as a product does. A
centroid ``c`` is given as ``[c, -|c|^2 / 2, ...]``, what rows are aimed at.
"""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.jit import in_order
from torchkm.kernels.compiled.tile import WIDTH, take_best, take_two_best

# Rows that lie side by side: as many as a tile takes, in any dtype, or some tiles; and so few that
# their numbers, a run apart, do not drive each other out of the first cache.
RUN = 64

# Bytes of a line of the cache.
_LINE = 64


@in_order
def room(d, like):
    """Return room for columns ``(d, RUN)`` of numbers ``like (m,)``, each from a line's start."""
    numbers = np.empty(d * RUN + _LINE // like.itemsize, like.dtype)
    start = -numbers.ctypes.data % _LINE // like.itemsize
    return numbers[start : start + d * RUN].reshape(d, RUN)


@in_order
def turn(rows, origin, columns, at):
    """Write ``rows (r, d)`` less the ``origin (d,)`` to ``columns (d, RUN)``, from ``at`` on.

    Eight at a time, so that what is written to a column lies side by side.
    """
    n, d = rows.shape
    whole = n - n % 8
    for i in range(0, whole, 8):
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        r4, r5, r6, r7 = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
        to = at + i
        for j in range(d):
            zero = origin[j]
            columns[j, to] = r0[j] - zero
            columns[j, to + 1] = r1[j] - zero
            columns[j, to + 2] = r2[j] - zero
            columns[j, to + 3] = r3[j] - zero
            columns[j, to + 4] = r4[j] - zero
            columns[j, to + 5] = r5[j] - zero
            columns[j, to + 6] = r6[j] - zero
            columns[j, to + 7] = r7[j] - zero
    for i in range(whole, n):
        for j in range(d):
            columns[j, at + i] = rows[i, j] - origin[j]


@in_order
def label_run(columns, aims, best, found, labels):
    """Write the first of the best ``aims (k, > d)`` for each of ``columns (d, RUN)``.

    There is room for a score and an int32 of each column in ``best`` and ``found``.
    """
    best[:] = -np.inf
    found[:] = 0
    for start in range(0, RUN, WIDTH // columns.itemsize):
        take_best(columns, aims, start, best, found)
    for i in range(len(labels)):
        labels[i] = found[i]


@in_order
def lead_run(columns, aims, best, second):
    """Write the ``best`` and ``second`` best score ``(RUN,)`` of each of ``columns (d, RUN)``."""
    best[:] = second[:] = -np.inf
    for start in range(0, RUN, WIDTH // columns.itemsize):
        take_two_best(columns, aims, start, best, second)


@in_order
def measure_run(columns, norms):
    """Write the squared ``norms (RUN,)`` of all ``columns (d, RUN)``."""
    norms[:] = 0
    for j in range(len(columns)):
        for i in range(RUN):
            norms[i] += columns[j, i] * columns[j, i]
