"""Rows that lie side by side, as columns, and what is found of a run of them.

A run stays in the first cache and is scored against a few centroids after the other: ``x'c - |c|^2
/ 2``, added up number by number and the last of them last, which decides ties as a product does. A
centroid ``c`` is given as ``[c, -|c|^2 / 2, ...]``, what rows are aimed at.
"""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.jit import in_order
from torchkm.kernels.compiled.tile import WIDTH, take_best, take_scores, take_two_best
from torchkm.kernels.compiled.turning import SIDE, turn_eight

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

    Eight rows at a time, so that what is written to a column lies side by side.
    """
    n, d = len(rows), len(columns)
    whole, square = n - n % SIDE, d - d % SIDE
    for i in range(0, whole, SIDE):
        for j in range(0, square, SIDE):
            turn_eight(rows, i, j, origin, columns, at + i)
        if square < d:
            _turn_rest(rows[i : i + SIDE], origin, columns, square, at + i)
    for i in range(whole, n):
        for j in range(d):
            columns[j, at + i] = rows[i, j] - origin[j]


@in_order
def _turn_rest(rows, origin, columns, start, at):
    """Write to ``columns (d, RUN)`` what ``turn`` does of eight rows, from the ``start`` on."""
    for j in range(start, len(columns)):
        number, zero, column = np.uint64(j), origin[j], columns[j, at : at + SIDE]
        for i in range(SIDE):
            column[i] = rows[i, number] - zero


@in_order
def label_run(columns, aims, best, found, labels):
    """Write the first of the best ``aims (k, > d)`` for each of ``columns (d, RUN)``.

    There is room for a score and an int32 of each column in ``best`` and ``found``.
    """
    best[:] = -np.inf
    found[:] = 0
    for start in range(0, RUN, WIDTH // columns.itemsize):
        take_best(columns, aims, start, (best, found))
    for i in range(len(labels)):
        labels[i] = found[i]


@in_order
def lead_run(columns, aims, best, second):
    """Write the ``best`` and ``second`` best score ``(RUN,)`` of each of ``columns (d, RUN)``."""
    best[:] = second[:] = -np.inf
    for start in range(0, RUN, WIDTH // columns.itemsize):
        take_two_best(columns, aims, start, (best, second))


@in_order
def score_run(columns, aims, scores):
    """Write the ``scores (k, RUN)`` of ``columns (d, RUN)`` by ``aims (k, > d)``."""
    for start in range(0, RUN, WIDTH // columns.itemsize):
        take_scores(columns, aims, start, (scores,))


@in_order
def add_squares(columns, norms):
    """Add the squares of ``columns (d, RUN)`` to the squared ``norms (RUN,)``."""
    for j in range(len(columns)):
        for i in range(RUN):
            norms[i] += columns[j, i] * columns[j, i]
