"""Scores in bfloat16 that prove themselves, and float32 for the rows where they cannot.

A row and a centroid enter one product with what is known of their rounding, in columns behind the
numbers themselves:

    row       x rounded  1 1 1                   -s in 3 digits  |x - x rounded|  |x|
    centroid  c rounded  -|c|^2 / 2 in 3 digits  1 1 1           |c|              |c - c rounded|

Up to the seventh of them they give how much nearer the centroid is than one of score ``s``: the
score that the row last had, so that what competes comes out near zero, where bfloat16 is fine. By
Cauchy and Schwarz the last two are the most that rounding took away. One product thus gives upper
bounds. A row keeps its label where the lower bound of its own score is above the upper bounds of
all others; where it is not, the row is scored in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.bfloat16 import SUM_UNIT, UNIT, above, digits
from torchkm.kernels.direct import DirectScorer, Scored
from torchkm.kernels.rows import OrderedRows, Places, length, parts, split_at, take_out

# Columns behind the numbers, and what the width is rounded up to for the instructions.
_EXTRA, _TILE = 8, 32

# Bytes of rounded rows that are kept; rows beyond are rounded again in each pass.
_KEPT_BYTES = 96 * 2**20

# Scores of a block, its fewest and most rows, and the rows that are rounded at once.
_BLOCK_SCORES, _FEWEST_ROWS, _MOST_ROWS, _ROWS_AT_ONCE = 2**21, 256, 2**12, 2**9

# More than all products of a row that are too small for float32 can come to.
_VANISHED = 1e-30


class CertifiedScorer:
    """Scores float32 rows in bfloat16; the labels are those of float32."""

    precision = "bfloat16"

    def __init__(self, rows: OrderedRows, k: int) -> None:
        n, self._d = rows.x.shape
        self._rows = rows
        self._exact = DirectScorer(rows, k)
        self.norms = self._exact.norms  # (n,)
        self._residuals = torch.empty_like(self.norms)  # (n,)
        self._own = torch.zeros_like(self.norms)  # (n,) x'c - |c|^2 / 2 of the last label
        self._width = -(-(self._d + _EXTRA) // _TILE) * _TILE
        size = min(max(_BLOCK_SCORES // k, _FEWEST_ROWS), _MOST_ROWS, n)
        n_kept = min(n, _KEPT_BYTES // (2 * self._width))
        self._kept = torch.empty(n_kept, self._width, dtype=torch.bfloat16)
        self._block = torch.empty(size, self._width, dtype=torch.bfloat16)
        self._scores = torch.empty(size, k, dtype=torch.bfloat16)
        self._shifted = rows.buffer(min(size, _ROWS_AT_ONCE))
        self._back = torch.empty_like(self._shifted)

    @property
    def n_rescored(self) -> int:
        """How many rows were scored in float32 so far."""
        return self._exact.n_scored

    def admit(self, places: slice) -> None:
        """Measure rows that come in, and keep them rounded as far as there is room."""
        kept, rest = split_at(places, len(self._kept))
        for part in parts(kept, len(self._shifted)):
            self._measure(part, self._kept[part])
        for part in parts(rest, len(self._shifted)):
            self._measure(part, self._block[: length(part)])
        self._columns(kept, self._kept[kept])

    def aim(self, centred: Tensor) -> None:
        """Take the centroids ``(k, d)``, shifted, that rows are to be scored against."""
        self._exact.aim(centred)
        d = self._d
        operand = torch.zeros(len(centred), self._width, dtype=torch.bfloat16)
        operand[:, :d] = centred
        norms = torch.linalg.vector_norm(centred, dim=1)  # (k,)
        residuals = torch.linalg.vector_norm(centred - operand[:, :d], dim=1)
        self._digit = 2 * self._width * SUM_UNIT
        half = norms.square() / 2
        operand[:, d : d + 3] = torch.stack(digits(-half), dim=1)
        operand[:, d + 3 : d + 6] = 1
        operand[:, d + 6] = above(norms)
        operand[:, d + 7] = above(residuals + self._digit * norms)
        self._centroids, self._largest_half = operand, half.max()

    def guess(self, places: slice) -> Tensor:
        """Return the labels ``(b,)`` that bfloat16 alone would give."""
        labels = []
        for part in self._parts(places):
            scores = torch.mm(self._operand(part), self._centroids.T)
            best, label = scores.max(dim=1)  # (b, k) -> (b,)
            self._own[part] = best.float()
            labels.append(label)
        return torch.cat(labels)

    def score(self, places: Places, labels: Tensor) -> Scored:
        """Score the rows of ``places`` whose last ``labels (b,)`` are given."""
        own, other = self._own_and_other(places, labels)
        norms, last = self.norms[places], self._own[places]
        bounds = self._centroids[:, self._d + 6 :][:, :2].float()[labels]  # (b, 2)
        error = above(self._residuals[places]).float() * bounds[:, 0]
        error += above(norms).float() * bounds[:, 1]
        least = own - 2 * error - UNIT * own.abs() - self._digit * (last.abs() + self._largest_half)
        leads = least - other - UNIT * other.abs() - _VANISHED
        sq_distances = norms.square().sub_(2 * (last + least)).clamp_min_(0)
        scored = Scored(labels, sq_distances, leads)
        self._own[places] = last + own - error
        doubtful = torch.nonzero(~(leads > 0)).squeeze(1)  # (m,)
        return self._in_float32(scored, places, doubtful) if len(doubtful) else scored

    def _own_and_other(self, places: Places, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return upper bounds ``(b,)`` of the own score and of the largest other one."""
        own = torch.empty(len(labels), dtype=torch.bfloat16)
        other = torch.empty_like(own)
        start = 0
        for part in self._parts(places):
            rows = self._operand(part)
            at = slice(start, start + len(rows))
            scores = torch.mm(rows, self._centroids.T, out=self._scores[: len(rows)])  # (b, k)
            own[at] = take_out(scores, labels[at], -torch.inf)
            torch.amax(scores, dim=1, out=other[at])
            start = at.stop
        return own.float(), other.float()

    def _in_float32(self, scored: Scored, places: Places, doubtful: Tensor) -> Scored:
        where = doubtful + places.start if isinstance(places, slice) else places[doubtful]
        exact = self._exact.score(where, scored.labels[doubtful])
        self._own[where] = (self.norms[where].square() - exact.sq_distances) / 2
        return Scored(*(a.index_copy(0, doubtful, b) for a, b in zip(scored, exact, strict=True)))

    def _parts(self, places: Places) -> list[Places]:
        kept, rest = split_at(places, len(self._kept))
        size = len(self._block)
        return [*parts(kept, size), *parts(rest, size)]

    def _operand(self, places: Places) -> Tensor:
        """Return rows as they enter the product, ``(b, width)``, with their last scores.

        All of them are kept, or none.
        """
        first = places.start if isinstance(places, slice) else int(places[0])
        if first >= len(self._kept):
            rows = self._block[: length(places)]
            for part, into in zip(
                parts(places, len(self._shifted)), parts(rows, len(self._shifted)), strict=True
            ):
                self._round(part, into)
        elif isinstance(places, slice):
            rows = self._kept[places]
        else:
            rows = torch.index_select(self._kept, 0, places, out=self._block[: len(places)])
        for column, digit in enumerate(digits(-self._own[places]), self._d + 3):
            rows[:, column] = digit
        return rows

    def _measure(self, places: slice, rounded: Tensor) -> None:
        shifted = self._rows.shifted(places, self._shifted)
        back = self._back[: len(shifted)].copy_(rounded[:, : self._d].copy_(shifted))
        self.norms[places] = torch.linalg.vector_norm(shifted, dim=1)
        self._residuals[places] = torch.linalg.vector_norm(shifted.sub_(back), dim=1)

    def _round(self, places: Places, into: Tensor) -> None:
        into[:, : self._d] = self._rows.shifted(places, self._shifted)
        self._columns(places, into)

    def _columns(self, places: Places, rows: Tensor) -> None:
        """Write what stands behind the numbers of rows, but for their scores."""
        columns = rows[:, self._d :].zero_()
        columns[:, :3] = 1
        columns[:, 6] = above(self._residuals[places])
        columns[:, 7] = above(self.norms[places])
