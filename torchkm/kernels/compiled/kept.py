"""Narrow rows that are kept in runs, as columns, and their clusters as labels change."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compact import ANEW
from torchkm.kernels.compiled.columns import label_run, score, turn
from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side
from torchkm.kernels.layout import RUN

# Few clusters, and rows of so many bytes that their numbers, a run apart, drive each other out of
# the first cache, are added up cluster by cluster: one takes the time of moving such a share of the
# rows.
_FEW, _WIDE, _PER_CHANGE = 5, 2**8, 32


@in_order
def keep(rows, origin, first, weights, columns):
    """Write ``rows (r, d)`` less the ``origin (d,)`` to ``columns (g, d, RUN)``.

    From the place ``first`` on.

    Returns:
        The sum of their squares, and that weighted by ``weights (n,)``, or not if there are none.
    """
    n = len(rows)
    start = 0
    while start < n:
        run, at = divmod(first + start, RUN)
        stop = min(start + RUN - at, n)
        turn(rows[start:stop], origin, columns[run], at)
        start = stop
    squares = weighted = 0.0
    for i in range(n):
        square = _square_of(rows[i], origin)
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
    for run in prange(len(columns)):
        label_runs(columns[run : run + 1], aims, labels[run * RUN : (run + 1) * RUN])


@in_order
def add_up(columns, weights, before, now, anew, totals, threads):
    """Bring ``totals (k, d + 2)`` from the labels ``before (n,)`` to those of ``now``.

    They are sums, counts and numbers of members; ``weights (n,)`` may be none. ``anew``, or where
    that takes less time, of all rows afresh, on several ``threads`` where each takes a cluster.

    Returns:
        How many have changed.
    """
    n_changed = 0
    for i in range(len(now)):
        n_changed += before[i] != now[i]
    few = len(totals) <= _FEW or columns.shape[1] * columns.itemsize >= _WIDE
    share = min(ANEW, len(totals) / _PER_CHANGE) if few else ANEW
    if anew or n_changed > share * len(now):
        totals[:] = 0
        if few and threads:
            _add_by_cluster_on_threads(columns, weights, now, totals)
        elif few:
            for c in range(len(totals)):
                _add_cluster(columns, weights, now, c, totals[c])
        else:
            _add_by_row(columns, weights, now, totals)
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
    d, block, place = columns.shape[1], columns[i // RUN], i % RUN
    weight = weights[i] if len(weights) else 1.0
    for j in range(d):
        total[j] += sign * weight * np.float64(block[j, place])
    total[d] += sign * weight
    if weight > 0:
        total[d + 1] += sign


@in_order
def _add_by_row(columns, weights, labels, totals):
    """Add all rows to ``totals (k, d + 2)``, one after the other."""
    d = columns.shape[1]
    for run in range(-(-len(labels) // RUN)):
        block, some = columns[run], labels[run * RUN : (run + 1) * RUN]
        for i in range(len(some)):
            total = totals[np.uint64(some[i])]  # no number from the end
            weight = weights[run * RUN + i] if len(weights) else 1.0
            for j in range(d):
                total[j] += weight * np.float64(block[j, i])
            total[d] += weight
            total[d + 1] += weight > 0


@on_threads
def _add_by_cluster_on_threads(columns, weights, labels, totals):
    for c in prange(len(totals)):
        _add_cluster(columns, weights, labels, c, totals[c])


@side_by_side
def _add_cluster(columns, weights, labels, c, total):
    """Add all rows of cluster ``c`` to its ``total (d + 2,)``, one number after the other.

    A row's numbers lie far apart, and those of a run side by side.
    """
    d, share = columns.shape[1], np.empty(RUN)
    for run in range(-(-len(labels) // RUN)):
        some = labels[run * RUN : (run + 1) * RUN]
        count, members = 0.0, 0
        for i in range(len(some)):
            weight = weights[run * RUN + i] if len(weights) else 1.0
            share[i] = weight if some[i] == c else 0.0
            members += share[i] > 0
        for j in range(d):
            of_run, column = 0.0, columns[run, j]
            for i in range(len(some)):
                of_run += share[i] * np.float64(column[i])
            total[j] += of_run
        for i in range(len(some)):
            count += share[i]
        total[d] += count
        total[d + 1] += members


@side_by_side
def _square_of(row, origin):
    square = 0.0
    for j in range(len(row)):
        number = np.float64(row[j] - origin[j])
        square += number * number
    return square
