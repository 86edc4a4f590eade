"""Narrow rows that are scored in every pass, in a handful of large operations.

Where rows are short, to find out which of them to score costs more than to score them all. They
are kept the way the products want them: as columns to be scored, and as float64 rows to be added
up. Which cluster a row belongs to is a matrix of zeros and ones, and both the labels and the sums
are products with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.layout import sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows, parts
from torchkm.kernels.tracker import Followed

# Scores held at once: they should stay in cache from one operation to the next.
_SCORES = 2**18
_FEWEST_ROWS, _MOST_ROWS = 2**10, 2**15

# Up to so many centroids rows are added up by a product; beyond, sums change with the labels.
_FEW = 40

# A pass in which more than this share of the labels changed adds up all rows.
_ANEW = 0.25


class _Block(NamedTuple):
    places: slice
    columns: Tensor  # (d + 1, b), the last row is ones
    rows: Tensor  # (b, d + 2), see Compact
    named: Tensor  # (2, b)
    scores: Tensor  # (k, b)
    best: Tensor  # (b,)
    members: Tensor  # (k, b), 1 where a column's label is the row's


class Compact:
    """Rows that come in, in order, and are all scored in each pass: a ``Tracker`` of narrow rows.

    Each row is kept as ``[w (x - origin), w, 1 where w > 0]`` for its weight w, so that one product
    gives sums, counts and numbers of members.

    Attributes:
        counts: summed weight of each cluster, ``(k,)``.
        sq_norms: weighted sum of squared distances of rows from the origin.
    """

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        n, d = rows.x.shape
        device, dtype, exact = rows.x.device, rows.origin.dtype, sum_dtype(rows.x.device)
        self.precision = str(dtype).removeprefix("torch.")
        self._ordered, self._weight, self._d = rows, sample_weight, d
        self._origin = rows.origin.to(exact)
        self._blocks: list[_Block] = []
        self._size = min(n, min(max(_SCORES // k, _FEWEST_ROWS), _MOST_ROWS))
        self._by_product = k <= _FEW
        self._scores = rows.origin.new_empty(k * self._size)
        of_members = exact if self._by_product else dtype
        self._members = self._scores if of_members == dtype else self._scores.to(of_members)
        self._rows = torch.empty(n, d + 2, dtype=exact, device=device)
        self._aim = torch.zeros(k, d + 2, dtype=exact, device=device)  # [-c, |c|^2 / 2, 0]
        self._centred, self._half_norms = self._aim[:, :d], self._aim[:, d]
        self._at: Tensor | None = None
        # A product with the members gives each row's label, and how many equals it has.
        numbers = torch.arange(k, dtype=of_members, device=device)
        self._naming = torch.stack([numbers, torch.ones_like(numbers)])  # (2, k)
        self._named = torch.empty(2, n, dtype=of_members, device=device)
        self._last = torch.full((n,), -1, dtype=of_members, device=device)
        self._ties = False
        self._n_rows = self._n_labelled = 0
        self._totals = torch.zeros(k, d + 2, dtype=exact, device=device)
        self.sq_norms = torch.zeros((), dtype=exact, device=device)

    @property
    def labels(self) -> Tensor:
        """Labels of the rows so far, by place."""
        return self._named[0, : self._n_labelled].to(torch.int64)

    @property
    def counts(self) -> Tensor:
        """Summed weight of each cluster, ``(k,)``."""
        return self._totals[:, self._d]

    @property
    def n_rows(self) -> int:
        """How many rows have come in."""
        return self._n_rows

    @property
    def sums(self) -> Tensor:
        """Weighted sum of the rows of each cluster, ``(k, d)``."""
        return torch.addcmul(self._totals[:, : self._d], self.counts.unsqueeze(1), self._origin)

    @property
    def weight(self) -> float:
        """Summed weight of the rows that have a label."""
        return float(self.counts.sum())

    @property
    def variance(self) -> float:
        """Mean variance of a feature over the rows that have a label."""
        mean = self._totals[:, : self._d].sum(0) / self.weight  # (d,), less the origin
        return float(self.sq_norms / self.weight - mean.square().sum()) / self._d

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``, when centroids are followed next."""
        self._n_rows = n_rows

    @in_full_precision
    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``; all labels are ``proven``."""
        n_new = self._n_rows - self._n_labelled
        largest = self._enter() if n_new else None
        self._aim_at(centroids)
        now, before = self._named[0, : self._n_rows], self._last[: self._n_rows]
        before.copy_(now)
        if n_new:
            before[-n_new:] = -1
        self._score()
        n_changed = self._add_up(before, now)
        n_empty = sum(members == 0 for members in self._totals[:, -1].tolist())
        if n_empty:
            self._totals.masked_fill_((self._totals[:, -1] == 0).unsqueeze(1), 0)
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
        for block, scores in self._scored():
            inside = slice(0, max(0, n_rows - block.places.start))
            (best, second), (labels, _) = scores[:, inside].topk(2, dim=0, largest=False)
            rises = (second - best).to(out.dtype) * (2 * block.rows[inside, self._d])
            out.index_add_(0, labels, rises)
        return out

    def inertia(self, centroids: Tensor) -> Tensor:
        """Return the inertia ``()`` of the labels about ``centroids (k, d)``."""
        self._aim_at(centroids)
        across = torch.dot(self._totals.view(-1), self._aim.view(-1))
        return torch.add(self.sq_norms, across, alpha=2)

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
        self.sq_norms += squares
        self._n_labelled = self._n_rows
        return largest.to(self._ordered.origin.dtype)

    def _block(self, places: slice, shifted: Tensor) -> _Block:
        b, k = len(shifted), len(self._aim)
        columns = shifted.new_ones(self._d + 1, b)
        columns[: self._d] = shifted.T
        scores, members = (room[: k * b].view(k, b) for room in (self._scores, self._members))
        rows, named, best = self._rows[places], self._named[:, places], scores.new_empty(b)
        return _Block(places, columns, rows, named, scores, best, members)

    def _aim_at(self, centroids: Tensor) -> None:
        if centroids is self._at:
            return
        centred = torch.sub(self._origin, centroids, out=self._centred)
        torch.sum(centred.square(), 1, out=self._half_norms).mul_(0.5)
        self._at, self._weights = centroids, self._aim[:, :-1].to(self._scores.dtype)

    def _scored(self) -> Iterator[tuple[_Block, Tensor]]:
        """Yield each block and its scores ``(k, b)``: half squared distances but for row norms."""
        for block in self._blocks:
            yield block, torch.mm(self._weights, block.columns, out=block.scores)

    def _score(self) -> None:
        """Label all rows, and add them up where that is a product."""
        for block, scores in self._scored():
            members = self._nearest(scores, block)
            torch.mm(self._naming, members, out=block.named)
            if self._by_product:
                started = block.places.start > 0
                torch.addmm(self._totals, members, block.rows, beta=int(started), out=self._totals)
        if not self._ties and self._named[1, : self._n_rows].sum().item() != self._n_rows:
            self._ties = True
            self._score()

    def _nearest(self, scores: Tensor, block: _Block) -> Tensor:
        """Return where the nearest centroid is, as zeros and ones ``(k, b)``."""
        if self._ties:
            labels = scores.argmin(0, keepdim=True)  # the lowest among equals
            return block.members.zero_().scatter_(0, labels, 1)
        torch.amin(scores, 0, out=block.best)
        return torch.eq(scores, block.best, out=block.members)

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
