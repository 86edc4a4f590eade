"""Bounds of the scores of a run of rows, and scores in full where these leave a doubt.

The centroid of the best is a guess, which is multiplied out, and so are its rivals, while the rows
are in cache: centroids whose bounds are no lower than what the guess has for sure.
"""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled import wide
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import in_order
from torchkm.kernels.compiled.rivals import SURE, compare, dot, nearest


@in_order
def room(k, like):
    """Return what ``settle`` writes to on its way: bounds ``like`` some numbers, and rivals."""
    numbers = np.empty((3, RUN), like.dtype)
    rivals, n_rivals = np.empty((RUN, k), np.int64), np.empty(RUN, np.int64)
    return numbers[0], numbers[1], numbers[2], rivals, n_rivals


@in_order
def settle(rows, seen, of_centroids, exact, rounding, work, found):
    """Find the best of ``k`` centroids for each row.

    Args:
        rows: ``(r, d)``.
        seen: what scores are along some directions ``(k, RUN)``, the length of what is left of
            each row, or more ``(RUN,)``, and their norms ``(RUN,)``.
        of_centroids: the length of what is left of each ``(k,)``, or more; and what rounding takes
            of a bound, whatever the row.
        exact: centroids ``(k, d)`` and bias ``(k,)`` that make scores in the dtype of the rows, and
            the centroids as near to the rows as these tell ``(k, d)``.
        rounding: what the difference of two such scores loses, for each unit of a row's norm and
            whatever the row, and that of squared distances for each unit of them.
        work: see ``room``.
        found: labels, scores, or less, and leads ``(r,)``, or less where these are above zero: they
            are proven then.

    Returns:
        How many scores were multiplied out beyond those of guesses.
    """
    scores, left, norms = seen
    rests, lost = of_centroids
    best, least, others, rivals, n_rivals = work
    labels, sure, leads = found
    guesses = np.empty(RUN, np.int32)
    wide.find_best(scores, best, guesses)
    for i in range(len(rows)):
        best[i] = dot(rows[i], exact[0][guesses[i]]) + exact[1][guesses[i]]
    _lower(best, norms, rounding, lost, least)
    _find_rivals(scores, left, rests, least, others, rivals, n_rivals)
    n_scored = 0
    for i in range(len(rows)):
        norm, n = norms[i], n_rivals[i]
        labels[i], leads[i] = 0, -1
        if n == 0 or not norm < np.inf:
            continue
        known, some = (guesses[i], best[i]), rivals[i, :n]
        labels[i], sure[i], leads[i] = _lead(
            rows[i], norm, some, known, others[i] + lost, exact, rounding
        )
        n_scored += n if n > 1 else 0
    return n_scored


@in_order
def _lower(best, norms, rounding, lost, least):
    """Write what the bound of a score is at ``least (RUN,)`` that may be as good as another is.

    Whatever rounding has done to both.
    """
    per_norm, at_least, _ = rounding
    for i in range(RUN):
        least[i] = best[i] - (norms[i] * per_norm + at_least) - lost


@in_order
def _find_rivals(scores, left, rests, least, others, rivals, n_rivals):
    """Write the ``rivals (RUN, k)`` of which no bound of a score is less, rising; and how many.

    And the highest bound of the ``others (RUN,)``.
    """
    n_rivals[:] = 0
    others[:] = -np.inf
    hits = np.empty(RUN, np.bool_)
    for c in range(len(scores)):
        n_hits = np.int32(0)
        for i in range(RUN):
            bound = scores[c, i] + left[i] * rests[c]
            hits[i] = not bound < least[i]
            n_hits += np.int32(hits[i])
            others[i] = bound if bound < least[i] and bound > others[i] else others[i]
        if n_hits:
            for i in range(RUN):
                if hits[i]:
                    rivals[i, n_rivals[i]] = c
                    n_rivals[i] += 1


@in_order
def _lead(row, norm, rivals, known, rest, exact, rounding):
    """Return which of the ``rivals (r,)`` is best for a row, its score, or less, and its lead.

    No other score is above the ``rest``, and that is too low for the best.
    """
    centroids, bias, given = exact
    per_norm, lost, per_sq_distance = rounding
    margin = norm * per_norm + lost
    label, first, second = compare(row, rivals, known, centroids, bias)
    sure = first - margin
    if second < sure:
        return label, sure, max(sure - max(second, rest), SURE)
    label, lead = nearest(row, rivals, given, per_sq_distance)
    return label, sure, lead
