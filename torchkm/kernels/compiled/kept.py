"""Narrow rows that are kept in runs, as columns, and their clusters as labels change."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compact import ANEW
from torchkm.kernels.compiled.columns import RUN, label_run, lead_run, turn
from torchkm.kernels.compiled.jit import (
    add_parts,
    in_order,
    on_threads,
    side_by_side,
    zeros_of_parts,
)

# So few clusters are added up one by one; that takes the time of moving such a share of the rows,
# for each of them.
_FEW, _PER_CLUSTER = 3, 1 / 20

# Rows that a thread is given at once to tell what they lose.
_ROWS = 32 * RUN

# Labels to compare and numbers to add up that are worth several threads.
_MANY = 2**16


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
    best, found = np.empty(RUN, columns.dtype), np.empty(RUN, np.int32)
    for run in range(len(columns)):
        label_run(columns[run], aims, best, found, labels[run * RUN : (run + 1) * RUN])


@on_threads
def label_runs_on_threads(columns, aims, labels):
    """Do what ``label_runs`` does, on as many threads as there are."""
    for run in prange(len(columns)):
        label_runs(columns[run : run + 1], aims, labels[run * RUN : (run + 1) * RUN])


@in_order
def add_up(columns, weights, before, now, anew, totals, n_threads):
    """Bring ``totals (k, d + 2)`` from the labels ``before (n,)`` to those of ``now``.

    They are sums, counts and numbers of members; ``weights (n,)`` may be none. ``anew``, or where
    that takes less time, of all rows afresh, and on ``n_threads``, which may be None, where that
    pays.

    Returns:
        How many have changed.
    """
    n_changed = 0
    for i in range(len(now)):
        n_changed += before[i] != now[i]
    few, n = len(totals) <= _FEW, len(now)
    anew = anew or n_changed > n * (min(ANEW, len(totals) * _PER_CLUSTER) if few else ANEW)
    if anew:
        totals[:] = 0
    n_numbers = n + 2 * (n if anew else n_changed) * columns.shape[1]
    if n_threads is not None and n_numbers >= _MANY:  # for None, this is not even compiled
        _bring_on_threads(columns, weights, before, now, anew, totals, n_threads)
    elif anew or n_changed:
        _bring(columns, weights, before, now, anew, totals)
    return n_changed


@in_order
def _bring(columns, weights, before, now, anew, totals):
    """Add all rows to ``totals (k, d + 2)``, or take those that changed from one to another."""
    if anew and len(totals) <= _FEW:
        for c in range(len(totals)):
            _add_cluster(columns, weights, now, c, totals[c])
    elif anew:
        _add_all(columns, weights, now, totals)
    else:
        for i in range(len(now)):
            if before[i] != now[i]:
                _add(columns, weights, i, -1.0, totals[before[i]])
                _add(columns, weights, i, 1.0, totals[now[i]])


@on_threads
def _bring_on_threads(columns, weights, before, now, anew, totals, n_threads):
    """Do what ``_bring`` does, on some threads."""
    size = RUN * -(-len(columns) // n_threads)
    parts = zeros_of_parts(n_threads, totals)
    for part in prange(n_threads):
        some = slice(part * size, (part + 1) * size)
        runs = slice(part * size // RUN, (part + 1) * size // RUN)
        of_some = before[some], now[some]
        _bring(columns[runs], weights[some], of_some[0], of_some[1], anew, parts[part, 0])
    add_parts(parts, totals)


@in_order
def losses(columns, aims, weights, labels, out):
    """Add to ``out (k,)`` how much worse the second best is for each of the rows labelled."""
    best, second = np.empty(RUN, columns.dtype), np.empty(RUN, columns.dtype)
    for run in range(-(-len(labels) // RUN)):
        some = labels[run * RUN : (run + 1) * RUN]
        lead_run(columns[run], aims, best, second)
        for i in range(len(some)):
            rise = 2 * np.float64(best[i] - second[i])
            out[some[i]] += rise * (weights[run * RUN + i] if len(weights) else 1.0)


@on_threads
def losses_on_threads(columns, aims, weights, labels, out):
    """Do what ``losses`` does, on as many threads as there are."""
    n_parts = -(-len(labels) // _ROWS)
    parts = zeros_of_parts(n_parts, out)
    for part in prange(n_parts):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        runs = columns[part * _ROWS // RUN :]
        losses(runs, aims, weights[some], labels[some], parts[part, 0])
    add_parts(parts, out)


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
def _add_all(columns, weights, labels, totals):
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
