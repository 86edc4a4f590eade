"""Sparse rows that follow centroids on the move; each pass scores all of them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from torchkm.kernels import sparse
from torchkm.kernels.csr import CsrRows
from torchkm.kernels.layout import sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.tracker import CANCELLED, Followed

# Where more than this share of the rows change their label, all are added up anew.
_MANY_CHANGES = 0.3


class SparseTracker:
    """What ``Tracker`` is to dense rows; all come in at once, and no bound spares a row its scores.

    Attributes:
        precision: the dtype that rows are scored in.
        n_rows: how many there are.
        labels: of the rows, ``(n,)``.
        counts: summed weight of each cluster, ``(k,)``.
        sums: weighted sum of its rows, ``(k, d)``.
        cancelled: share of ``sq_norms`` below which the inertia has lost digits.
    """

    def __init__(self, rows: CsrRows, sample_weight: Tensor | None, k: int) -> None:
        self._rows, self._weight = rows, sample_weight
        self.precision = str(rows.dtype).removeprefix("torch.")
        self.cancelled = CANCELLED[rows.dtype]
        self.n_rows = len(rows)
        self.labels = torch.full((len(rows),), -1, device=rows.device)
        self.counts = torch.zeros(k, dtype=sum_dtype(rows.device), device=rows.device)
        self.sums = self.counts.new_zeros(k, rows.width)

    @cached_property
    def sq_norms(self) -> Tensor:
        """Weighted sum of squared norms of the rows, ``()``."""
        squares = self._rows.sq_norms
        return squares.sum() if self._weight is None else squares @ self._weight.to(squares)

    @property
    def means(self) -> Tensor:
        """Weighted mean of the rows of each cluster, ``(k, d)``; not a number where none are."""
        return self.sums / self.counts.unsqueeze(1)

    @cached_property
    def variance(self) -> float:
        """Mean variance of a feature over the rows."""
        weight = self.counts.sum()
        mean = self.sums.sum(0) / weight  # (d,)
        return float(self.sq_norms / weight - mean.square().sum()) / len(mean)

    def admit(self, n_rows: int) -> None:
        """Let rows in: they are there."""

    @in_full_precision
    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``; all labels are ``proven``."""
        old, rows = self.labels, self._rows
        self.labels, _ = sparse.nearest(rows, centroids, False, torch.zeros_like(centroids[0]))
        changed = torch.nonzero(self.labels != old).squeeze(1)  # (m,)
        if len(changed) > _MANY_CHANGES * len(rows):
            self.recount()
        else:
            self._move(changed, old[changed], -1)
            self._move(changed, self.labels[changed], 1)
        present = self.labels if self._weight is None else self.labels[self._weight > 0]
        empty = torch.bincount(present, minlength=len(self.counts)) == 0
        # Without what rounding left in them.
        self.counts.masked_fill_(empty, 0)
        self.sums[empty] = 0
        largest = float(rows.sq_norms.max().sqrt().to(rows.dtype))
        return Followed(len(changed), len(rows), 0, int(empty.sum()), largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        self.counts.zero_()
        self.sums.zero_()
        sparse.add_rows(self._rows, self.labels, self._weight, self.counts, self.sums)

    def inertia(self, centroids: Tensor) -> float:
        """Return the inertia of the labels about ``centroids (k, d)``."""
        centroids = centroids.to(self.sums.dtype)
        across = torch.dot(centroids.flatten(), self.sums.flatten())
        return float(self.sq_norms - 2 * across + self.counts @ sparse.sq_norms(centroids))

    def by_row(self, by_place: Tensor) -> Tensor:
        """Bring values of the rows to where these lie: there they are."""
        return by_place

    def _move(self, index: Tensor, labels: Tensor, sign: int) -> None:
        """Add rows to the clusters of ``labels (m,)``, or take them away."""
        weight = None if self._weight is None else self._weight[index]
        rows = self._rows.take(index)
        sparse.add_rows(rows, labels, weight, self.counts, self.sums, sign)
