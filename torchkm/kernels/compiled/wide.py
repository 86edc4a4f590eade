"""What is found of a run of wide rows, as they lie: their scores, and what these say."""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import in_order
from torchkm.kernels.compiled.rivals import dot
from torchkm.kernels.compiled.wide_tile import AT_ONCE, score_one, score_some


@in_order
def score(rows, aims, scores):
    """Write the ``scores (k, RUN)`` of ``rows (r, d)`` by ``aims``; see ``wide_tile.py``."""
    whole = len(rows) - len(rows) % AT_ONCE
    for i in range(0, whole, AT_ONCE):
        score_some(rows, aims, i, scores)
    for i in range(whole, len(rows)):
        score_one(rows, aims, i, scores)


@in_order
def measure(rows, squares):
    """Write the squared norms of ``rows (r, d)``, as the first of ``squares (RUN,)``."""
    for i in range(len(rows)):
        squares[i] = dot(rows[i], rows[i])


@in_order
def find_best(scores, best, found):
    """Write the ``best (RUN,)`` of ``scores (k, RUN)``, and of which it was ``found (RUN,)``."""
    best[:] = -np.inf
    found[:] = 0
    for c in range(len(scores)):
        for i in range(RUN):
            better = scores[c, i] > best[i]
            best[i] = scores[c, i] if better else best[i]
            found[i] = np.int32(c) if better else found[i]
