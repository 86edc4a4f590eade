"""Wide rows along a few directions, and in full where that leaves a doubt.

What rows are along the directions bounds all of their scores (see ``kernels/subspace.py``). The
centroid of the best is a guess, which is multiplied out, and so are its rivals, while the row is at
hand: centroids whose bounds are no lower than what the guess has for sure.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled import columns, wide
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import in_order, on_threads
from torchkm.kernels.compiled.rivals import SURE, dot, tell_apart

# Rows that a thread takes at a time.
_ROWS = 4 * RUN


@in_order
def see(centroids, bias, directions, per_square, aims, rests):
    """Write what ``label`` sees of ``centroids (k, d)``: their ``aims`` and ``rests``."""
    m = len(directions)
    along, squares = columns.room(m, rests), np.empty(RUN, rests.dtype)
    left = np.empty(RUN, rests.dtype)
    for start in range(0, len(centroids), RUN):
        run = centroids[start : start + RUN]
        wide.measure(run, squares)
        wide.score(run, directions, along)
        _measure_rest(along, squares, per_square, left)
        for i in range(len(run)):  # to assign arrays takes seconds to compile, for what it may raise
            for j in range(m):
                aims[start + i, j] = along[j, i]
            aims[start + i, m] = bias[start + i]
            rests[start + i] = left[i]


@in_order
def label(rows, directions, seen, exact, rounding, labels, leads):
    """Find the best of ``k`` centroids for each row, and whether it leads.

    Args:
        rows: ``(n, d)``.
        directions: ``m`` of them, as aims; see ``wide_tile.py``.
        seen: centroids along the directions, and behind them what is added for a score
            ``(k, m + 1)``; the length of what is left of each ``(k,)``, or more; and what rounding
            takes of the square of what is left of a row, for each unit of its own square, and of a
            score, whatever the row.
        exact: centroids ``(k, d)`` and bias ``(k,)`` that make scores in the dtype of the rows, and
            the centroids as near to the rows as these tell ``(k, d)``.
        rounding: what the difference of two such scores loses, for each unit of a row's norm and
            whatever the row, and that of squared distances for each unit of them.
        labels: where they go ``(n,)``.
        leads: where it goes whether they lead ``(n,)``, above zero where they are proven.

    Returns:
        How many scores were multiplied out.
    """
    aims, rests, per_square, lost = seen
    k, dtype = len(aims), rests.dtype
    along, scores = columns.room(len(directions), rests), np.empty((k, RUN), dtype)
    squares, left = np.empty(RUN, dtype), np.empty(RUN, dtype)
    best, least = np.empty(RUN, dtype), np.empty(RUN, dtype)
    found, rivals = np.empty(RUN, np.int32), np.empty((RUN, k), np.int64)
    n_rivals, n_scored = np.empty(RUN, np.int64), 0
    for start in range(0, len(rows), RUN):
        some = slice(start, min(start + RUN, len(rows)))
        run = rows[some]
        wide.measure(run, squares)
        wide.score(run, directions, along)
        _measure_rest(along, squares, per_square, left)
        columns.score_run(along, aims, scores)
        wide.find_best(scores, best, found)
        _multiply(run, found, exact, best)
        _lower(best, squares, rounding, lost, least)
        _find_rivals(scores, left, rests, least, rivals, n_rivals)
        known = found, best, squares
        n_scored += _settle(
            run, known, rivals, n_rivals, exact, rounding, labels[some], leads[some]
        )
    return n_scored


@on_threads
def label_on_threads(rows, directions, seen, exact, rounding, labels, leads):
    """Do what ``label`` does, on as many threads as there are."""
    n_scored = 0
    for part in prange(-(-len(rows) // _ROWS)):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        n_scored += label(rows[some], directions, seen, exact, rounding, labels[some], leads[some])
    return n_scored


@in_order
def _measure_rest(along, squares, per_square, left):
    """Write what is ``left (RUN,)`` of rows beyond what they are ``along (m, RUN)``, or more."""
    for i in range(RUN):
        left[i] = squares[i]
    for j in range(len(along)):
        for i in range(RUN):
            left[i] -= along[j, i] * along[j, i]
    for i in range(RUN):
        left[i] = np.sqrt(max(left[i], left.dtype.type(0)) + per_square * squares[i])


@in_order
def _multiply(rows, found, exact, scores):
    """Write the ``scores (RUN,)`` of ``rows (r, d)`` by what was ``found (RUN,)`` for them."""
    centroids, bias, _ = exact
    for i in range(len(rows)):
        scores[i] = dot(rows[i], centroids[found[i]]) + bias[found[i]]


@in_order
def _lower(scores, squares, rounding, lost, least):
    """Write what the bound of a score is at ``least (RUN,)`` that may be as good as another is.

    Whatever rounding has done to both.
    """
    per_norm, at_least, _ = rounding
    for i in range(RUN):
        least[i] = scores[i] - (np.sqrt(squares[i]) * per_norm + at_least) - lost


@in_order
def _find_rivals(scores, left, rests, least, rivals, n_rivals):
    """Write the ``rivals (RUN, k)`` of which no bound of a score is less, rising; and how many."""
    n_rivals[:] = 0
    hits = np.empty(RUN, np.bool_)
    for c in range(len(scores)):
        n_hits = np.int32(0)
        for i in range(RUN):
            hits[i] = not scores[c, i] + left[i] * rests[c] < least[i]
            n_hits += np.int32(hits[i])
        if n_hits:
            for i in range(RUN):
                if hits[i]:
                    rivals[i, n_rivals[i]] = c
                    n_rivals[i] += 1


@in_order
def _settle(rows, known, rivals, n_rivals, exact, rounding, labels, leads):
    """Write labels and leads of ``rows (r, d)`` by their rivals; return how many were scored.

    Of the rows is ``known`` whose score was multiplied out, that score, and their squares.
    """
    found, best, squares = known
    n_scored = 0
    for i in range(len(rows)):
        norm, n = np.sqrt(squares[i]), n_rivals[i]
        labels[i], leads[i] = 0, -1
        if n == 0 or not norm < np.inf:
            continue
        labels[i], leads[i] = rivals[i, 0], SURE
        if n > 1:
            guess, some = (found[i], best[i]), rivals[i, :n]
            labels[i], leads[i] = tell_apart(rows[i], norm, some, guess, exact, rounding)
            n_scored += n
    return n_scored
