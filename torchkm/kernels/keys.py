"""Bounds of scores that carry their label in their last bits.

A maximum of them then finds both, in a fifth of the time of one that keeps an index. Which bits a
label takes are counted as rounding, or made room for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Bounds(NamedTuple):
    """How far bounds of scores may be off.

    Attributes:
        looseness: what the score of a centroid may lie below its bound for each unit of the
            length that comes with a row, ``(k,)``.
        at_least: what rounding took of a bound, whatever the row ``()``.
        per_size: and for each unit of the bound itself.
        fixed: what a score may lie below its bound, whatever the row, ``(k,)``.
    """

    looseness: Tensor
    at_least: Tensor
    per_size: float
    fixed: Tensor

    def above(self, uppers: Tensor) -> Tensor:
        """Return what no score with one of these ``uppers (b,)`` can be above ``(b,)``."""
        larger = torch.maximum(uppers * (1 + self.per_size), uppers * (1 - self.per_size))
        return larger.add_(self.at_least)

    def loose(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """Return what the scores with ``labels (b,)`` may lie below their bounds ``(b,)``."""
        return torch.addcmul(self.fixed[labels], lengths, self.looseness[labels])


class FloatKeys:
    """Bounds in float32, the last of whose digits give way to the label.

    Args:
        bounds: how far they may be off before that.
    """

    lowest = -torch.inf

    def __init__(self, bounds: Bounds) -> None:
        self._k = len(bounds.looseness)
        self._marks = torch.arange(self._k, dtype=torch.int32, device="cpu")
        bits = (self._k - 1).bit_length()
        self._mask = (1 << bits) - 1
        self.bounds = bounds._replace(per_size=bounds.per_size + 2.0 ** (bits - 23))

    def mark(self, uppers: Tensor) -> None:
        """Write the label of each of ``uppers (b, k)`` into its last bits."""
        uppers.view(torch.int32).bitwise_and_(~self._mask).bitwise_or_(self._marks)

    def labels(self, keys: Tensor) -> Tensor:
        """Return the labels in ``keys (b,)``; of NaN it may be any."""
        return (keys.view(torch.int32) & self._mask).clamp_(max=self._k - 1)

    def uppers(self, keys: Tensor, lengths: Tensor) -> Tensor:
        """Return what ``keys (b,)`` of rows of ``lengths (b,)`` stand for."""
        return keys

    def least(self, uppers: Tensor, lengths: Tensor) -> Tensor:
        """Return the lowest keys ``(b,)`` of such ``uppers (b,)`` as float32 has them."""
        return uppers


class IntegerMarks(NamedTuple):
    """How whole numbers become scores, whose label stands behind their digits.

    Attributes:
        marks: what is added to each number once it has moved up by the digits of a label: what
            makes a score of it, moved up likewise, and the label ``(k,)``, int32.
        shift: by how many digits numbers are cut short before, so that there is room.
        unit: how much a score rises from one whole number to the next.
    """

    marks: Tensor
    shift: int
    unit: float

    @property
    def bits(self) -> int:
        """How many a label takes."""
        return (len(self.marks) - 1).bit_length()

    def write(self, numbers: Tensor) -> None:
        """Make scores with labels of ``numbers (b, k)``."""
        if self.shift:
            numbers.bitwise_right_shift_(self.shift)
        torch.add(self.marks, numbers, alpha=1 << self.bits, out=numbers)

    def labels(self, keys: Tensor) -> Tensor:
        """Return the labels in ``keys (b,)``."""
        return keys & ((1 << self.bits) - 1)


class IntegerKeys:
    """Bounds in whole numbers.

    Args:
        marks: how numbers become bounds.
        per_length: what a bound lies above them for each unit of the length that comes with a row.
        bounds: how far bounds may be off.
    """

    lowest = -(2**31)

    def __init__(self, marks: IntegerMarks, per_length: Tensor, bounds: Bounds) -> None:
        self._marks, self._per_length, self.bounds = marks, per_length, bounds
        self.mark, self.labels = marks.write, marks.labels

    def scores(self, numbers: Tensor) -> Tensor:
        """Return bounds ``(b, k)`` that are not marked yet, all of a row short of the same."""
        marks, shift, unit = self._marks
        whole = (numbers >> shift) + (marks >> self._marks.bits)
        return whole.float().mul_(unit)

    def uppers(self, keys: Tensor, lengths: Tensor) -> Tensor:
        """Return what ``keys (b,)`` of rows of ``lengths (b,)`` stand for, in float32."""
        uppers = (keys >> self._marks.bits).float().mul_(self._marks.unit)
        return uppers.addcmul_(lengths, self._per_length)

    def least(self, uppers: Tensor, lengths: Tensor) -> Tensor:
        """Return keys ``(b,)`` that are no higher than those of such ``uppers (b,)``."""
        numbers = torch.addcmul(uppers, lengths, self._per_length, value=-1).double()
        numbers = numbers.div_(self._marks.unit).floor_().mul_(1 << self._marks.bits)
        return numbers.clamp_(self.lowest, -self.lowest - 1).to(torch.int32)


Keys = FloatKeys | IntegerKeys
