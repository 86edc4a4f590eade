"""Rows in the order in which they are admitted, fetched block by block as a kernel wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.csr import CsrRows, Rows
from torchkm.kernels.layout import unit

# Positions of rows in their order: a run of them, or any.
Places = slice | Tensor


class Standing(NamedTuple):
    """Where rows stand: those ``which (b,)`` of a ``matrix (r, d)``, less an ``origin (d,)``."""

    matrix: Tensor
    which: Tensor
    origin: Tensor

    @classmethod
    def alone(cls, rows: Tensor) -> Standing:
        """Return where shifted ``rows (b, d)`` stand, of which there are no others."""
        return cls(rows, torch.arange(len(rows), device="cpu"), torch.zeros_like(rows[0]))


@dataclass(frozen=True)
class OrderedRows:
    """Rows of ``x (n, d)`` at the places of ``order (n,)``; None is the order they lie in.

    Attributes:
        x: ``(n, d)``.
        order: which row stands at each place, or None.
        origin: ``(d,)``, what rows are shifted by, in the dtype to compute in.
        unit_rows: whether rows are scaled to unit length.
    """

    x: Rows
    order: Tensor | None
    origin: Tensor
    unit_rows: bool

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.x)

    def buffer(self, size: int) -> Tensor:
        """Return room for ``size`` shifted rows."""
        return self.origin.new_empty(min(size, len(self.x)), self.x.shape[1])

    def shifted(self, places: Places, buffer: Tensor) -> Tensor:
        """Return the rows ``(b, d)`` less the origin, in ``buffer``."""
        index = self.index(places)
        if isinstance(self.x, CsrRows):
            out = buffer[: length(index)].copy_(_sparse(self.x, index).dense())
        elif isinstance(index, slice):
            rows = self.x[index]
            out = buffer[: len(rows)].copy_(rows)
        elif self.x.dtype == buffer.dtype:
            out = torch.index_select(self.x, 0, index, out=buffer[: len(index)])
        else:
            out = buffer[: len(index)].copy_(self.x.index_select(0, index))
        if self.unit_rows:
            out.copy_(unit(out))
        return out.sub_(self.origin)

    def as_they_lie(self, places: slice) -> Tensor | None:
        """Return the rows ``(b, d)`` where nothing but the origin is to be taken from them."""
        x = self.x
        if isinstance(x, CsrRows) or self.order is not None or self.unit_rows:
            return None
        return x[places] if x.dtype == self.origin.dtype and x.is_contiguous() else None

    @property
    def stand(self) -> bool:
        """Whether nothing but the origin is to be taken from rows on a CPU, in whatever order."""
        x = self.x
        if isinstance(x, CsrRows) or self.unit_rows or x.device.type != "cpu":
            return False
        return x.dtype == self.origin.dtype and x.is_contiguous()

    def standing(self, places: Places, buffer: Tensor) -> Standing:
        """Return where the rows of ``places`` stand: where they lie, or in the ``buffer``."""
        if not self.stand or isinstance(self.x, CsrRows):
            return Standing.alone(self.shifted(places, buffer))
        return Standing(self.x, numbers_of(self.index(places)), self.origin)

    def index(self, places: Places) -> Places:
        """Return where in ``x`` the rows of ``places`` lie."""
        return places if self.order is None else self.order[places]


def _sparse(x: CsrRows, index: Places) -> CsrRows:
    return x.between(index.start, index.stop) if isinstance(index, slice) else x.take(index)


def numbers_of(places: Places) -> Tensor:
    """Return places one by one ``(b,)``."""
    if isinstance(places, slice):
        return torch.arange(places.start, places.stop, device="cpu")
    return places


def length(places: Places) -> int:
    """Return how many places there are."""
    return places.stop - places.start if isinstance(places, slice) else len(places)


def parts(places: Any, size: int) -> Iterator[Any]:
    """Cut ``places`` into runs of at most ``size``."""
    for start in range(0, length(places), size):
        stop = min(start + size, length(places))
        if isinstance(places, slice):
            yield slice(places.start + start, places.start + stop)
        else:
            yield places[start:stop]


def split_at(places: Places, place: int) -> tuple[Places, Places]:
    """Cut ``places``, which rise, into those below ``place`` and the rest."""
    if isinstance(places, slice):
        cut = min(max(place, places.start), places.stop)
        return slice(places.start, cut), slice(cut, places.stop)
    cut = int(torch.searchsorted(places, place))
    return places[:cut], places[cut:]


def take_out(scores: Tensor, labels: Tensor, instead: float) -> Tensor:
    """Return the score of each row's label ``(b,)`` and put ``instead`` in its place.

    On the flat ``scores (b, k)``: along a dimension, torch would walk through all of them.
    """
    b, k = scores.shape
    at = labels + torch.arange(0, b * k, k, device=labels.device)  # (b,)
    flat = scores.view(-1)
    own = flat.index_select(0, at)
    flat.index_fill_(0, at, instead)
    return own
