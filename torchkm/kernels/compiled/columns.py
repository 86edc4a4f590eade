"""Rows that lie side by side, as columns, and what is found of a run of them.

A run stays in the first cache and is scored against one centroid after the other: ``x'c - |c|^2 /
2``, added up number by number and the last of them last, which decides ties as a product does. A
centroid ``c`` is given as ``[c, -|c|^2 / 2, ...]``, what rows are aimed at.
"""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.jit import in_order, side_by_side
from torchkm.kernels.layout import RUN


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
def label_run(columns, aims, scores, best, labels):
    """Write the first of the best ``aims (k, d + 1)`` for each of ``columns (d, RUN)``."""
    d = len(columns)
    last = 8 if d >= 8 else 4 if d >= 4 else 0  # numbers that are added as the best is sought
    found = np.zeros(RUN, np.int32)  # half as wide as labels, so twice as many at once
    best[:] = -np.inf
    for c in range(len(aims)):
        score(columns, aims[c], d - last, scores)
        if last == 8:
            _take_better_of_eight(columns[d - 8 :], aims[c, d - 8 :], c, scores, best, found)
        elif last == 4:
            _take_better_of_four(columns[d - 4 :], aims[c, d - 4 :], c, scores, best, found)
        else:
            _take_better(scores, aims[c, d], c, best, found)
    for i in range(len(labels)):
        labels[i] = found[i]


@in_order
def take_best(scores, bias, best, found, labels):
    """Write the first ``labels (b,)`` of the best of ``scores (k, b)`` and ``bias (k,)``.

    There is room for a number and an int32 of each row in ``best`` and ``found``.
    """
    best[:] = -np.inf
    found[:] = 0
    for c in range(len(scores)):
        _take_better(scores[c], bias[c], c, best, found)
    labels[:] = found


@in_order
def measure_run(columns, best, norms, sq_distances):
    """Write the squared distances ``(r,)`` that the best scores ``(RUN,)`` stand for.

    There is room for the squared norms of all ``columns (d, RUN)`` in ``norms``.
    """
    norms[:] = 0
    for j in range(len(columns)):
        for i in range(RUN):
            norms[i] += columns[j, i] * columns[j, i]
    for i in range(len(sq_distances)):
        sq_distance = norms[i] - 2 * best[i]
        sq_distances[i] = 0 if sq_distance < 0 else sq_distance  # a NaN stays one


@side_by_side
def squares_of(columns, n):
    """Return the sum of squares of the first ``n`` of ``columns (d, RUN)``, or infinity."""
    squares = columns.dtype.type(0)
    for j in range(len(columns)):
        for i in range(n):
            squares += columns[j, i] * columns[j, i]
    return squares


@in_order
def _take_better(scores, bias, number, best, found):
    """Note which ``scores (b,)`` are the best yet, with a bias, and whose."""
    for i in range(len(scores)):
        score = scores[i] + bias
        better = score > best[i]
        best[i] = score if better else best[i]
        found[i] = np.int32(number) if better else found[i]


@in_order
def score(columns, aim, size, scores):
    """Write the products ``(RUN,)`` of the first ``size`` numbers of columns and ``aim (d + 1,)``.

    Several at a time, so that products are not read and written for each.
    """
    j = 0
    scores[:] = 0
    while j + 8 <= size:
        c0, c1, c2, c3 = aim[j], aim[j + 1], aim[j + 2], aim[j + 3]
        c4, c5, c6, c7 = aim[j + 4], aim[j + 5], aim[j + 6], aim[j + 7]
        for i in range(RUN):
            score = scores[i] + columns[j, i] * c0
            score = score + columns[j + 1, i] * c1
            score = score + columns[j + 2, i] * c2
            score = score + columns[j + 3, i] * c3
            score = score + columns[j + 4, i] * c4
            score = score + columns[j + 5, i] * c5
            score = score + columns[j + 6, i] * c6
            scores[i] = score + columns[j + 7, i] * c7
        j += 8
    while j < size:
        for i in range(RUN):
            scores[i] = scores[i] + columns[j, i] * aim[j]
        j += 1


@in_order
def _take_better_of_eight(columns, aim, number, scores, best, found):
    """Finish ``scores (RUN,)`` by ``columns (8, RUN)``; note which are the best yet, and whose."""
    c0, c1, c2, c3, c4 = aim[0], aim[1], aim[2], aim[3], aim[4]
    c5, c6, c7, bias = aim[5], aim[6], aim[7], aim[8]
    for i in range(RUN):
        score = scores[i] + columns[0, i] * c0
        score = score + columns[1, i] * c1
        score = score + columns[2, i] * c2
        score = score + columns[3, i] * c3
        score = score + columns[4, i] * c4
        score = score + columns[5, i] * c5
        score = score + columns[6, i] * c6
        score = score + columns[7, i] * c7
        score = score + bias
        better = score > best[i]
        best[i] = score if better else best[i]
        found[i] = np.int32(number) if better else found[i]


@in_order
def _take_better_of_four(columns, aim, number, scores, best, found):
    for i in range(RUN):
        score = scores[i] + columns[0, i] * aim[0]
        score = score + columns[1, i] * aim[1]
        score = score + columns[2, i] * aim[2]
        score = score + columns[3, i] * aim[3]
        score = score + aim[4]
        better = score > best[i]
        best[i] = score if better else best[i]
        found[i] = np.int32(number) if better else found[i]
