"""Products of whole numbers of eight bits: whether they pay here, and how far they may be off.

Rows are rounded to a grid, ``x = zero + step i``, and centroids to multiples of a grain,
``c = grain j``: then ``step grain i'j`` is the product ``x'c``, but for what each centroid adds and
what rounding takes. That is at most half a step for each unit of the sum of ``|c|``, and the norm
of ``x`` times that of what ``c`` loses.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels import cpu
from torchkm.kernels.keys import Bounds, IntegerKeys, IntegerMarks
from torchkm.kernels.scratch import room, room_for

# Wider rows might add up to more than fits. With fewer centroids a row is rounded for too few
# products, and of fewer numbers these take no longer in float32.
_WIDEST, _FEWEST, _MANY = 2**16, 2**7, 2**13

# A step is no less than this share of the numbers, so that float32 tells which one it is.
_FINEST = 2.0**-18

# What float32 loses of a bound.
_PER_SIZE = 2.0**-20


@cache
def is_fast() -> bool:
    """Return whether this CPU has instructions for products of eight bits, and adds them up in 32.

    Asked of the machine: of the flags of its instructions, and of a product of the largest numbers.
    """
    return cpu.has("vnni") and adds_in_int32()


@cache
def pays() -> bool:
    """Return whether it is fastest at these.

    With tiles (AMX) products in bfloat16 are no longer what takes time.
    """
    return is_fast() and not cpu.has("amx_tile")


def pays_for(x: Tensor, k: int) -> bool:
    """Return whether rows ``x (n, d)`` and ``k`` centroids are better multiplied in eight bits."""
    return _fits(x, k, _FEWEST) and pays()


def pays_in_loops_for(x: Tensor, k: int, fewest: int) -> bool:
    """Return whether they are from ``fewest`` on, where loops round rows and look at products."""
    return _fits(x, k, fewest) and is_fast()


def _fits(x: Tensor, k: int, fewest: int) -> bool:
    d = x.shape[1]
    return x.device.type == "cpu" and d <= _WIDEST and k >= fewest and k * d >= _MANY


@cache
def adds_in_int32() -> bool:
    """Return whether products of the largest numbers of eight bits are added up as they are."""
    size = 1000
    rows = torch.full((64, size), -128, dtype=torch.int8, device="cpu")
    rows[32:] = 127
    product = torch.empty(64, 64, dtype=torch.int32, device="cpu")
    try:
        torch._int_mm(rows, rows.T, out=product)
    except (AttributeError, RuntimeError):  # it is no public function
        return False
    exact = rows.double() @ rows.double().T
    return torch.equal(product.double(), exact)


class Grid(NamedTuple):
    """Where rounded numbers lie.

    Attributes:
        step: from one to the next.
        zero: what a zero stands for.
    """

    step: float
    zero: float

    @classmethod
    def over(cls, low: float, high: float) -> Grid:
        """Return the finest that reaches from ``low`` to ``high``, which are finite."""
        largest = max(abs(low), abs(high))
        step = max((high - low) / 255, _FINEST * largest, torch.finfo(torch.float32).tiny)
        return cls(step, low + 128 * step)

    def reaching(self, low: float, high: float) -> Grid:
        """Return this one if it reaches to ``low`` and ``high``, or one that does as well."""
        ends = self.zero - 128 * self.step, self.zero + 127 * self.step
        if ends[0] <= low and high <= ends[1]:
            return self
        return Grid.over(min(low, ends[0]), max(high, ends[1]))

    @property
    def lost(self) -> float:
        """How far a number may be off its place, in steps, by what float32 loses."""
        return 2.0**-22 * (abs(self.zero) / self.step + 256)


class RoundedRows:
    """Room for some rows, rounded.

    Args:
        size: the most rows.
        width: of a row.
    """

    def __init__(self, size: int, width: int) -> None:
        self._numbers = room("whole rows", size, width, torch.int8)
        self._scaled = room("scaled rows", size, width, torch.float32)

    def round(self, rows: Tensor, grid: Grid) -> Tensor:
        """Return ``rows (b, d)`` as the nearest numbers of a grid, int8."""
        b = len(rows)
        zero = torch.tensor(-grid.zero / grid.step, device="cpu")
        scaled = torch.add(zero, rows, alpha=1 / grid.step, out=self._scaled[:b])
        return self._numbers[:b].copy_(scaled.round_())


class RoundedCentroids:
    """Centroids ``(k, d)`` in eight bits, and the labels ``x'c + bias`` are largest for.

    Args:
        centroids: float.
        bias: ``(k,)``.
    """

    def __init__(self, centroids: Tensor, bias: Tensor) -> None:
        self._k, d = centroids.shape
        # Asked for like this, as a norm it takes ten times as long.
        largest = max(abs(end.item()) for end in centroids.aminmax())
        self._grain = max(largest, torch.finfo(torch.float32).tiny) / 127
        self._whole = room_for("whole", self._k, d, centroids)
        torch.div(centroids, self._grain, out=self._whole).round_()
        self._right = self._whole.to(torch.int8).T
        self._bias = bias.double()
        self._sums = self._whole.sum(1).double() * self._grain  # (k,)
        self._largest_product = 128.0 * 127 * d

    def error(self, grid: Grid, sq_norm: float, sq_norm_of_centroids: float) -> float:
        """Return what a score is typically off by, for rows and centroids of mean squared norms."""
        squares = grid.step**2 * sq_norm_of_centroids + self._grain**2 * sq_norm
        return (squares / 12) ** 0.5

    def multiply(self, numbers: Tensor, out: Tensor) -> None:
        """Multiply rounded rows: their ``numbers (b, d)``, int8, into ``out (b, k)``, int32."""
        torch._int_mm(numbers, self._right, out=out)

    def marks(self, grid: Grid, bias: Tensor | None = None) -> IntegerMarks:
        """Return what makes scores of products with rows on a grid, or, by a ``bias``, bounds."""
        bits = (self._k - 1).bit_length()
        unit = grid.step * self._grain
        bias = (self._bias if bias is None else bias) + grid.zero * self._sums
        # A little more, for what rounding up adds.
        largest = 1.01 * (self._largest_product + bias.abs().max().item() / unit) + 4
        shift = max(0, math.frexp(largest)[1] + bits - 31)
        unit *= 2**shift
        marks = (bias / unit).ceil_().add_(1).to(torch.int32) * 2**bits
        marks += torch.arange(self._k, dtype=torch.int32, device="cpu")
        return IntegerMarks(marks, shift, unit)


class BoundedCentroids(RoundedCentroids):
    """Centroids in eight bits with what their scores may be off by.

    Args:
        centroids: ``(k, d)``, at least two.
        bias: ``(k,)``.
        lost: what rounding took of a score before, whatever the row ``()``.
    """

    def __init__(self, centroids: Tensor, bias: Tensor, lost: Tensor) -> None:
        super().__init__(centroids, bias)
        whole, (k, d) = self._whole, centroids.shape
        unit, self._lost = torch.finfo(centroids.dtype).eps, lost.float()
        sizes = torch.abs(whole, out=room_for("sizes", k, d, centroids)).sum(1).double()
        self._sizes = sizes * self._grain  # (k,)
        self._largest_product = 128 * sizes.max().item()
        residuals = torch.linalg.vector_norm(whole.mul_(-self._grain).add_(centroids), dim=1)
        norms = torch.linalg.vector_norm(centroids, dim=1)
        # For each unit of the norm of a row, which is rounded itself.
        shares = (residuals + 2 * unit * norms) * (1 + 4 * d * unit) * (1 + _PER_SIZE)
        self._shares = shares.float()

    def keys(self, grid: Grid) -> IntegerKeys:
        """Return what makes bounds of products with rows on a grid, in units of their norms."""
        slack = grid.step * (0.5 + grid.lost) * self._sizes
        marks = self.marks(grid, self._bias + slack)
        share, fixed = self._shares.max(), (2 * slack + 3 * marks.unit).float()
        bounds = Bounds(self._shares + share, self._lost, _PER_SIZE, fixed)
        return IntegerKeys(marks, share, bounds)

    def as_arrays(self) -> tuple[Any, ...]:
        """Return what makes bounds of products in a loop: see ``compiled/eight_bits.py``.

        The grain; and for each centroid ``(k,)``, in float32, the bias, the sum of its numbers and
        of their sizes, and what a score is off by for each unit of a row's norm, and in any case.
        """
        # What float32 loses of the bias comes on top; see there.
        fixed = (self._lost.double() + 2.0**-21 * self._bias.abs()) * (1 + _PER_SIZE)
        each = self._bias, self._sums, self._sizes, self._shares, fixed
        return np.float32(self._grain), *(numbers.float().numpy() for numbers in each)


def middle(centroids: Tensor) -> Tensor:
    """Return the point ``(d,)`` nearest the mean from which ``centroids (k, d)`` reach least far.

    In any one of their numbers.
    """
    low, high = centroids.amin(0), centroids.amax(0)
    reach = (high - low).max() / 2
    return centroids.mean(0).clamp(high - reach, low + reach)
