"""The best centroid of each row from bounds of all scores, and whole rows where rivals remain.

Of scores ``x'c - |c|^2 / 2`` all that is known at first is a bound from above, and how loose it is.
The centroid with the highest bound is the guess. Where every other bound lies below the lower bound
of the guess, that is the label. Elsewhere the guess is multiplied out, and then, where that does
not settle it, what still can be better: its rivals, a few for each row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels.csr import CsrRows
from torchkm.kernels.rows import take_out
from torchkm.kernels.scratch import room

# A number multiplied for one pair takes this much longer than in a product.
_SINGLY = 8

# Of all pairs this share may be multiplied out singly; with more, whole products cost less.
_SHARE = 1 / 2

# Gives, for some rows ``(o,)``, a matrix with these rows in it, and at which of its rows ``(o,)``.
Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]


def among(rows: Tensor, dtype: torch.dtype) -> Fetch:
    """Return what gives ``rows (b, d)`` that are at hand, in a dtype."""
    if rows.dtype == dtype:
        return lambda at: (rows, at)
    return lambda at: (rows.index_select(0, at).to(dtype), torch.arange(len(at)))


def in_doubt(leads: Tensor) -> Tensor:
    """Return which of ``leads (b,)`` are not above zero, or not a number, rising."""
    return torch.nonzero(~(leads > 0)).squeeze(1)


class Found(NamedTuple):
    """What is known of ``b`` rows, filled in block by block.

    Attributes:
        labels: of the best score ``(b,)``.
        best: that score ``(b,)``, or what it is at least.
        leads: how far it is above all others ``(b,)``, whatever rounding has done: above zero
            where the label is proven.
        norms: of the rows ``(b,)``, or a little more.
    """

    labels: Tensor
    best: Tensor
    leads: Tensor
    norms: Tensor

    @classmethod
    def room(cls, n: int, dtype: torch.dtype) -> Found:
        """Return room for ``n`` rows."""
        labels = torch.empty(n, dtype=torch.int64)
        return cls(labels, *(torch.empty(n, dtype=dtype) for _ in range(3)))

    def part(self, at: slice) -> Found:
        """Return a part of the room."""
        return Found(*(field[at] for field in self))


class Bounds(NamedTuple):
    """How far bounds of scores may be off.

    Attributes:
        looseness: what the score of a centroid may lie below its bound for each unit of the
            length that comes with a row, ``(k,)``.
        at_least: what rounding took of a bound, whatever the row ``()``.
        per_size: and for each unit of the bound itself.
    """

    looseness: Tensor
    at_least: Tensor
    per_size: float


class Rivals:
    """Finds the best of some centroids for each row.

    Args:
        centroids: ``(k, d)``, at least two.
        bias: what makes a score of a product ``(k,)``.
        bounds: how far the bounds that come in may be off.
        rounding: what the difference of two scores loses in the dtype of the centroids, for each
            unit of a row's norm ``()`` and whatever the row ``()``.
    """

    def __init__(
        self, centroids: Tensor, bias: Tensor, bounds: Bounds, rounding: tuple[Tensor, Tensor]
    ) -> None:
        self._centroids, self._bias, self._rounding = centroids, bias, rounding
        k = len(bias)
        self._marks = torch.arange(k, dtype=torch.int32)
        self._bits = (k - 1).bit_length()
        # A label in its last bits makes a bound larger or smaller by so much.
        self._bounds = bounds._replace(per_size=bounds.per_size + 2.0 ** (self._bits - 23))
        self._n_rows = self._n_pairs = 0

    @property
    def are_few(self) -> bool:
        """Whether what was multiplied out so far cost less than whole products would have."""
        return _SINGLY * self._n_pairs <= _SHARE * self._n_rows * len(self._marks)

    def settle(self, uppers: Tensor, lengths: Tensor, fetch: Fetch, into: Found) -> None:
        """Find the best centroid of each row.

        Args:
            uppers: bounds of its scores ``(b, k)`` in float32, of which nothing remains.
            lengths: what their looseness is measured in ``(b,)``.
            fetch: gives the rows themselves.
            into: where their norms stand, and what is found goes.
        """
        # A bound brings its label along in its last bits: a maximum that finds its index takes
        # five times as long.
        uppers.view(torch.int32).bitwise_and_(-1 << self._bits).bitwise_or_(self._marks)
        first = torch.amax(uppers, 1)  # (b, k) -> (b,)
        labels = first.view(torch.int32) & ((1 << self._bits) - 1)
        into.labels.copy_(labels.clamp_(max=len(self._marks) - 1))  # of NaN it may be anything
        take_out(uppers, into.labels, -torch.inf)
        others = self._above(torch.amax(uppers, 1))  # (b,)
        loose = lengths * self._bounds.looseness[into.labels]
        into.best.copy_(2 * first - self._above(first) - loose)
        into.leads.copy_(into.best - others)
        self._n_rows += len(uppers)
        doubtful = in_doubt(into.leads)  # (o,)
        if not len(doubtful) or len(self._marks) <= _SINGLY:
            return
        rows, places = fetch(doubtful)
        self._measure_guesses(doubtful, rows, places, others, into)
        still = in_doubt(into.leads[doubtful])
        if len(still):
            self._measure_rivals(uppers, doubtful[still], rows, places[still], into)

    def _above(self, uppers: Tensor) -> Tensor:
        """Return what no score with one of these ``uppers (b,)`` can be above ``(b,)``."""
        _, at_least, per_size = self._bounds
        return torch.maximum(uppers * (1 + per_size), uppers * (1 - per_size)).add_(at_least)

    def _exactly(self, norms: Tensor) -> Tensor:
        per_norm, at_least = self._rounding
        return norms * per_norm + at_least

    def _measure_guesses(
        self, at: Tensor, rows: Tensor, places: Tensor, others: Tensor, into: Found
    ) -> None:
        """Multiply out rows ``at (o,)`` and the centroids of their labels."""
        one_each = torch.arange(len(at) + 1)
        scores = self._scores(into.labels[at], one_each, rows, places)  # (o,)
        best = scores - self._exactly(into.norms[at])
        into.best[at] = best
        into.leads[at] = best - others[at]
        self._n_pairs += len(at)

    def _measure_rivals(
        self, uppers: Tensor, at: Tensor, rows: Tensor, places: Tensor, into: Found
    ) -> None:
        """Multiply out rows ``at (o,)`` and all centroids that can be nearest to them."""
        o, k = len(at), len(self._marks)
        others = room("others", o, k, torch.float32)
        torch.index_select(uppers, 0, at, out=others)
        best, norms = into.best[at].float(), into.norms[at]
        rivals = others >= (2 * best - self._above(best)).unsqueeze(1)  # (o, k)
        rivals.view(-1)[into.labels[at] + torch.arange(0, o * k, k)] = True
        pairs = torch.from_numpy(np.flatnonzero(rivals.numpy()))  # (p,)
        self._n_pairs += len(pairs)
        if _SINGLY * len(pairs) > o * k:
            return
        offsets = torch.searchsorted(pairs, torch.arange(0, (o + 1) * k, k))  # (o + 1,)
        columns = pairs % k
        first, second, place = _two_best(self._scores(columns, offsets, rows, places), offsets)
        others.view(-1)[pairs] = -torch.inf
        rest = self._above(torch.amax(others, 1))
        exactly = self._exactly(norms)
        into.labels[at] = columns[place]
        into.best[at] = first - exactly
        into.leads[at] = torch.minimum(first - second, first - rest) - exactly

    def _scores(self, columns: Tensor, offsets: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """Return the scores ``(p,)`` of centroids with some of ``rows (b, d)``.

        Of row ``places[i]`` with those of ``columns[offsets[i]:offsets[i + 1]]``.
        """
        spread = offsets.new_zeros(len(rows) + 1).index_copy_(0, places + 1, offsets.diff())
        pairs = CsrRows(spread.cumsum_(0), columns, self._bias[columns], len(self._marks))
        return torch.sparse.sampled_addmm(pairs.matrix, rows, self._centroids.T).values()


def _two_best(scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest score of each run ``(o,)``, the next one, and where the largest stands."""
    starts = offsets[:-1].numpy()
    best = torch.from_numpy(np.maximum.reduceat(scores.numpy(), starts))
    run = torch.repeat_interleave(offsets.diff())  # (p,)
    at = torch.nonzero(scores == best[run]).squeeze(1)
    place = offsets[:-1].clone().index_copy_(0, run[at], at)
    rest = scores.index_fill(0, place, -torch.inf)
    return best, torch.from_numpy(np.maximum.reduceat(rest.numpy(), starts)), place
