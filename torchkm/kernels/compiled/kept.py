"""Narrow rows that are kept in runs, as columns, and their clusters as labels change."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.columns import label_run, score, turn
from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side
from torchkm.kernels.layout import RUN

# Runs that a thread takes at a time.
_RUNS = 16


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
        turn(rows[start:stop], origin, columns[run], at)
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
        label_run(columns[run], aims, scores, best, labels[run * RUN : (run + 1) * RUN])


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
            score(columns[run], aims[c], columns.shape[1], scores)
            for i in range(len(some)):
                scores[i] += aims[c, columns.shape[1]]
                second[i] = max(second[i], min(best[i], scores[i]))
                best[i] = max(best[i], scores[i])
        for i in range(len(some)):
            rise = 2 * np.float64(best[i] - second[i])
            out[some[i]] += rise * (weights[run * RUN + i] if len(weights) else 1.0)


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


@side_by_side
def _square_of(row):
    square = 0.0
    for j in range(len(row)):
        square += np.float64(row[j]) * np.float64(row[j])
    return square
