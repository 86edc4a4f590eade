"""Wide rows against few centroids: scored, and looked through while the scores are in cache.

A library's product of so few columns waits for memory, and so does the loop that looks through its
scores; here rows are read once.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled import wide
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import in_order, on_threads
from torchkm.kernels.compiled.rivals import nearest

# Rows that a thread takes at a time.
_ROWS = 4 * RUN


@in_order
def label(rows, aims, given, rounding, labels, leads):
    """Find the best of ``k`` centroids for each row, and whether it leads.

    Args:
        rows: ``(n, d)``.
        aims: what they are scored by; see ``wide_tile.py``.
        given: centroids as near to the rows as scores tell ``(k, d)``.
        rounding: what the difference of two scores loses, for each unit of a row's norm and
            whatever the row, and that of squared distances for each unit of them.
        labels: where they go ``(n,)``.
        leads: where it goes whether they lead ``(n,)``, above zero where they are proven.
    """
    scores, squares = np.empty((len(aims), RUN), rows.dtype), np.empty(RUN, rows.dtype)
    for start in range(0, len(rows), RUN):
        some = slice(start, min(start + RUN, len(rows)))
        wide.measure(rows[some], squares)
        wide.score(rows[some], aims, scores)
        _settle(rows[some], scores, squares, given, rounding, labels[some], leads[some])


@on_threads
def label_on_threads(rows, aims, given, rounding, labels, leads):
    """Do what ``label`` does, on as many threads as there are."""
    for part in prange(-(-len(rows) // _ROWS)):
        some = slice(part * _ROWS, (part + 1) * _ROWS)
        label(rows[some], aims, given, rounding, labels[some], leads[some])


@in_order
def _settle(rows, scores, squares, given, rounding, labels, leads):
    """Write labels and leads of ``rows (r, d)`` by their ``scores (k, RUN)``."""
    best, second = np.full(RUN, -np.inf, rows.dtype), np.full(RUN, -np.inf, rows.dtype)
    found, rivals = np.zeros(RUN, np.int32), np.empty(len(scores), np.int64)
    for c in range(len(scores)):
        for i in range(RUN):
            score = scores[c, i]
            better = score > best[i]
            less = best[i] if better else score
            second[i] = less if less > second[i] else second[i]
            best[i] = score if better else best[i]
            found[i] = np.int32(c) if better else found[i]
    per_norm, lost, per_sq_distance = rounding
    for i in range(len(rows)):
        margin = np.sqrt(squares[i]) * per_norm + lost
        labels[i], leads[i] = found[i], best[i] - second[i] - margin
        if not leads[i] > 0:  # so where it is no number
            n_rivals = _near(scores, i, best[i] - margin, rivals)
            labels[i], leads[i] = nearest(rows[i], rivals[:n_rivals], given, per_sq_distance)


@in_order
def _near(scores, i, least, rivals):
    """Write which of the ``scores (k, RUN)`` of row ``i`` are no less; return how many."""
    n_rivals = 0
    for c in range(len(scores)):
        if not scores[c, i] < least:
            rivals[n_rivals] = c
            n_rivals += 1
    return n_rivals
