"""Rows so few that what a pass costs is the number of calls it makes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.compact import Block, Compact, first_of_equals
from torchkm.kernels.products import SMALL
from torchkm.kernels.rows import OrderedRows

# Few sums, of up to so many numbers, come cheaply from a product, so that a pass may multiply more;
# as long as the rows stay in cache.
_FEW, _PASS, _CACHED = 2**8, 2**21, 2**17


def is_tiny(x: Tensor, k: int) -> bool:
    """Return whether rows ``x (n, d)`` and ``k`` centroids make a tiny problem."""
    n, d = x.shape
    sums = k * (d + 2)
    return n * (d + 2) <= _CACHED and n * sums <= (_PASS if sums <= _FEW else SMALL)


class _Arrays(NamedTuple):
    """A block as NumPy sees it; see ``Block``."""

    columns: NDArray[Any]
    rows: NDArray[Any]
    named: tuple[NDArray[Any], NDArray[Any]]
    scores: NDArray[Any]
    best: NDArray[Any]
    nearest: NDArray[Any]  # (k, b), whether a row is as near to a centroid as to any
    members: NDArray[Any]  # (k, b), the same in float64


class Tiny(Compact):
    """A ``Compact`` whose passes are a handful of NumPy's calls: they take half as long."""

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        super().__init__(rows, sample_weight, k)
        self._size = min(self._size, max(1, SMALL // (k * (self._d + 2))))
        self._named, self._naming = self._named.double(), self._naming.double()
        self._naming_array = self._naming.numpy()
        self._members_array = self._members_of.numpy()
        self._arrays: list[_Arrays] = []

    def _block(self, places: slice, shifted: Tensor) -> Block:
        block = super()._block(places, shifted)
        first, second = block.named
        self._arrays.append(
            _Arrays(
                block.columns.numpy(),
                block.rows.numpy(),
                (first.numpy(), second.numpy()),
                block.scores.numpy(),
                block.best.numpy(),
                np.empty(block.scores.shape, bool),
                block.exact.numpy(),
            )
        )
        return block

    def _label(self, against: Tensor, careful: bool) -> tuple[int, list[float]]:
        n_changed, last = 0, 1 - self._turn
        for number, block in enumerate(self._arrays):
            np.matmul(self._against_array, block.columns, out=block.scores)
            np.minimum.reduce(block.scores, 0, out=block.best)
            block.members[...] = np.equal(block.scores, block.best, out=block.nearest)
            named = np.matmul(self._naming_array, block.members, out=block.named[self._turn])
            if careful and named[1].sum() != len(block.rows):
                whole = self._blocks[number]
                first_of_equals(whole.exact, whole.named[self._turn])
            if number:
                self._all_totals += block.members @ block.rows
            else:
                np.matmul(block.members, block.rows, out=self._all_totals)
            n_changed += int(np.count_nonzero(named[0] != block.named[last][0]))
        return n_changed, self._members_array.tolist()
