"""Wide rows as they lie, scored by a few centroids at a time in a CPU's registers.

The numbers of a row are side by side already: a register of them is multiplied at once, of a few
rows by a few centroids, and what each of its lanes has added up comes together in the end. So rows
need not be turned, as ``tile.py`` would have them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from torchkm.kernels.compiled.registers import (
    BYTES,
    INDEX,
    N_REGISTERS,
    Registers,
    arrays_of,
    lengths,
)

# Rows that are scored at once, and centroids, whose sums take most registers.
AT_ONCE = 4
_CENTROIDS = 3 if N_REGISTERS < 32 else 6

Array = NDArray[Any]


def aims_of(centroids: Array, bias: Array) -> Array:
    """Return what rows are scored by, made of ``centroids (k, d)`` and what is added for a score.

    For each centroid the numbers that fill registers; the last register, without those that were
    counted before; and its ``bias (k,)``.
    """
    k, d = centroids.shape
    lanes = BYTES // centroids.itemsize
    whole = d - d % lanes
    aims = np.zeros((k, whole + lanes + 1), centroids.dtype)
    aims[:, :whole] = centroids[:, :whole]
    aims[:, -1 - d % lanes : -1] = centroids[:, whole:]
    aims[:, -1] = bias
    return aims


class _Tile:
    """Writes LLVM's instructions for some ``rows (r, d)`` from a ``start`` on."""

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any, n_rows: int) -> None:
        rows, self._aims, self._scores = arrays_of(context, builder, kinds, values)
        self._build, self._start = builder, values[2]
        self._lanes = BYTES * 8 // kinds[0].dtype.bitwidth
        self._registers = Registers(context, builder, kinds[0].dtype, self._lanes)
        self._d = lengths(builder, rows, 2)[1]
        self._k, self._width = lengths(builder, self._aims, 2)
        self._run = lengths(builder, self._scores, 2)[1]
        numbers = [builder.add(self._start, INDEX(each)) for each in range(n_rows)]
        self._rows = [builder.gep(rows.data, [builder.mul(each, self._d)]) for each in numbers]

    def write(self) -> None:
        """Write what scores the rows by all aims, a few at a time, and by what is left of them."""
        build, k = self._build, self._k
        whole = build.sub(k, build.urem(k, INDEX(_CENTROIDS)))
        with cgutils.for_range_slice(build, INDEX(0), whole, INDEX(_CENTROIDS)) as (first, _):
            self._score_by(_CENTROIDS, first)
        with cgutils.for_range_slice(build, whole, k, INDEX(1)) as (first, _):
            self._score_by(1, first)

    def _score_by(self, n: int, first: Any) -> None:
        """Write what scores the rows by ``n`` aims from the ``first`` on."""
        build, registers = self._build, self._registers
        numbers = [build.add(first, INDEX(c)) for c in range(n)]
        aims = [build.gep(self._aims.data, [build.mul(number, self._width)]) for number in numbers]
        none = ir.Constant(registers.numbers, [0.0] * self._lanes)
        sums = [[cgutils.alloca_once_value(build, none) for _ in self._rows] for _ in aims]
        rest = build.urem(self._d, INDEX(self._lanes))
        whole = build.sub(self._d, rest)
        with cgutils.for_range_slice(build, INDEX(0), whole, INDEX(self._lanes)) as (at, _):
            self._add(sums, aims, at, at)
        with build.if_then(build.icmp_signed("!=", rest, INDEX(0))):
            self._add(sums, aims, build.sub(self._d, INDEX(self._lanes)), whole)
        last = build.sub(self._width, INDEX(1))
        for number, aim, of_aim in zip(numbers, aims, sums, strict=True):
            bias = build.load(build.gep(aim, [last]))
            row = build.gep(self._scores.data, [build.mul(number, self._run)])
            for each, total in enumerate(of_aim):
                place = build.gep(row, [build.add(self._start, INDEX(each))])
                build.store(build.fadd(registers.total(build.load(total)), bias), place)

    def _add(self, sums: Any, aims: list[Any], of_rows: Any, of_aims: Any) -> None:
        """Write what adds the products of a register of numbers, which begin at two places."""
        build, registers = self._build, self._registers
        others = [registers.read(build.gep(aim, [of_aims]), registers.numbers) for aim in aims]
        for each, row in enumerate(self._rows):
            numbers = registers.read(build.gep(row, [of_rows]), registers.numbers)
            for other, of_aim in zip(others, sums, strict=True):
                product = build.fmul(numbers, other, flags=("contract",))
                total = build.fadd(build.load(of_aim[each]), product, flags=("contract",))
                build.store(total, of_aim[each])


def _intrinsic(n_rows: int) -> Any:
    """Return what a loop calls: of rows, aims, a place to start from, and scores."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _Tile(context, builder, signature.args, values, n_rows).write()
        return context.get_dummy_value()

    def tile(_: Any, rows: Any, aims: Any, start: Any, scores: Any) -> Any:
        return types.void(rows, aims, types.intp, scores), write

    return intrinsic(tile)


# These write the ``scores (k, > r)`` of ``rows (r, d)`` by ``aims``, from ``start`` on: of as many
# rows as are scored at once, or of one. Rows are at least as wide as a register.
score_some = _intrinsic(AT_ONCE)
score_one = _intrinsic(1)
