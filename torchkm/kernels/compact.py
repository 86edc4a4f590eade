"""Narrow rows that are scored in every pass, in a handful of large operations.

Where rows are short, to find out which of them to score costs more than to score them all. They
are kept in runs, as the operations want them; what is added up, in float64, is what changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.layout import RUN, rows_per_part, sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.products import SMALL
from torchkm.kernels.rows import OrderedRows, Places, parts
from torchkm.kernels.runs import count, finder
from torchkm.kernels.tracker import Followed

Array = NDArray[Any]

# Scores held at once: they should stay in cache from one operation to the next; and runs of them.
_SCORES, _MOST_RUNS = 2**18, 2**7

# Numbers multiplied, at most, that NumPy is done with before torch has found its product.
_TINY = 2**14

# Rows are shifted in their own dtype and all else is float64, so that an inertia from sums lasts.
_CANCELLED = {torch.float32: 2e-3, torch.float64: 1e-4}

# A pass in which more than this share of the labels changed adds up all rows.
_ANEW = 0.25


class _Group(NamedTuple):
    """Runs that are scored at once, and room for what is found of them."""

    at: slice  # of places, the last of them maybe of no row yet
    scores: Tensor  # (g, k, RUN)
    score: Callable[[], Any]
    find_best: tuple[Callable[[], None], Callable[[], None]]  # of passes that take turns


def _label(groups: list[_Group], turn: int, _: Tensor) -> None:
    """Find the labels of a pass, with scores against what lies there when groups are made."""
    for group in groups:
        group.score()
        group.find_best[turn]()


# There are no fast products of float64 to be kept from, and to ask for that takes as long as one.
_label_in_full = in_full_precision(_label)


class Compact:
    """Rows that come in, in order, and are all scored in each pass: a ``Tracker`` of narrow rows.

    Each row is kept as ``[x - origin, 1, 1]``: what makes scores of products, and with the weight
    of the row sums, counts and numbers of members. What is as small as the centroids is NumPy's to
    compute, whose calls take half the time of torch's; so this is for a CPU.

    Attributes:
        counts: summed weight of each cluster, ``(k,)``.
        sq_norms: weighted sum of squared distances of rows from the origin.
        cancelled: share of it below which the inertia has lost digits.
    """

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        n, d = rows.x.shape
        dtype, exact = rows.origin.dtype, sum_dtype(rows.x.device)
        self.precision, self.cancelled = str(dtype).removeprefix("torch."), _CANCELLED[dtype]
        self._ordered, self._weight, self._d = rows, sample_weight, d
        self._origin = rows.origin.to(exact)
        self._origin_array = self._origin.numpy()
        self._kept = rows.origin.new_zeros(count(n) * RUN, d + 2)
        self._kept[:, d:] = 1
        self._weights = self._kept.new_empty(0 if sample_weight is None else n, 1, dtype=exact)
        size = min(n, rows_per_part(d, rows.x.device))
        self._part = torch.empty(size, d + 2, dtype=exact)
        self._aim = np.zeros((k, d + 2))  # [c, -|c|^2 / 2, 0]
        self._centred, self._bias = self._aim[:, :d], self._aim[:, d]
        # The same to score against, in the dtype of the rows.
        self._against = torch.from_numpy(self._aim).to(dtype)
        self._against_array = self._against.numpy()
        self._at: Tensor | None = None
        at_once = min(count(n), max(1, _SCORES // (k * RUN)), _MOST_RUNS)
        self._scores = rows.origin.new_empty(at_once, k, RUN)
        self._best = rows.origin.new_empty(len(self._scores) * RUN)
        self._groups: list[_Group] = []
        self._named = torch.full((2, len(self._kept)), -1)
        self._labels: Array = self._named[:, :0].numpy()  # of the rows so far
        self._turn = 0  # this pass writes there, and the one before has written to the other
        self._n_rows = self._n_labelled = 0
        self._totals = torch.zeros(k, d + 2, dtype=exact)
        self._all_totals = self._totals.numpy()
        self._sums, self.counts = self._totals[:, :d], self._totals[:, d]
        self._divisors, self._members_of = self._totals[:, d : d + 1], self._totals[:, d + 1]
        self.sq_norms = 0.0

    @property
    def labels(self) -> Tensor:
        """Labels of the rows so far, by place."""
        return self._labels_of(self._turn).clone()

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
        label = _label if self._against.dtype == torch.float64 else _label_in_full
        label(self._groups, self._turn, self._against)
        n_changed = self._add_up(anew=largest is not None)
        n_empty = self._members_of.tolist().count(0)
        if n_empty:
            self._totals.masked_fill_((self._members_of == 0).unsqueeze(1), 0)
        return Followed(n_changed, self._n_rows, 0, n_empty, largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        self._count_all()

    @in_full_precision
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """Return by how much the inertia of the first ``n_rows`` would rise without a centroid.

        For each of ``centroids (k, d)``, ``(k,)``. The rows of a centroid would go to the second
        nearest.
        """
        self._aim_at(centroids)
        out = torch.zeros_like(self.counts)
        for at, scores, score, _ in self._groups:
            score()
            inside = slice(0, max(0, min(n_rows, self._n_labelled) - at.start))
            (best, second), (labels, _) = (
                scores.transpose(0, 1).flatten(1)[:, inside].topk(2, dim=0)
            )
            rises = 2 * (best - second).to(out.dtype)
            if len(self._weights):
                rises *= self._weights[at, 0][inside]
            out.index_add_(0, labels, rises)
        return out

    def inertia(self, centroids: Tensor) -> float:
        """Return the inertia of the labels about ``centroids (k, d)``."""
        self._aim_at(centroids)
        # Not a dot product: for a long one NumPy's library wakes threads that get in torch's way.
        across = np.einsum("ij,ij->", self._all_totals, self._aim)
        return self.sq_norms - 2 * float(across)

    def by_row(self, by_place: Tensor) -> Tensor:
        """Bring values of the rows so far from their places to where the rows lie, ``(n,)``."""
        if self._ordered.order is None:
            return by_place
        out = by_place.new_zeros(len(self._ordered))
        out[self._ordered.order[: len(by_place)]] = by_place
        return out

    def _enter(self) -> Tensor:
        """Take new rows in; return a bound ``()`` of how far they lie from the origin."""
        new = slice(self._n_labelled, self._n_rows)
        buffer = self._ordered.buffer(len(self._best))
        of_all = 0.0
        for places in parts(new, len(self._best)):
            rows = self._ordered.shifted(places, buffer)
            self._kept[places, : self._d] = rows
            squares = rows.to(self._origin.dtype).square_()
            total = float(squares.sum())
            of_all += total
            if self._weight is not None:
                weights = self._weight[self._ordered.index(places)].to(squares.dtype)
                self._weights[places, 0] = weights
                total = float(squares.sum(1) @ weights)
            self.sq_norms += total
        self._named[:, new] = -1
        self._n_labelled = self._n_rows
        some = slice(0, count(self._n_rows))
        self._groups = [self._group(part) for part in parts(some, len(self._scores))]
        self._labels = self._named[:, : self._n_rows].numpy()
        return torch.tensor(of_all**0.5, dtype=self._ordered.origin.dtype)

    def _group(self, part: slice) -> _Group:
        g = part.stop - part.start
        at, scores = slice(part.start * RUN, part.stop * RUN), self._scores[:g]
        columns = self._kept[at].view(g, RUN, -1).transpose(1, 2)  # (g, d + 2, RUN), then ones
        against = self._against.expand(g, *self._against.shape)  # all alike
        score = partial(torch.bmm, against, columns, out=scores)
        if g == 1 and columns.numel() * scores.shape[1] <= _TINY:
            score = partial(np.matmul, against.numpy(), columns.numpy(), out=scores.numpy())
        first, second = (finder(scores, self._best[: g * RUN], named[at]) for named in self._named)
        return _Group(at, scores, score, (first, second))

    def _labels_of(self, turn: int) -> Tensor:
        return self._named[turn, : self._n_labelled]

    def _aim_at(self, centroids: Tensor) -> None:
        if centroids is self._at:
            return
        self._at = centroids
        np.subtract(centroids.numpy(), self._origin_array, out=self._centred)
        np.einsum("ij,ij->i", self._centred, self._centred, out=self._bias)
        self._bias *= -0.5
        if self._against.dtype != self._totals.dtype:
            self._against_array[:] = self._aim

    def _add_up(self, anew: bool) -> int:
        """Bring the totals up to the labels; return how many have changed."""
        before, now = self._labels[1 - self._turn], self._labels[self._turn]
        index = (before != now).nonzero()[0]
        n_changed = len(index)
        if anew or n_changed > _ANEW * len(now):
            self._count_all()
        elif len(self._weights) or n_changed * self._totals.numel() > SMALL:
            self._move(index)
        elif n_changed:
            self._move_few(index, before.take(index), now.take(index))
        return n_changed

    def _move_few(self, index: Array, before: Array, now: Array) -> None:
        """Bring the totals up to labels ``now (m,)`` of rows so few that a product is sooner."""
        moves = np.zeros((len(self._aim), len(index)))
        every = np.arange(len(index))
        moves[now, every] = 1
        moves[before, every] = -1
        rows = self._kept.numpy().take(index, 0)
        self._all_totals += moves @ rows.astype(moves.dtype)

    def _move(self, index: Array) -> None:
        """Bring the totals up to the labels of the rows at ``index (m,)``."""
        before, now = self._labels_of(1 - self._turn), self._labels_of(self._turn)
        for some in parts(torch.from_numpy(index), len(self._part)):
            rows = self._to_add(some)
            self._totals.index_add_(0, before.index_select(0, some), rows, alpha=-1)
            self._totals.index_add_(0, now.index_select(0, some), rows)

    def _count_all(self) -> None:
        labels = self._labels_of(self._turn)
        self._totals.zero_()
        for places in parts(slice(0, self._n_labelled), len(self._part)):
            self._totals.index_add_(0, labels[places], self._to_add(places))

    def _to_add(self, places: Places) -> Tensor:
        """Return ``[w (x - origin), w, 1 where w > 0]`` of some rows, in float64."""
        kept = self._kept
        some = kept[places] if isinstance(places, slice) else kept.index_select(0, places)
        rows = self._part[: len(some)].copy_(some)
        if len(self._weights):
            weights = self._weights[places]
            rows *= weights
            torch.gt(weights[:, 0], 0, out=rows[:, -1])
        return rows
