"""Wide rows along a few directions, and in full where that leaves a doubt.

What rows are along the directions bounds all of their scores (see ``kernels/subspace.py``). Either
they are projected while they are at hand, or that was kept of them, as they are looked at again.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled import bounds, columns, wide
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import in_order, on_threads

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
        for i in range(len(run)):
            for j in range(m):  # to assign them takes seconds to compile, for what may be raised
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
    dtype, k = rests.dtype, len(aims)
    along, scores = columns.room(len(directions), rests), np.empty((k, RUN), dtype)
    left, norms, best = np.empty(RUN, dtype), np.empty(RUN, dtype), np.empty(RUN, dtype)
    work, n_scored = bounds.room(k, rests), 0
    for start in range(0, len(rows), RUN):
        some = slice(start, min(start + RUN, len(rows)))
        run = rows[some]
        wide.measure(run, norms)
        wide.score(run, directions, along)
        _measure_rest(along, norms, per_square, left)
        for i in range(RUN):
            norms[i] = np.sqrt(norms[i])
        columns.score_run(along, aims, scores)
        of_run, found = (scores, left, norms), (labels[some], best, leads[some])
        n_scored += bounds.settle(run, of_run, (rests, lost), exact, rounding, work, found)
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
def look(kept, places, rows, which, origin, norms, seen, exact, rounding, found):
    """Find the best of ``k`` centroids for rows whose projections are kept.

    Args:
        kept: rows along ``m`` directions, and the length of what is left, or more ``(n, > m)``.
        places: of some of these ``(b,)``.
        rows: ``(r, d)``.
        which: of them stands at each place ``(b,)``.
        origin: what they are shifted by ``(d,)``.
        norms: of all rows, shifted ``(n,)``.
        seen: what ``label`` is given of centroids, but for ``per_square``.
        exact: see ``label``; of shifted rows.
        rounding: see ``label``.
        found: see ``bounds.settle``.

    Returns:
        How many scores were multiplied out beyond those of guesses.
    """
    (aims, rests, lost), (labels, best, leads) = seen, found
    k, m = len(aims), aims.shape[1] - 1
    along, scores = columns.room(m, rests), np.zeros((k, RUN), rests.dtype)
    numbers, zeros = np.zeros((RUN, m), rests.dtype), np.zeros(m, rests.dtype)
    run, left = np.empty((RUN, len(origin)), origin.dtype), np.zeros(RUN, rests.dtype)
    of_run, work, n_scored = np.zeros(RUN, norms.dtype), bounds.room(k, norms), 0
    for start in range(0, len(places), RUN):
        some = slice(start, min(start + RUN, len(places)))
        for i in range(some.stop - start):
            place = places[start + i]
            left[i], of_run[i] = kept[place, m], norms[place]
            _shift(kept[place], zeros, numbers[i])
            _shift(rows[which[start + i]], origin, run[i])
        columns.turn(numbers, zeros, along, 0)
        columns.score_run(along, aims, scores)
        known, into = (scores, left, of_run), (labels[some], best[some], leads[some])
        shifted = run[: some.stop - start]
        n_scored += bounds.settle(shifted, known, (rests, lost), exact, rounding, work, into)
    return n_scored


@on_threads
def look_on_threads(kept, places, rows, which, origin, norms, seen, exact, rounding, found):
    """Do what ``look`` does, on as many threads as there are."""
    n_scored = 0
    for part in prange(-(-len(places) // _ROWS)):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        into = found[0][some], found[1][some], found[2][some]
        n_scored += look(
            kept, places[some], rows, which[some], origin, norms, seen, exact, rounding, into
        )
    return n_scored


@in_order
def _shift(row, origin, into):
    """Write as many numbers of a row ``(> m,)`` as there is room for ``(m,)``, less the origin."""
    for j in range(len(into)):
        into[j] = row[j] - origin[j]
