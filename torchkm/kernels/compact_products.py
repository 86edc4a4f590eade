"""Narrow rows that are all scored in each pass, in a handful of large operations.

They are kept in runs, as the operations want them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels.compact import ANEW, Array, Compact
from torchkm.kernels.layout import RUN, rows_per_part
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.products import SMALL
from torchkm.kernels.rows import OrderedRows, Places, parts
from torchkm.kernels.runs import count, finder

# Scores held at once: they should stay in cache from one operation to the next; and runs of them.
_SCORES, _MOST_RUNS = 2**18, 2**7

# Numbers multiplied, at most, that NumPy is done with before torch has found its product.
_TINY = 2**14


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


class CompactProducts(Compact):
    """Rows kept as ``[x - origin, 1, 1]``.

    That makes scores of products, and with the weight of the row sums, counts and numbers of
    members.
    """

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        super().__init__(rows, sample_weight, k)
        n, d = rows.x.shape
        self._kept = rows.origin.new_zeros(count(n) * RUN, d + 2)
        self._kept[:, d:] = 1
        size = min(n, rows_per_part(d, rows.x.device))
        self._part = self._totals.new_empty(size, d + 2)
        at_once = min(count(n), max(1, _SCORES // (k * RUN)), _MOST_RUNS)
        self._scores = rows.origin.new_empty(at_once, k, RUN)
        self._best = rows.origin.new_empty(len(self._scores) * RUN)
        self._groups: list[_Group] = []

    @in_full_precision
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """See ``Compact``."""
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
                rises *= self._weights[at][inside]
            out.index_add_(0, labels, rises)
        return out

    def _keep(self, new: slice) -> tuple[float, float]:
        self._named[:, new] = -1  # scores are found of whole runs
        buffer = self._ordered.buffer(len(self._best))
        of_all = weighted = 0.0
        for places in parts(new, len(self._best)):
            rows = self._ordered.shifted(places, buffer)
            self._kept[places, : self._d] = rows
            squares = rows.to(self._origin.dtype).square_()
            total = float(squares.sum())
            of_all += total
            if self._weight is not None:
                total = float(squares.sum(1) @ self._weights[places])
            weighted += total
        some = slice(0, count(self._n_rows))
        self._groups = [self._group(part) for part in parts(some, len(self._scores))]
        return of_all, weighted

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

    def _find_labels(self) -> None:
        label = _label if self._against.dtype == torch.float64 else _label_in_full
        label(self._groups, self._turn, self._against)

    def _add_up(self, anew: bool) -> int:
        before, now = self._labels[1 - self._turn], self._labels[self._turn]
        index = (before != now).nonzero()[0]
        n_changed = len(index)
        if anew or n_changed > ANEW * len(now):
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
            rows *= weights.unsqueeze(1)
            torch.gt(weights, 0, out=rows[:, -1])
        return rows
