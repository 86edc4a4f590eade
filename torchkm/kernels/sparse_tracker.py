"""Sparse rows that come in and follow centroids on the move; each pass scores all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels import sparse
from torchkm.kernels.csr import CsrRows
from torchkm.kernels.layout import sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.tracker import Followed

# Where more than this share of the rows change their label, all are added up anew.
_MANY_CHANGES = 0.3


class SparseTracker:
    """What ``Tracker`` is to dense rows, without bounds: a pass costs what its product does.

    Attributes:
        precision: the dtype that rows are scored in.
        labels: of the rows so far, by place; by row once all are in.
        counts: summed weight of each cluster, ``(k,)``.
        sums: weighted sum of its rows, ``(k, d)``.
        sq_norms: weighted sum of squared norms of the rows, ``()``.
    """

    def __init__(
        self, x: CsrRows, order: Tensor | None, sample_weight: Tensor | None, k: int
    ) -> None:
        self._x, self._order, self._all_weights, self._k = x, order, sample_weight, k
        self.precision = str(x.dtype).removeprefix("torch.")
        self._rows, self._weight = x.between(0, 0), sample_weight
        self.labels = torch.empty(0, dtype=torch.int64, device=x.device)
        self.counts = torch.zeros(k, dtype=sum_dtype(x.device), device=x.device)
        self.sums = self.counts.new_zeros(k, x.width)
        self.sq_norms = self.counts.new_zeros(())

    @property
    def n_rows(self) -> int:
        """How many rows have come in."""
        return len(self._rows)

    @property
    def weight(self) -> float:
        """Summed weight of the rows that have a label."""
        return float(self.counts.sum())

    @property
    def variance(self) -> float:
        """Mean variance of a feature over the rows that have a label."""
        mean = self.sums.sum(0) / self.weight  # (d,)
        return float(self.sq_norms / self.weight - mean.square().sum()) / len(mean)

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``; all of them then stand as they lie."""
        old, weight = self.labels, self._all_weights
        self.labels = old.new_full((n_rows,), -1)
        if self._order is None or n_rows == len(self._x):
            old_places = slice(len(old)) if self._order is None else self._order[: len(old)]
            self.labels[old_places] = old
            self._rows, self._weight = self._x, weight
        else:
            index = self._order[:n_rows]
            self.labels[: len(old)] = old
            self._rows = self._x.take(index)
            self._weight = None if weight is None else weight[index]
        squares = self._rows.sq_norms
        self.sq_norms = (
            squares.sum() if self._weight is None else squares @ self._weight.to(squares)
        )

    @in_full_precision
    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``; all labels are ``proven``."""
        old, rows = self.labels, self._rows
        zero = centroids.new_zeros(1).expand(rows.width)
        self.labels, _ = sparse.nearest(rows, centroids, False, zero)
        changed = torch.nonzero(self.labels != old).squeeze(1)
        if len(changed) > _MANY_CHANGES * len(old) or bool((old < 0).any()):
            self.recount()
        else:
            self._move(changed, old[changed], -1)
            self._move(changed, self.labels[changed], 1)
        present = self.labels if self._weight is None else self.labels[self._weight > 0]
        empty = torch.bincount(present, minlength=self._k) == 0
        # Nothing of what rounding left in them.
        self.counts.masked_fill_(empty, 0)
        self.sums[empty] = 0
        largest = rows.sq_norms.max().sqrt()
        return Followed(len(changed), len(rows), 0, int(empty.sum()), largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        self.counts.zero_()
        self.sums.zero_()
        sparse.add_rows(self._rows, self.labels, self._weight, self.counts, self.sums)

    @in_full_precision
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """Return by how much the inertia of the first ``n_rows`` would rise without a centroid.

        For each of ``centroids (k, d)``, ``(k,)``. Its rows would go to the second nearest.
        """
        rows = self._rows.between(0, n_rows)
        labels, leads = sparse.leads(rows, centroids)
        leads = leads.to(self.counts.dtype)
        if self._weight is not None:
            leads *= self._weight[:n_rows]
        return torch.zeros_like(self.counts).index_add_(0, labels, leads)

    def inertia(self, centroids: Tensor) -> Tensor:
        """Return the inertia ``()`` of the labels about ``centroids (k, d)``."""
        centroids = centroids.to(self.sums.dtype)
        across = torch.dot(centroids.flatten(), self.sums.flatten())
        return self.sq_norms - 2 * across + self.counts @ centroids.square().sum(1)

    def by_row(self, by_place: Tensor) -> Tensor:
        """Bring values of all rows to where these lie: there they are."""
        return by_place

    def _move(self, index: Tensor, labels: Tensor, sign: int) -> None:
        """Add rows to the clusters of ``labels (b,)``, or take them away."""
        weight = None if self._weight is None else self._weight[index]
        rows = self._rows.take(index)
        sparse.add_rows(rows, labels, weight, self.counts, self.sums, sign)
