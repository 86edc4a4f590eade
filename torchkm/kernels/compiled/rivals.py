"""Which of some centroids is nearest a row, told apart while the row is at hand."""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.jit import in_order, side_by_side

# Rows that a thread takes at a time.
ROWS = 64

# What is known of scores where none is.
UNKNOWN = np.int32(-1), np.float32(0)

# A lead of which no more is known than that it is one, and the least that is; and none.
SURE, _NONE = np.float32(2.0**-126), np.float32(0)


@in_order
def tell_apart(row, norm, rivals, known, exact, rounding):
    """Return which of the ``rivals (r,)`` is best for a row, and whether it leads: ``SURE``, or 0.

    By their scores, of which one may be ``known``: whose it is, or -1, and what. Where scores are
    too close, by squared distances. How far it leads is not said, as others may be less behind.
    """
    centroids, bias, given = exact
    per_norm, lost, per_sq_distance = rounding
    label, first, second = compare(row, rivals, known, centroids, bias)
    if first - second > norm * per_norm + lost:
        return label, SURE
    return nearest(row, rivals, given, per_sq_distance)


@in_order
def compare(row, rivals, known, centroids, bias):
    """Return which of the ``rivals (r,)`` has the best score for a row, that, and the next best.

    One may be ``known``: whose it is, or -1, and what.
    """
    guess, known_score = known
    first = second = row.dtype.type(-np.inf)
    label = rivals[0]
    for c in rivals:
        score = known_score if c == guess else dot(row, centroids[c]) + bias[c]
        if score > first:
            first, second, label = score, first, c
        else:
            second = max(second, score)
    return label, first, second


@in_order
def nearest(row, rivals, given, per_sq_distance):
    """Return which of the ``rivals (r,)`` is nearest, and whether it leads: ``SURE``, or 0.

    By squared differences from the centroids as they were ``given (k, d)``, which lose the share
    ``per_sq_distance`` of their sum.
    """
    label = rivals[0]
    first = second = np.inf
    for c in rivals:
        sq_distance = _sq_distance(row, given[c])
        if sq_distance < first:
            first, second, label = sq_distance, first, c
        else:
            second = min(second, sq_distance)
    return label, SURE if second - first > per_sq_distance * second + SURE else _NONE


@in_order
def at_least(numbers, least, which):
    """Write ``which (k,)`` of the numbers are no less, rising; return how many.

    Mostly it is one, which is found side by side: as the sum of all that are.
    """
    count = total = np.int32(0)
    for c in range(len(numbers)):
        is_one = not numbers[c] < least
        count += np.int32(is_one)
        total += np.int32(c) if is_one else np.int32(0)
    which[0] = total
    if count == 1:
        return count
    count = np.int32(0)
    for c in range(len(numbers)):
        which[count] = c
        count += np.int32(not numbers[c] < least)
    return count


@side_by_side
def dot(a, b):
    """Return the product of two rows of numbers."""
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@side_by_side
def _sq_distance(a, b):
    total = 0.0
    for j in range(len(a)):
        apart = np.float64(a[j]) - np.float64(b[j])
        total += apart * apart
    return total
