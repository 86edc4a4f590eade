"""Narrow rows that are seen once: labels, distances and sums in one loop over them."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.columns import label_run, measure_run, squares_of, turn
from torchkm.kernels.compiled.jit import in_order, on_threads, side_by_side
from torchkm.kernels.compiled.rivals import dot
from torchkm.kernels.layout import RUN

# Rows that a thread takes at a time: so few that threads have about as many.
_ROWS = 4 * RUN


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
        turn(rows[some], origin, columns, 0)
        squares += squares_of(columns, len(rows[some]))
        label_run(columns, aims, scores, best, labels[some])
    return squares


@on_threads
def label_on_threads(rows, origin, aims, labels):
    """Do what ``label`` does, on as many threads as there are."""
    squares = 0.0
    for part in prange(-(-len(rows) // _ROWS)):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        squares += label(rows[some], origin, aims, labels[some])
    return squares


@in_order
def read(rows, origin, aims, weights, labels, sq_distances, counts, sums):
    """Write ``labels`` and ``sq_distances (n,)`` of rows as ``label`` takes them, and add them up.

    As ``add`` does, or not at all where there are no ``counts``.
    """
    n, d = rows.shape
    columns = np.empty((d, RUN), origin.dtype)
    scores, best = np.empty(RUN, origin.dtype), np.empty(RUN, origin.dtype)
    for start in range(0, n, RUN):
        some = slice(start, min(start + RUN, n))
        turn(rows[some], origin, columns, 0)
        label_run(columns, aims, scores, best, labels[some])
        measure_run(columns, best, scores, sq_distances[some])
    if len(counts):
        add(rows, weights, labels, counts, sums)


@on_threads
def read_on_threads(rows, origin, aims, weights, labels, sq_distances, counts, sums):
    """Do what ``read`` does, on as many threads as there are."""
    n_parts = -(-len(rows) // _ROWS)
    all_counts = np.zeros((n_parts, len(counts)))
    all_sums = np.zeros((n_parts, sums.shape[0], sums.shape[1]))
    for part in prange(n_parts):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        into = labels[some], sq_distances[some]
        totals = all_counts[part], all_sums[part]
        read(rows[some], origin, aims, weights[some], into[0], into[1], totals[0], totals[1])
    for part in range(n_parts):
        counts += all_counts[part]
        sums += all_sums[part]


@in_order
def measure(rows, best, sq_distances):
    """Write the ``sq_distances (n,)`` that the best scores ``(n,)`` of ``rows (n, d)`` stand for.

    Rows are given from the origin.
    """
    for i in range(len(rows)):
        sq_distance = dot(rows[i], rows[i]) - 2 * best[i]
        sq_distances[i] = 0 if sq_distance < 0 else sq_distance  # a NaN stays one


@side_by_side
def measure_from(rows, centroids, labels, index, sq_distances):
    """Write the ``sq_distances (m,)`` of the rows of ``index (m,)`` to those of their ``labels``.

    As sums of squared differences.
    """
    for at in range(len(index)):
        i = np.uint64(index[at])
        c = np.uint64(labels[i])
        square = sq_distances.dtype.type(0)
        for j in range(rows.shape[1]):
            apart = rows[i, j] - centroids[c, j]
            square += apart * apart
        sq_distances[at] = square


@on_threads
def measure_from_on_threads(rows, centroids, labels, index, sq_distances):
    """Do what ``measure_from`` does, on as many threads as there are."""
    for part in prange(-(-len(index) // _ROWS)):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        measure_from(rows, centroids, labels, index[some], sq_distances[some])


@in_order
def add(rows, weights, labels, counts, sums):
    """Add ``rows (n, d)`` to the ``counts (k,)`` and ``sums (k, d)`` of their clusters, in float64.

    Where there are no ``weights (n,)``, a row counts once.
    """
    for i in range(len(rows)):
        c = np.uint64(labels[i])
        total, weight = sums[c], weights[i] if len(weights) else 1.0
        for j in range(rows.shape[1]):
            total[j] += weight * np.float64(rows[i, j])
        counts[c] += weight
