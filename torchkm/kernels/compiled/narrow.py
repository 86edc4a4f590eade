"""Labels of narrow rows, and what changes with them, in one loop over the rows.

Rows lie in runs that stay in the first cache, side by side as columns, and are scored against one
centroid after the other: ``x'c - |c|^2 / 2``, added up number by number and the last of them last,
which decides ties as a product does. A centroid ``c`` is given as ``[c, -|c|^2 / 2, ...]``, what
rows are aimed at.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side
from torchkm.kernels.layout import RUN

# Numbers of a row that are written to as many columns at once.
_TURNED = 16

# Runs that a thread takes at a time.
_RUNS = 16


@in_order
def label(rows, origin, aims, labels):
    """Write ``labels (n,)`` of ``rows (n, d)``; return the sum of their squares.

    Rows are measured from the ``origin (d,)``, as ``aims (k, d + 1)`` are.
    """
    n, d = rows.shape
    columns = np.empty((d, RUN), origin.dtype)
    scores, best = np.empty(RUN, origin.dtype), np.empty(RUN, origin.dtype)
    squares = 0.0
    for start in range(0, n, RUN):
        some = slice(start, min(start + RUN, n))
        _turn(rows[some], origin, columns, 0)
        squares += _squares_of(columns, len(rows[some]))
        _label_run(columns, aims, scores, best, labels[some])
    return squares


@on_threads
def label_on_threads(rows, origin, aims, labels):
    """Do what ``label`` does, on as many threads as there are."""
    size, squares = _RUNS * RUN, 0.0
    for part in prange(-(-len(rows) // size)):
        some = slice(part * size, (part + 1) * size)
        squares += label(rows[some], origin, aims, labels[some])
    return squares


@in_order
def keep(rows, first, weights, columns):
    """Write ``rows (r, d)`` to ``columns (g, d, RUN)``, from the place ``first`` on.

    Returns:
        The sum of their squares, and that weighted by ``weights (n,)``, or not if there are none.
    """
    n, d = rows.shape
    origin = np.zeros(d, rows.dtype)
    start = 0
    while start < n:
        run, at = divmod(first + start, RUN)
        stop = min(start + RUN - at, n)
        _turn(rows[start:stop], origin, columns[run], at)
        start = stop
    squares = weighted = 0.0
    for i in range(n):
        square = _square_of(rows[i])
        squares += square
        weighted += square * (weights[first + i] if len(weights) else 1.0)
    return squares, weighted


@in_order
def label_runs(columns, aims, labels):
    """Write ``labels (n,)`` of rows that are kept as ``columns (g, d, RUN)``."""
    scores, best = np.empty(RUN, columns.dtype), np.empty(RUN, columns.dtype)
    for run in range(len(columns)):
        _label_run(columns[run], aims, scores, best, labels[run * RUN : (run + 1) * RUN])


@on_threads
def label_runs_on_threads(columns, aims, labels):
    """Do what ``label_runs`` does, on as many threads as there are."""
    for part in prange(-(-len(columns) // _RUNS)):
        start = part * _RUNS
        some = labels[start * RUN : (start + _RUNS) * RUN]
        label_runs(columns[start : start + _RUNS], aims, some)


@in_order
def add_up(columns, weights, before, now, anew, totals):
    """Bring ``totals (k, d + 2)`` from the labels ``before (n,)`` to those of ``now``.

    They are sums, counts and numbers of members; ``weights (n,)`` may be none. Where more than a
    share ``anew`` of the labels have changed, of all rows afresh.

    Returns:
        How many have changed.
    """
    n_changed = 0
    for i in range(len(now)):
        n_changed += before[i] != now[i]
    if n_changed > anew * len(now):
        totals[:] = 0
        for i in range(len(now)):
            _add(columns, weights, i, 1.0, totals[now[i]])
    elif n_changed:
        for i in range(len(now)):
            if before[i] != now[i]:
                _add(columns, weights, i, -1.0, totals[before[i]])
                _add(columns, weights, i, 1.0, totals[now[i]])
    return n_changed


@in_order
def losses(columns, aims, weights, labels, out):
    """Add to ``out (k,)`` how much worse the second best is for each of the rows labelled."""
    scores, best = np.empty(RUN, columns.dtype), np.empty(RUN, columns.dtype)
    second = np.empty(RUN, columns.dtype)
    for run in range(-(-len(labels) // RUN)):
        some = labels[run * RUN : (run + 1) * RUN]
        best[:] = second[:] = -np.inf
        for c in range(len(aims)):
            _score(columns[run], aims[c], columns.shape[1], scores)
            for i in range(len(some)):
                scores[i] += aims[c, columns.shape[1]]
                second[i] = max(second[i], min(best[i], scores[i]))
                best[i] = max(best[i], scores[i])
        for i in range(len(some)):
            rise = 2 * np.float64(best[i] - second[i])
            out[some[i]] += rise * (weights[run * RUN + i] if len(weights) else 1.0)


@in_order
def _label_run(columns, aims, scores, best, labels):
    """Write the first of the best ``aims (k, d + 1)`` for each of ``columns (d, RUN)``."""
    d = len(columns)
    last = 8 if d >= 8 else 4 if d >= 4 else 0  # numbers that are added as the best is sought
    found = np.zeros(RUN, np.int32)  # half as wide as labels, so twice as many at once
    best[:] = -np.inf
    for c in range(len(aims)):
        _score(columns, aims[c], d - last, scores)
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
def _take_better(scores, bias, number, best, found):
    """Note which ``scores (b,)`` are the best yet, with a bias, and whose."""
    for i in range(len(scores)):
        score = scores[i] + bias
        better = score > best[i]
        best[i] = score if better else best[i]
        found[i] = np.int32(number) if better else found[i]


@in_order
def _score(columns, aim, size, scores):
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


@in_order
def _add(columns, weights, i, sign, total):
    """Add row ``i`` to what one cluster has in ``total (d + 2,)``, or take it away."""
    d = columns.shape[1]
    weight = weights[i] if len(weights) else 1.0
    for j in range(d):
        total[j] += sign * weight * np.float64(columns[i // RUN, j, i % RUN])
    total[d] += sign * weight
    if weight > 0:
        total[d + 1] += sign


@in_order
def _turn(rows, origin, columns, at):
    """Write ``rows (r, d)`` less the ``origin (d,)`` to ``columns (d, RUN)``, from ``at`` on."""
    n, d = rows.shape
    for start in range(0, d, _TURNED):
        for i in range(n):
            for j in range(start, min(start + _TURNED, d)):
                columns[j, at + i] = rows[i, j] - origin[j]


@side_by_side
def _squares_of(columns, n):
    """Return the sum of squares of the first ``n`` of ``columns (d, RUN)``."""
    squares = 0.0
    for j in range(len(columns)):
        for i in range(n):
            squares += np.float64(columns[j, i]) * np.float64(columns[j, i])
    return squares


@side_by_side
def _square_of(row):
    square = 0.0
    for j in range(len(row)):
        square += np.float64(row[j]) * np.float64(row[j])
    return square
