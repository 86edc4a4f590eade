"""Narrow rows that are scored in every pass, in a handful of large operations.

Where rows are short, to find out which of them to score costs more than to score them all. They
are kept the way the products want them: as columns to be scored, and as float64 rows to be added
up. Which cluster a row belongs to is a matrix of zeros and ones, and both the labels and the sums
are products with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels.layout import sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows, parts
from torchkm.kernels.tracker import Followed

# Scores held at once: they should stay in cache from one operation to the next.
_SCORES = 2**18
_FEWEST_ROWS, _MOST_ROWS = 2**10, 2**15

# Sums of up to so many numbers come from a product, and of as many as make so many with the rows,
# as long as the numbers of all rows stay in cache; others change by the rows that move.
_FEW, _FEW_WITH_ROWS, _CACHED = 2**8, 2**20, 2**17

# From so many centroids on, scores of a row lie side by side: then each operation gives a thread
# the same rows, and they stay in its cache. With fewer the least takes too long to find so.
_MANY = 32

# Rows are shifted in their own dtype and all else is float64, so that an inertia from sums lasts.
_CANCELLED = {torch.float32: 2e-3, torch.float64: 1e-4}

# A pass in which more than this share of the labels changed adds up all rows.
_ANEW = 0.25


class Block(NamedTuple):
    """Rows that are scored at once, and room for what is found of them."""

    columns: Tensor  # (d + 1, b), the last row is ones
    rows: Tensor  # (b, d + 2), see Compact
    named: tuple[Tensor, Tensor]  # (2, b), of passes that take turns
    scores: Tensor  # (k, b), then 1 where a column's label is the row's
    best: Tensor  # (b,)
    exact: Tensor  # (k, b), room for these ones in float64


class Compact:
    """Rows that come in, in order, and are all scored in each pass: a ``Tracker`` of narrow rows.

    Each row is kept as ``[w (x - origin), w, 1 where w > 0]`` for its weight w, so that one product
    gives sums, counts and numbers of members. What is as small as the centroids is NumPy's to
    compute, whose calls take half the time of torch's; so this is for a CPU.

    Attributes:
        counts: summed weight of each cluster, ``(k,)``.
        sq_norms: weighted sum of squared distances of rows from the origin.
        cancelled: share of it below which the inertia has lost digits.
    """

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        n, d = rows.x.shape
        device, dtype, exact = rows.x.device, rows.origin.dtype, sum_dtype(rows.x.device)
        self.precision, self.cancelled = str(dtype).removeprefix("torch."), _CANCELLED[dtype]
        self._ordered, self._weight, self._d = rows, sample_weight, d
        self._origin = rows.origin.to(exact)
        self._origin_array = self._origin.numpy()
        self._blocks: list[Block] = []
        self._size = min(n, min(max(_SCORES // k, _FEWEST_ROWS), _MOST_ROWS))
        small = k * (d + 2) <= max(_FEW, _FEW_WITH_ROWS // n)
        self._by_product = small and n * (d + 2) <= _CACHED
        # Where all members have weight and are added up, one of two clusters shows in the totals.
        self._tells = self._by_product and sample_weight is None
        self._scores = rows.origin.new_empty(k * self._size)
        self._exact = self._scores.to(exact) if self._by_product else self._scores
        self._rows = torch.empty(n, d + 2, dtype=exact, device=device)
        self._aim = np.zeros((k, d + 2))  # [-c, |c|^2 / 2, 0]
        self._centred, self._half_norms = self._aim[:, :d], self._aim[:, d]
        # The same to score against, in the dtype of the rows.
        self._against = torch.from_numpy(self._aim)[:, :-1].to(dtype)
        self._against_array = self._against.numpy()
        self._at: Tensor | None = None
        # A product with the members gives each row's label, and how many clusters it has.
        self._naming = torch.ones(2, k, dtype=dtype, device=device)
        torch.arange(k, out=self._naming[0])
        self._named = torch.full((2, 2, n), -1, dtype=dtype, device=device)
        self._turn = 0  # this pass writes there, and the one before has written to the other
        self._n_rows = self._n_labelled = 0
        self._totals = torch.zeros(k, d + 2, dtype=exact, device=device)
        self._all_totals = self._totals.numpy()
        self._sums, self.counts = self._totals[:, :d], self._totals[:, d]
        self._divisors, self._members_of = self._totals[:, d : d + 1], self._totals[:, d + 1]
        self.sq_norms = 0.0

    @property
    def labels(self) -> Tensor:
        """Labels of the rows so far, by place."""
        return self._labels_of(self._turn).to(torch.int64)

    @property
    def n_rows(self) -> int:
        """How many rows have come in."""
        return self._n_rows

    @property
    def sums(self) -> Tensor:
        """Weighted sum of the rows of each cluster, ``(k, d)``."""
        return torch.addcmul(self._sums, self._divisors, self._origin)

    @property
    def means(self) -> Tensor:
        """Weighted mean of the rows of each cluster, ``(k, d)``; not a number where none are."""
        return torch.addcdiv(self._origin, self._sums, self._divisors)

    @property
    def weight(self) -> float:
        """Summed weight of the rows that have a label."""
        return float(self.counts.sum())

    @property
    def variance(self) -> float:
        """Mean variance of a feature over the rows that have a label."""
        mean = self._sums.sum(0) / self.weight  # (d,), less the origin
        return (self.sq_norms / self.weight - float(mean.square().sum())) / self._d

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``, when centroids are followed next."""
        self._n_rows = n_rows

    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``; all labels are ``proven``."""
        largest = self._enter() if self._n_rows > self._n_labelled else None
        self._aim_at(centroids)
        self._turn = 1 - self._turn
        n_changed, members = self._label(self._against, careful=not self._tells)
        if self._tells and sum(members) != self._n_labelled:
            n_changed, members = self._label(self._against, careful=True)
        n_empty = members.count(0)
        if n_empty:
            self._totals.masked_fill_((self._members_of == 0).unsqueeze(1), 0)
        return Followed(n_changed, self._n_rows, 0, n_empty, largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        if not self._by_product:
            self._count_all()

    @in_full_precision
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """Return by how much the inertia of the first ``n_rows`` would rise without a centroid.

        For each of ``centroids (k, d)``, ``(k,)``. The rows of a centroid would go to the second
        nearest.
        """
        self._aim_at(centroids)
        out = torch.zeros_like(self.counts)
        for block, scores in self._scored(self._against):
            inside = slice(0, max(0, n_rows))
            n_rows -= len(block.rows)
            (best, second), (labels, _) = scores[:, inside].topk(2, dim=0, largest=False)
            rises = (second - best).to(out.dtype) * (2 * block.rows[inside, self._d])
            out.index_add_(0, labels, rises)
        return out

    def inertia(self, centroids: Tensor) -> float:
        """Return the inertia of the labels about ``centroids (k, d)``."""
        self._aim_at(centroids)
        return self.sq_norms + 2 * float(np.vdot(self._all_totals, self._aim))

    def by_row(self, by_place: Tensor) -> Tensor:
        """Bring values of the rows so far from their places to where the rows lie, ``(n,)``."""
        if self._ordered.order is None:
            return by_place
        out = by_place.new_zeros(len(self._ordered))
        out[self._ordered.order[: len(by_place)]] = by_place
        return out

    def _enter(self) -> Tensor:
        """Take new rows in; return a bound ``()`` of how far they lie from the origin."""
        d, new = self._d, slice(self._n_labelled, self._n_rows)
        buffer = self._ordered.buffer(self._size)
        for places in parts(new, self._size):
            shifted = self._ordered.shifted(places, buffer)
            self._rows[places, :d] = shifted
            self._blocks.append(self._block(places, shifted))
        rows = self._rows[new]
        largest = torch.linalg.vector_norm(rows[:, :d])
        squares = largest.square()
        if self._weight is None:
            rows[:, d:] = 1
        else:
            weight = self._weight[self._ordered.index(new)].to(rows.dtype)
            squares = rows[:, :d].square().sum(1) @ weight
            rows[:, :d] *= weight.unsqueeze(1)
            rows[:, d], rows[:, d + 1] = weight, weight > 0
        self.sq_norms += float(squares)
        self._n_labelled = self._n_rows
        return largest.to(self._ordered.origin.dtype)

    def _block(self, places: slice, shifted: Tensor) -> Block:
        b, k = len(shifted), len(self._aim)
        columns = shifted.new_ones(self._d + 1, b)
        columns[: self._d] = shifted.T
        scores = exact = self._shaped(self._scores[: k * b], b)
        if self._exact is not self._scores:
            exact = self._shaped(self._exact[: k * b], b)
        first, second = self._named[:, :, places]
        best = scores.new_empty(b)
        return Block(columns, self._rows[places], (first, second), scores, best, exact)

    def _labels_of(self, turn: int) -> Tensor:
        return self._named[turn, 0, : self._n_labelled]

    def _shaped(self, room: Tensor, b: int) -> Tensor:
        """Return ``room`` as ``(k, b)``; where k is large, with those of each row side by side."""
        k = len(self._aim)
        return room.view(k, b) if k < _MANY else room.view(b, k).T

    def _aim_at(self, centroids: Tensor) -> None:
        if centroids is self._at:
            return
        self._at = centroids
        np.subtract(self._origin_array, centroids.numpy(), out=self._centred)
        np.einsum("ij,ij->i", self._centred, self._centred, out=self._half_norms)
        self._half_norms *= 0.5
        if self._against.dtype != self._totals.dtype:
            self._against_array[:] = self._aim[:, :-1]

    def _scored(self, against: Tensor) -> Iterator[tuple[Block, Tensor]]:
        """Yield each block and its scores ``(k, b)``: half squared distances but for row norms."""
        for block in self._blocks:
            yield block, torch.mm(against, block.columns, out=block.scores)

    @in_full_precision
    def _label(self, against: Tensor, careful: bool) -> tuple[int, list[float]]:
        """Label and add up all rows; return how many moved, and how many each cluster has.

        A row that is as near to several centroids is of all of them, unless this is ``careful``.
        """
        for block, scores in self._scored(against):
            torch.amin(scores, 0, out=block.best)
            members = torch.eq(scores, block.best, out=scores)
            named = torch.mm(self._naming, members, out=block.named[self._turn])
            if careful and named[1].sum().item() != len(block.rows):
                first_of_equals(members, named)
            if self._by_product:
                exact = members if block.exact is block.scores else block.exact.copy_(members)
                kept = int(block is not self._blocks[0])
                torch.addmm(self._totals, exact, block.rows, beta=kept, out=self._totals)
        before, now = self._labels_of(1 - self._turn), self._labels_of(self._turn)
        return self._add_up(before, now), self._members_of.tolist()

    def _add_up(self, before: Tensor, now: Tensor) -> int:
        """Bring the totals up to labels ``now (n,)``; return how many differ from ``before``."""
        changed = before != now
        if self._by_product:
            return int(changed.count_nonzero())
        index = changed.nonzero().squeeze(1)
        if len(index) > _ANEW * len(now):
            self._count_all()
            return len(index)
        rows = self._rows.index_select(0, index)
        self._totals.index_add_(0, before[index].to(torch.int64), rows, alpha=-1)
        self._totals.index_add_(0, now[index].to(torch.int64), rows)
        return len(index)

    def _count_all(self) -> None:
        self._totals.zero_().index_add_(0, self.labels, self._rows[: self._n_labelled])


def first_of_equals(members: Tensor, named: Tensor) -> None:
    """Leave rows that are equally near to several centroids to the first of them."""
    tied = (named[1] != 1).nonzero().squeeze(1)  # (t,)
    some = members[:, tied]  # (k, t)
    first = some.argmax(0, keepdim=True)
    members[:, tied] = some.zero_().scatter_(0, first, 1)
    named[0, tied] = first[0].to(named.dtype)
