"""Labels from scores in the dtype of rows, and what rounding leaves to be told apart."""

from __future__ import annotations

import numpy as np
from numba import prange

from torchkm.kernels.compiled.jit import in_order, on_threads
from torchkm.kernels.compiled.rivals import ROWS, SURE, at_least, dot, nearest


@in_order
def settle(rows, product, exact, rounding, labels, leads):
    """Find the best of ``k`` centroids for each row, and by how much it leads.

    Args:
        rows: ``(b, d)``.
        product: of these and centroids ``(>= b, >= k)``. It comes out as scores.
        exact: what is added to a product for a score ``(k,)``, and the centroids as near to the
            rows as scores tell ``(k, d)``.
        rounding: what the difference of two scores loses, for each unit of a row's norm and
            whatever the row, and that of squared distances for each unit of them.
        labels: where they go ``(b,)``.
        leads: where it goes how far they lead ``(b,)``, above zero where they are proven.
    """
    bias, given = exact
    per_norm, lost, per_sq_distance = rounding
    rivals = np.empty(len(bias), np.int64)
    for i in range(len(rows)):
        norm = np.sqrt(dot(rows[i], rows[i]))
        labels[i], leads[i] = 0, -1
        if not norm < np.inf:
            continue
        scores = product[i, : len(bias)]
        best = _add(scores, bias)
        n_rivals = at_least(scores, best - (norm * per_norm + lost), rivals)
        labels[i], leads[i] = rivals[0], SURE
        if n_rivals > 1:
            labels[i], leads[i] = nearest(rows[i], rivals[:n_rivals], given, per_sq_distance)


@on_threads
def settle_on_threads(rows, product, exact, rounding, labels, leads):
    """Do what ``settle`` does, on as many threads as there are."""
    for part in prange(-(-len(rows) // ROWS)):
        some = slice(part * ROWS, (part + 1) * ROWS)
        settle(rows[some], product[some], exact, rounding, labels[some], leads[some])


@in_order
def _add(scores, bias):
    """Add the ``bias (k,)`` to scores, and return the best of these."""
    best = scores.dtype.type(-np.inf)
    for c in range(len(scores)):
        scores[c] += bias[c]
        best = scores[c] if scores[c] > best else best
    return best
