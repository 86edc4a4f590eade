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

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from torchkm.kernels.bfloat16 import SUM_UNIT, UNIT, above, digits
from torchkm.kernels.direct import DirectScorer, Entered, Scored
from torchkm.kernels.rows import OrderedRows, Places, length, parts, split_at, take_out

# Columns behind the numbers, and what the width is rounded up to for the instructions.
_EXTRA, _TILE = 8, 32

# Bytes of rounded rows that are kept; rows beyond are rounded again in each pass.
_KEPT_BYTES = 96 * 2**20

# Scores of a block, and its fewest and most rows. Blocks are padded to powers of two: for each new
# shape the product is prepared anew, which takes longer than the product.
_BLOCK_SCORES, _FEWEST_ROWS, _MOST_ROWS = 2**21, 2**8, 2**12

# Rows that come in at once, and those of them that are rounded at once.
_ROWS_AT_ONCE, _ROWS_IN_CACHE = 2**10, 2**8

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
        size = min(_whole(_BLOCK_SCORES // k + 1) // 2, _whole(n), _MOST_ROWS)
        self._n_kept = min(n, _KEPT_BYTES // (2 * self._width))
        self._kept = torch.empty(
            self._n_kept + size, self._width, dtype=torch.bfloat16, device="cpu"
        )
        self._block = torch.empty(size, self._width, dtype=torch.bfloat16, device="cpu")
        self._scores = torch.empty(size, k, dtype=torch.bfloat16, device="cpu")
        self._shifted = rows.buffer(min(size, _ROWS_AT_ONCE))
        self._back = rows.buffer(_ROWS_IN_CACHE)
        # What stands behind the numbers of a row of which nothing more is known.
        self._blank = torch.zeros(self._width - self._d, dtype=torch.bfloat16, device="cpu")
        self._blank[:3] = 1

    @property
    def n_rescored(self) -> int:
        """How many rows were scored in float32 so far."""
        return self._exact.n_scored

    def enter(self, places: slice) -> Iterator[Entered]:
        """Measure rows that come in, label them as bfloat16 alone would, some at a time.

        They are kept rounded as far as there is room.
        """
        kept, rest = split_at(places, self._n_kept)
        for part in [*parts(kept, len(self._shifted)), *parts(rest, len(self._shifted))]:
            operand, n_rows = self._padded(part), length(part)
            rows = self._measure(part, operand)
            operand[:n_rows, self._d :] = self._blank
            best, labels = self._product(operand)[:n_rows].max(dim=1)  # (b, k) -> (b,)
            self._own[part] = best.float()
            nothing = torch.zeros(n_rows, device="cpu")
            yield Entered(part, rows, Scored(labels, self.norms[part], nothing))
        self._write_bounds(kept, self._kept[kept])

    def aim(self, centred: Tensor) -> None:
        """Take the centroids ``(k, d)``, shifted, that rows are to be scored against."""
        self._exact.aim(centred)
        d = self._d
        operand = torch.zeros(len(centred), self._width, dtype=torch.bfloat16, device="cpu")
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

    def score(self, places: Places, labels: Tensor, proven: bool = True) -> Scored:
        """Score the rows of ``places`` whose last ``labels (b,)`` are given.

        Where bfloat16 leaves a doubt, labels are those of float32 if they are to be ``proven``,
        and its best guess if not.
        """
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
        if not len(doubtful):
            return scored
        where = doubtful + places.start if isinstance(places, slice) else places[doubtful]
        if proven:
            return self._in_float32(scored, where, doubtful)
        return scored._replace(labels=labels.index_copy(0, doubtful, self._guess(where)))

    def leads(self, places: Places, labels: Tensor) -> Tensor:
        """Return what the leads ``(b,)`` of rows whose last labels are given are at least."""
        return self.score(places, labels, proven=False).leads

    def _own_and_other(self, places: Places, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return upper bounds ``(b,)`` of the own score and of the largest other one."""
        own = torch.empty(len(labels), dtype=torch.bfloat16, device="cpu")
        other = torch.empty_like(own)
        start = 0
        for part in self._parts(places):
            at = slice(start, start + length(part))
            scores = self._product(self._operand(part))[: length(part)]
            own[at] = take_out(scores, labels[at], -torch.inf)
            torch.amax(scores, dim=1, out=other[at])
            start = at.stop
        return own.float(), other.float()

    def _guess(self, places: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of the largest upper bounds."""
        labels = []
        for part in self._parts(places):
            scores = self._product(self._operand(part))[: length(part)]
            best, label = scores.max(dim=1)  # (b, k) -> (b,)
            self._own[part] += best.float()
            labels.append(label)
        return torch.cat(labels)

    def _in_float32(self, scored: Scored, where: Tensor, doubtful: Tensor) -> Scored:
        exact = self._exact.score(where, scored.labels[doubtful])
        self._own[where] = (self.norms[where].square() - exact.sq_distances) / 2
        return Scored(*(a.index_copy(0, doubtful, b) for a, b in zip(scored, exact, strict=True)))

    def _parts(self, places: Places) -> list[Places]:
        kept, rest = split_at(places, self._n_kept)
        size = len(self._block)
        return [*parts(kept, size), *parts(rest, size)]

    def _product(self, operand: Tensor) -> Tensor:
        """Return scores ``(b, k)`` in a buffer."""
        return torch.mm(operand, self._centroids.T, out=self._scores[: len(operand)])

    def _padded(self, places: slice) -> Tensor:
        """Return where rows stand rounded, with any others behind them, ``(b, width)``."""
        size = _whole(length(places))
        if places.start < self._n_kept:
            return self._kept[places.start : places.start + size]
        return self._block[:size]

    def _operand(self, places: Places) -> Tensor:
        """Return rows as they enter the product, with their last scores; padded, ``(b, width)``.

        All of them are kept, or none.
        """
        n_rows = length(places)
        first = places.start if isinstance(places, slice) else int(places[0])
        if first >= self._n_kept:
            operand = self._block[: _whole(n_rows)]
            self._round(places, operand[:n_rows])
        elif isinstance(places, slice):
            operand = self._padded(places)
        else:
            operand = self._block[: _whole(n_rows)]
            torch.index_select(self._kept, 0, places, out=operand[:n_rows])
        for column, digit in enumerate(digits(-self._own[places]), self._d + 3):
            operand[:n_rows, column] = digit
        return operand

    def _measure(self, places: slice, rounded: Tensor) -> Tensor:
        """Round rows and return them as they were, for as long as the buffer has them."""
        rows = self._shifted[: length(places)]
        for part, at in _in_cache(places):
            shifted = self._rows.shifted(part, rows[at])
            back = self._back[: len(shifted)].copy_(rounded[at, : self._d].copy_(shifted))
            self.norms[part] = torch.linalg.vector_norm(shifted, dim=1)
            self._residuals[part] = torch.linalg.vector_norm(back.sub_(shifted), dim=1)
        return rows

    def _round(self, places: Places, into: Tensor) -> None:
        for part, at in _in_cache(places):
            into[at, : self._d] = self._rows.shifted(part, self._back)
        into[:, self._d :] = self._blank
        self._write_bounds(places, into)

    def _write_bounds(self, places: Places, rows: Tensor) -> None:
        rows[:, self._d + 6] = above(self._residuals[places])
        rows[:, self._d + 7] = above(self.norms[places])


def _whole(n_rows: int) -> int:
    """Return how many rows a block of ``n_rows`` is padded to."""
    return max(_FEWEST_ROWS, 1 << (n_rows - 1).bit_length())


def _in_cache(places: Places) -> Iterator[tuple[Any, slice]]:
    """Cut ``places`` into runs that stay in cache; with each, where it begins and ends in them."""
    whole = slice(0, length(places))
    return zip(parts(places, _ROWS_IN_CACHE), parts(whole, _ROWS_IN_CACHE), strict=True)
