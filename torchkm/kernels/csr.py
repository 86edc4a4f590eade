"""Sparse rows: compressed (CSR), so that only the numbers that are there are held and read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from torchkm.kernels.layout import sum_dtype
from torchkm.kernels.scratch import room_for

# Numbers of a batch whose memory is kept for the next.
_KEPT = 2**22


@dataclass(frozen=True, eq=False)
class CsrRows:
    """Rows ``(n, d)`` as the numbers that are there, row by row.

    Attributes:
        crow: where each row starts in ``cols`` and ``values``, and where the last ends,
            ``(n + 1,)``.
        cols: column of each number, rising within a row, ``(m,)``.
        values: the numbers, ``(m,)`` float32 or float64.
        width: d.
    """

    crow: Tensor
    cols: Tensor
    values: Tensor
    width: int

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.crow) - 1

    @property
    def shape(self) -> torch.Size:
        """``(n, d)``."""
        return torch.Size((len(self), self.width))

    @property
    def dtype(self) -> torch.dtype:
        """That of the numbers."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self.values.device

    @property
    def lengths(self) -> Tensor:
        """How many numbers each row has, ``(n,)`` int64."""
        return self.crow.diff().long()

    @property
    def matrix(self) -> Tensor:
        """The rows as a sparse tensor ``(n, d)``, to be multiplied."""
        _be_told_of_the_beta()
        return torch.sparse_csr_tensor(
            self.crow,
            self.cols,
            self.values,
            self.shape,
            device=self.device,
            check_invariants=False,
        )

    @cached_property
    def sq_norms(self) -> Tensor:
        """Squared length of each row, ``(n,)`` in the dtype of sums."""
        return self.sum_rows(self.values.to(sum_dtype(self.device)).square())

    @cached_property
    def largest(self) -> Tensor:
        """Largest absolute number of each row, ``(n,)``; NaN where one is."""
        return torch.segment_reduce(
            self.values.abs(), "max", offsets=self.crow, initial=0, unsafe=True
        )

    @cached_property
    def unit(self) -> CsrRows:
        """The rows scaled to length one; a row of zeros stays as it is."""
        tiny = torch.finfo(self.dtype).tiny
        # By their largest number first, so that no square vanishes or overflows.
        scaled = self._over(self.largest.clamp_min(tiny))
        return scaled._over(scaled.sq_norms.sqrt().to(self.dtype).clamp_min(tiny))

    def to(self, dtype: torch.dtype) -> CsrRows:
        """Return the rows in another dtype."""
        return self if dtype == self.dtype else replace(self, values=self.values.to(dtype))

    def per_value(self, by_row: Tensor) -> Tensor:
        """Repeat numbers ``(n,)`` of the rows for each of their values, ``(m,)``."""
        return torch.repeat_interleave(by_row, self.lengths, output_size=len(self.values))

    def sum_rows(self, by_value: Tensor) -> Tensor:
        """Add numbers ``(m,)`` of the values up over each row, ``(n,)``."""
        return torch.segment_reduce(by_value, "sum", offsets=self.crow, unsafe=True)

    def between(self, start: int, stop: int) -> CsrRows:
        """Return the rows from ``start`` to ``stop``, as a view but for where they start."""
        crow = self.crow[start : stop + 1]
        first, last = int(crow[0]), int(crow[-1])
        return CsrRows(crow - first, self.cols[first:last], self.values[first:last], self.width)

    def take(self, index: Tensor) -> CsrRows:
        """Return the rows of ``index (b,)``."""
        lengths = self.lengths[index]  # (b,)
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        behind = torch.repeat_interleave(self.crow[:-1][index] - crow[:-1], lengths)
        places = behind + torch.arange(len(behind), device=self.device)
        crow = crow.to(self.crow.dtype)
        return CsrRows(crow, self.cols[places], self.values[places], self.width)

    def without_empty_columns(self) -> CsrRows:
        """Return the rows in the columns alone that one of them has a number in."""
        used = torch.zeros(self.width, dtype=torch.bool, device=self.device)
        used[self.cols.long()] = True
        number = used.cumsum(0).sub_(1).to(self.cols.dtype)  # (d,)
        return replace(self, cols=number[self.cols.long()], width=max(1, int(number[-1]) + 1))

    def dense(self, index: Tensor | None = None) -> Tensor:
        """Return all rows, or those of ``index (b,)``, as a dense tensor ``(b, d)``."""
        rows = self if index is None else self.take(index)
        return rows.matrix.to_dense()

    def blocks(self, size: int) -> Iterator[tuple[slice, CsrRows]]:
        """Cut the rows into runs of at most ``size``, with where they lie."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield slice(start, stop), self.between(start, stop)

    def _over(self, by_row: Tensor) -> CsrRows:
        return replace(self, values=self.values / self.per_value(by_row))


Rows = Tensor | CsrRows


def take_rows(x: Rows, index: Tensor) -> Rows:
    """Return the rows of ``index (b,)``, sparse ones as such."""
    return x.take(index) if isinstance(x, CsrRows) else x.index_select(0, index)


def take_batch(x: Rows, index: Tensor) -> Rows:
    """Return the rows of ``index (b,)``, a few in memory that the next batch may take over."""
    if isinstance(x, CsrRows) or len(index) * x.shape[1] > _KEPT:
        return take_rows(x, index)
    return torch.index_select(x, 0, index, out=room_for("batch", len(index), x.shape[1], x))


def dense_rows(x: Rows, index: Tensor | None = None) -> Tensor:
    """Return all rows, or those of ``index (b,)``, as a dense tensor ``(b, d)``."""
    if isinstance(x, CsrRows):
        return x.dense(index)
    return x if index is None else x[index]


@cache
def _be_told_of_the_beta() -> None:
    """Let torch say, once and unheard, that its CSR tensors are in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)
