"""Narrow rows that are all scored in each pass, and what is known of their clusters.

Where rows are short, to find out which of them to score costs more than to score them all. What is
added up, in float64, is what changes. How rows are kept and scored, in products or in loops, is for
``kernels/compact_products.py`` and ``kernels/compiled/compact.py`` to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.layout import RUN, sum_dtype
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.runs import count
from torchkm.kernels.tracker import Followed

Array = NDArray[Any]

# Rows are shifted in their own dtype and all else is float64, so that an inertia from sums lasts.
_CANCELLED = {torch.float32: 2e-3, torch.float64: 1e-4}

# A pass in which more than this share of the labels changed adds up all rows.
ANEW = 0.25


class Compact(ABC):
    """Rows that come in, in order, and are all scored in each pass: a ``Tracker`` of narrow rows.

    What is as small as the centroids is NumPy's to compute, whose calls take half the time of
    torch's; so this is for a CPU.

    Attributes:
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
        n_weights = 0 if sample_weight is None else n
        self._weights = rows.origin.new_empty(n_weights, dtype=exact)
        self._aim = np.zeros((k, d + 2))  # [c, -|c|^2 / 2, 0]
        self._centred, self._bias = self._aim[:, :d], self._aim[:, d]
        # The same to score against, in the dtype of the rows.
        self._against = torch.from_numpy(self._aim).to(dtype)
        self._against_array = self._against.numpy()
        self._at: Tensor | None = None
        self._named_array = np.full((2, count(n) * RUN), -1)
        self._named = torch.from_numpy(self._named_array)
        self._labels: Array = self._named_array[:, :0]  # of the rows so far
        self._turn = 0  # this pass writes there, and the one before has written to the other
        self._n_rows = self._n_labelled = 0
        self._anew = False  # whether rows have come in since the last pass
        self._all_totals = np.zeros((k, d + 2))
        self._totals = torch.from_numpy(self._all_totals)
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
    def counts(self) -> Tensor:
        """Summed weight of each cluster, ``(k,)``."""
        return self._totals[:, self._d]

    @property
    def sums(self) -> Tensor:
        """Weighted sum of the rows of each cluster, ``(k, d)``."""
        sums, counts = self._totals[:, : self._d], self.counts.unsqueeze(1)
        return torch.addcmul(sums, counts, self._origin)

    @property
    def means(self) -> Tensor:
        """Weighted mean of the rows of each cluster, ``(k, d)``; not a number where none are."""
        sums, counts = self._totals[:, : self._d], self.counts.unsqueeze(1)
        return torch.addcdiv(self._origin, sums, counts)

    @property
    def weight(self) -> float:
        """Summed weight of the rows that have a label."""
        return float(self._all_totals[:, self._d].sum())

    @property
    def variance(self) -> float:
        """Mean variance of a feature over the rows that have a label."""
        of_all = self._all_totals.sum(0)
        mean = of_all[: self._d] / of_all[self._d]  # (d,), less the origin
        return (self.sq_norms / float(of_all[self._d]) - float((mean * mean).sum())) / self._d

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``, when centroids are followed next."""
        self._n_rows = n_rows

    def enter(self) -> float | None:
        """Take new rows in; return a bound of how far they lie from the origin, if any did."""
        if self._n_rows == self._n_labelled:
            return None
        new = slice(self._n_labelled, self._n_rows)
        if self._weight is not None:
            self._weights[new] = self._weight[self._ordered.index(new)]
        squares, weighted = self._keep(new)
        self.sq_norms += weighted
        self._n_labelled, self._anew = self._n_rows, True
        self._labels = self._named_array[:, : self._n_rows]
        return float(squares) ** 0.5

    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``; all labels are ``proven``."""
        largest = self.enter()
        self._aim_at(centroids)
        self._turn = 1 - self._turn
        self._find_labels()
        n_changed = self._add_up(self._anew)
        self._anew = False
        members = self._all_totals[:, -1]
        n_empty = members.tolist().count(0)
        if n_empty:
            self._all_totals[members == 0] = 0
        return Followed(n_changed, self._n_rows, 0, n_empty, largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        self._count_all()

    @abstractmethod
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """Return by how much the inertia of the first ``n_rows`` would rise without a centroid.

        For each of ``centroids (k, d)``, ``(k,)``. The rows of a centroid would go to the second
        nearest.
        """

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

    @abstractmethod
    def _keep(self, new: slice) -> tuple[float, float]:
        """Take new rows in; return the sum of their squares, and that weighted."""

    @abstractmethod
    def _find_labels(self) -> None:
        """Label all rows so far by the centroids that are aimed at."""

    @abstractmethod
    def _add_up(self, anew: bool) -> int:
        """Bring the totals up to the labels, or begin anew; return how many have changed."""

    @abstractmethod
    def _count_all(self) -> None:
        """Add up all rows."""

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
