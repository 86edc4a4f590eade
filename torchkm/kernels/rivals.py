"""The best centroid of each row from bounds of all scores, and whole rows where rivals remain.

Of scores ``x'c - |c|^2 / 2`` all that is known at first is a bound from above, and how loose it is.
The centroid with the highest bound is the guess. Where every other bound lies below the lower bound
of the guess, that is the label. Elsewhere what still can be better is multiplied out: its rivals, a
few for each row; where bounds are so loose that these would be many, the guess comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels.csr import CsrRows
from torchkm.kernels.keys import IntegerKeys, Keys
from torchkm.kernels.rows import take_out
from torchkm.kernels.scratch import room

# A number multiplied for one pair takes this much longer than in a product.
_SINGLY = 8

# Of all pairs this share may be multiplied out singly; with more, whole products cost less.
_SHARE = 1 / 2

# Of so many rows it is asked how many rivals they have, and how few of all centroids that may be.
_SAMPLE, _FEW = 2**6, 1 / 16

# Numbers that may be taken apart where a product's digits are too few to tell rivals.
_APART = 2**20

# Gives, for some rows ``(o,)``, a matrix with these rows in it, and at which of its rows ``(o,)``.
Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]


def among(rows: Tensor, dtype: torch.dtype) -> Fetch:
    """Return what gives ``rows (b, d)`` that are at hand, in a dtype."""
    if rows.dtype == dtype:
        return lambda at: (rows, at)
    return lambda at: (rows.index_select(0, at).to(dtype), torch.arange(len(at), device="cpu"))


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
        labels = torch.empty(n, dtype=torch.int64, device="cpu")
        return cls(labels, *(torch.empty(n, dtype=dtype, device="cpu") for _ in range(3)))

    def part(self, at: slice) -> Found:
        """Return a part of the room."""
        return Found(*(field[at] for field in self))


def _guess(uppers: Tensor, keys: Keys, lengths: Tensor, into: Found) -> Tensor:
    """Take the centroid of the highest bound of each row, and what proves that it is the best.

    Args:
        uppers: bounds of scores ``(b, k)``. They come out as keys, the lowest for the guess.
        keys: how labels are written into these, and how far they may be off.
        lengths: what that is measured in ``(b,)``.
        into: where what is found goes.

    Returns:
        What no score but the guess's can be above ``(b,)``.
    """
    keys.mark(uppers)
    best = torch.amax(uppers, 1)  # (b, k) -> (b,)
    into.labels.copy_(keys.labels(best))
    take_out(uppers, into.labels, keys.lowest)
    bounds, first = keys.bounds, keys.uppers(best, lengths)
    others = bounds.above(keys.uppers(torch.amax(uppers, 1), lengths))
    into.best.copy_(2 * first - bounds.above(first) - bounds.loose(into.labels, lengths))
    into.leads.copy_(into.best - others)
    return others


class _Doubtful(NamedTuple):
    """Rows whose label is not proven."""

    at: Tensor  # which of all they are, (o,)
    rows: Tensor  # a matrix that has them
    places: Tensor  # where in it they stand, (o,)

    def some(self, which: Tensor) -> _Doubtful:
        return _Doubtful(self.at[which], self.rows, self.places[which])


class Rivals:
    """Finds the best of some centroids for each row.

    Args:
        centroids: ``(k, d)``, at least two.
        bias: what makes a score of a product ``(k,)``.
        rounding: what the difference of two scores loses in the dtype of the centroids, for each
            unit of a row's norm ``()`` and whatever the row ``()``.
        given: the centroids that are as near to the rows as scores tell ``(k, d)``: not shifted,
            where the rows are not.
        guess_first: whether bounds are so loose that a guess is worth multiplying out before what
            may be better.
    """

    def __init__(
        self,
        centroids: Tensor,
        bias: Tensor,
        rounding: tuple[Tensor, Tensor],
        given: Tensor,
        guess_first: bool,
    ) -> None:
        self._centroids, self._bias, self._rounding = centroids, bias, rounding
        self._given = given
        self._k, self._guess_first = len(bias), guess_first
        self._n_rows = self._n_pairs = 0

    @property
    def are_few(self) -> bool:
        """Whether what was multiplied out so far cost less than whole products would have."""
        return _SINGLY * self._n_pairs <= _SHARE * self._n_rows * self._k

    def promise_few(self, uppers: Tensor, keys: IntegerKeys, lengths: Tensor) -> bool:
        """Return whether so few rivals remain of some of these rows that to settle all will pay.

        Of bounds ``(b, k)`` before they are marked, and their ``lengths (b,)``.
        """
        every = max(1, len(uppers) // _SAMPLE)
        some = keys.scores(uppers[::every])
        best, bounds = some.amax(1), keys.bounds
        loose = torch.addcmul(bounds.fixed.max(), lengths[::every], bounds.looseness.max())
        loose += 2 * (bounds.per_size * best.abs() + bounds.at_least)
        n_close = torch.count_nonzero(some >= (best - loose).unsqueeze(1)).item()
        return _SINGLY * (n_close - len(some)) <= _FEW * some.numel()

    def settle(
        self, uppers: Tensor, keys: Keys, lengths: Tensor, fetch: Fetch, into: Found
    ) -> None:
        """Find the best centroid of each row.

        Args:
            uppers: bounds of its scores ``(b, k)``, of which nothing remains.
            keys: how labels are written into these, and how far they may be off.
            lengths: what that is measured in ``(b,)``.
            fetch: gives the rows themselves.
            into: where their norms stand, and what is found goes.
        """
        others = _guess(uppers, keys, lengths, into)
        self._n_rows += len(uppers)
        at = in_doubt(into.leads)  # (o,)
        if not len(at) or self._k <= _SINGLY:
            return
        doubtful = _Doubtful(at, *fetch(at))
        if self._guess_first:
            self._measure_guesses(doubtful, others, into)
            doubtful = doubtful.some(in_doubt(into.leads[at]))
        if len(doubtful.at):
            left = room("others", len(doubtful.at), self._k, uppers.dtype)
            torch.index_select(uppers, 0, doubtful.at, out=left)
            self._measure_rivals(left, keys, lengths[doubtful.at], doubtful, into)

    def _exactly(self, norms: Tensor) -> Tensor:
        per_norm, at_least = self._rounding
        return norms * per_norm + at_least

    def _measure_guesses(self, doubtful: _Doubtful, others: Tensor, into: Found) -> None:
        """Multiply out rows and the centroids of their labels."""
        at = doubtful.at
        scores = self._scores(
            into.labels[at], torch.arange(len(at) + 1, device="cpu"), doubtful
        )  # (o,)
        best = scores - self._exactly(into.norms[at])
        into.best[at] = best
        into.leads[at] = best - others[at]
        self._n_pairs += len(at)

    def _measure_rivals(
        self, uppers: Tensor, keys: Keys, lengths: Tensor, doubtful: _Doubtful, into: Found
    ) -> None:
        """Multiply out rows and all centroids that can be nearest to them.

        ``uppers (o, k)`` bound the scores of all but the guess.
        """
        (o, k), at = uppers.shape, doubtful.at
        best, norms, bounds = into.best[at].float(), into.norms[at], keys.bounds
        least = keys.least(2 * best - bounds.above(best), lengths)  # (o,)
        rivals = torch.ge(uppers, least.unsqueeze(1), out=room("rivals", o, k, torch.bool))
        rivals.view(-1)[into.labels[at] + torch.arange(0, o * k, k, device="cpu")] = True
        pairs = torch.from_numpy(np.flatnonzero(rivals.numpy()))  # (p,)
        self._n_pairs += len(pairs)
        if _SINGLY * len(pairs) > o * k:
            return
        offsets = torch.searchsorted(
            pairs, torch.arange(0, (o + 1) * k, k, device="cpu")
        )  # (o + 1,)
        columns = pairs % k
        first, second, place = _two_best(self._scores(columns, offsets, doubtful), offsets)
        uppers.view(-1)[pairs] = keys.lowest
        rest = bounds.above(keys.uppers(torch.amax(uppers, 1), lengths))
        exactly = self._exactly(norms)
        into.labels[at] = columns[place]
        into.best[at] = first - exactly
        into.leads[at] = torch.minimum(first - second, first - rest) - exactly
        tied = (first - second <= exactly) & (first - rest > exactly)  # (o,)
        sizes, some = offsets.diff(), torch.nonzero(tied).squeeze(1)  # (o,), (t,)
        columns = columns[tied.repeat_interleave(sizes)]  # (q,)
        if 0 < len(columns) * self._given.shape[1] <= _APART:
            self._measure_tied(columns, sizes[some], doubtful.some(some), into)

    def _measure_tied(
        self, columns: Tensor, sizes: Tensor, doubtful: _Doubtful, into: Found
    ) -> None:
        """Decide between centroids by sums of squared differences, which lose far fewer digits.

        The first of ``columns (q,)`` are those of the first row, as many as its of ``sizes (t,)``.
        """
        at, rows, places = doubtful
        apart = rows.index_select(0, places.repeat_interleave(sizes))  # (q, d)
        apart.sub_(self._given.index_select(0, columns))
        norms = torch.linalg.vector_norm(apart, dim=1, dtype=torch.float64)
        offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))  # (t + 1,)
        first, second, place = _two_best(norms.square_().div_(-2), offsets)
        into.labels[at] = columns[place]
        leads = first - second + 4 * torch.finfo(apart.dtype).eps * second
        into.leads[at] = leads.to(into.leads.dtype)

    def _scores(self, columns: Tensor, offsets: Tensor, doubtful: _Doubtful) -> Tensor:
        """Return the scores ``(p,)`` of rows and some centroids.

        Of row ``i`` with those of ``columns[offsets[i]:offsets[i + 1]]``.
        """
        _, rows, places = doubtful
        spread = offsets.new_zeros(len(rows) + 1).index_copy_(0, places + 1, offsets.diff())
        pairs = CsrRows(spread.cumsum_(0), columns, self._bias[columns], self._k)
        return torch.sparse.sampled_addmm(pairs.matrix, rows, self._centroids.T).values()


def _two_best(scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest score of each run ``(o,)``, the next one, and where the largest stands.

    In NumPy, whose calls on so few numbers take half the time.
    """
    values, ends = scores.numpy(), offsets.numpy()
    starts = ends[:-1]
    best = np.maximum.reduceat(values, starts)
    run = np.repeat(np.arange(len(starts)), np.diff(ends))  # (p,)
    at = np.flatnonzero(values == best[run])
    place = starts.copy()
    place[run[at]] = at
    rest = values.copy()
    rest[place] = -np.inf
    second = np.maximum.reduceat(rest, starts)
    return torch.from_numpy(best), torch.from_numpy(second), torch.from_numpy(place)
