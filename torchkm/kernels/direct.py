"""Scores in the dtype that rows are computed in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.layout import rows_per_block, sq_norms_of_centroids
from torchkm.kernels.rows import OrderedRows, Places, length, parts
from torchkm.kernels.runs import Scores


class Scored(NamedTuple):
    """Rows against all centroids.

    Attributes:
        labels: nearest centroid, ``(b,)``.
        sq_distances: to it, ``(b,)``, never below the true ones.
        leads: by how much half the squared distance to any other is larger, ``(b,)``: proven, so
            below zero where rounding may decide.
    """

    labels: Tensor
    sq_distances: Tensor
    leads: Tensor


class Entered(NamedTuple):
    """Rows that have just come in.

    Attributes:
        places: of them.
        rows: less the origin, ``(b, d)``, in a buffer that the next ones take.
        scored: what is known of them already.
    """

    places: slice
    rows: Tensor
    scored: Scored


class DirectScorer:
    """Scores rows against centroids in float32, or float64 for float64 rows.

    Attributes:
        half_norms: squared, of the centroids ``(k,)``.
        rounding: what a lead loses for each unit of a row's norm ``()``, and of any row ``()``.
    """

    half_norms: Tensor
    rounding: tuple[Tensor, Tensor]

    def __init__(self, rows: OrderedRows, k: int) -> None:
        self._rows = rows
        self.precision = str(rows.origin.dtype).removeprefix("torch.")
        self.norms = rows.origin.new_empty(len(rows))  # (n,)
        self.n_scored = 0
        self._buffer = rows.buffer(rows_per_block(rows.x, k))
        self._scores = Scores(rows.origin.new_empty(len(self._buffer), k))

    @property
    def n_rescored(self) -> int:
        """How many rows were scored a second time: none."""
        return 0

    def enter(self, places: slice) -> Iterator[Entered]:
        """Measure and score rows that come in, some at a time."""
        for part in parts(places, len(self._buffer)):
            rows = self._rows.shifted(part, self._buffer)
            self.norms[part] = torch.linalg.vector_norm(rows, dim=1)
            scored = self._room(length(part))
            self._look(rows, part, scored)
            yield Entered(part, rows, scored)

    def aim(self, centred: Tensor) -> None:
        """Take the centroids ``(k, d)``, shifted, that rows are to be scored against."""
        self._centred = centred
        sq_norms = sq_norms_of_centroids(centred)  # (k,)
        self.half_norms, norms = sq_norms / 2, sq_norms.sqrt()
        digit = 2 * (centred.shape[1] + 4) * torch.finfo(centred.dtype).eps
        self.rounding = digit * norms.max(), digit * self.half_norms.max()

    def score(self, places: Places, labels: Tensor, proven: bool = True) -> Scored:
        """Score the rows of ``places``; what ``labels (b,)`` they last had does not matter here.

        All of them are ``proven``, wanted or not.
        """
        scored = self._room(len(labels))
        start = 0
        for part in parts(places, len(self._buffer)):
            at = slice(start, start + length(part))
            rows = self._rows.shifted(part, self._buffer)
            self._look(rows, part, Scored(*(column[at] for column in scored)))
            start = at.stop
        self.n_scored += len(labels)
        return scored

    def leads(self, places: Places, labels: Tensor) -> Tensor:
        """Return the leads ``(b,)`` of rows whose last labels are given."""
        return self.score(places, labels).leads

    def _room(self, size: int) -> Scored:
        labels = torch.empty(size, dtype=torch.int64, device=self.norms.device)
        return Scored(labels, self.norms.new_empty(size), self.norms.new_empty(size))

    def _look(self, rows: Tensor, places: Places, into: Scored) -> None:
        labels, best, leads = into
        self._scores.fill(rows, self._centred, -self.half_norms)
        self._scores.best(best, labels)
        self._scores.best_but(labels, leads)
        per_norm, at_least = self.rounding
        norms = self.norms[places]
        rounding = norms * per_norm + at_least
        torch.sub(best, leads, out=leads).sub_(rounding)
        best.mul_(-2).add_(norms.square()).add_(rounding).clamp_(min=0)
