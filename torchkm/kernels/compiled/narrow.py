"""Narrow rows that are seen once: labels, distances and sums in one loop over them."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.columns import (
    RUN,
    add_squares,
    label_run,
    room,
    turn,
)
from torchkm.kernels.compiled.jit import (
    add_parts,
    in_order,
    on_threads,
    side_by_side,
    zeros_of_parts,
)

# Rows that a thread takes at a time: so few that threads have about as many.
_ROWS = 8 * RUN


@in_order
def label(rows, origin, aims, labels):
    """Write ``labels (n,)`` of ``rows (n, d)``; return the sum of their squares.

    Rows are measured from the ``origin (d,)``, as ``aims (k, d + 1)`` are.
    """
    squares, of_run = 0.0, _room(origin)
    _, _, _, norms = of_run
    for start in range(0, len(rows), RUN):
        some = slice(start, min(start + RUN, len(rows)))
        _look(rows[some], origin, aims, labels[some], of_run)
        for i in range(len(rows[some])):
            squares += norms[i]
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
    of_run = _room(origin)
    _, best, _, norms = of_run
    for start in range(0, len(rows), RUN):
        some = slice(start, min(start + RUN, len(rows)))
        _look(rows[some], origin, aims, labels[some], of_run)
        out = sq_distances[some]
        for i in range(len(out)):
            sq_distance = norms[i] - 2 * best[i]
            out[i] = 0 if sq_distance < 0 else sq_distance  # a NaN stays one
        if len(counts):
            add(rows[some], weights[some], labels[some], counts, sums)


@on_threads
def read_on_threads(n_threads, rows, origin, aims, weights, labels, sq_distances, counts, sums):
    """Do what ``read`` does, on so many threads."""
    size = RUN * -(-len(rows) // (RUN * n_threads))
    all_counts, all_sums = zeros_of_parts(n_threads, counts), zeros_of_parts(n_threads, sums)
    for part in prange(n_threads):
        some = slice(part * size, (part + 1) * size)
        into = labels[some], sq_distances[some]
        totals = all_counts[part, 0], all_sums[part, 0]
        read(rows[some], origin, aims, weights[some], into[0], into[1], totals[0], totals[1])
    add_parts(all_counts, counts)
    add_parts(all_sums, sums)


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


@in_order
def _room(origin):
    """Return room for the columns of a run, best scores and whose they are, and squared norms."""
    dtype, columns = origin.dtype, room(len(origin), origin)
    return columns, np.empty(RUN, dtype), np.empty(RUN, np.int32), np.empty(RUN, dtype)


@in_order
def _look(rows, origin, aims, labels, of_run):
    """Write ``labels (r,)`` of the rows of a run, their best scores and their squared norms."""
    columns, best, found, norms = of_run
    turn(rows, origin, columns, 0)
    label_run(columns, aims, best, found, labels)
    norms[:] = 0
    add_squares(columns, norms)
