"""Rows side by side, scored by a few centroids at a time in a CPU's registers.

A loop that Numba compiles takes registers of half the width, and writes its sums out to read them
again. So this one is written as LLVM takes it: the sums of as many rows as fit some registers, and
of a few centroids, stay there from the first number to the last (Goto and van de Geijn 2008,
doi:10.1145/1356052.1356053); then it is looked which are the best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from torchkm.kernels.compiled.registers import (
    BYTES,
    INDEX,
    N_REGISTERS,
    WHOLE,
    Registers,
    arrays_of,
    lengths,
)

# Centroids that are scored at once, at most.
_AT_ONCE = 4


# Registers that take numbers of rows. With the sums, what is looked at next and the best, that is
# all that a CPU has.
_N_REGISTERS = N_REGISTERS // 8

# Bytes of one number of all rows that are scored at a time.
WIDTH = BYTES * _N_REGISTERS


class _Tile:
    """Writes LLVM's instructions for rows in ``columns (d, r)``, from ``start`` on.

    They are scored by ``aims (k, > d)``; what is known of the scores is in some arrays.
    """

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any) -> None:
        columns, self._aims = arrays_of(context, builder, kinds, values)
        known = cgutils.unpack_tuple(builder, values[3])
        self._known = arrays_of(context, builder, kinds[3], known)
        self._build, self._start = builder, values[2]
        self._lanes = BYTES * 8 // kinds[0].dtype.bitwidth
        self._registers = Registers(context, builder, kinds[0].dtype, self._lanes)
        self._d, self._run = lengths(builder, columns, 2)
        self._k, self._width = lengths(builder, self._aims, 2)
        self._columns = builder.gep(columns.data, [self._start])

    def write(self, note: Note) -> None:
        """Write what scores the rows by all aims, and ``note`` what is known of the scores."""
        build, k = self._build, self._k
        whole = build.and_(k, INDEX(-_AT_ONCE))
        with cgutils.for_range_slice(build, INDEX(0), whole, INDEX(_AT_ONCE)) as (first, _):
            self._score_by(_AT_ONCE, first, note)
        for n in (2, 1):  # what is left of them
            with build.if_then(build.icmp_signed("!=", build.and_(k, INDEX(n)), INDEX(0))):
                self._score_by(n, build.and_(k, INDEX(-2 * n)), note)

    def note_label(self, scores: list[Any], numbers: list[Any], register: int) -> None:
        """Write the best of the scores where these are better, and whose they are."""
        build, registers = self._build, self._registers
        best, found = (self._of_rows(array, register) for array in self._known)
        top, label = (
            registers.read(best, registers.numbers),
            registers.read(found, registers.wholes),
        )
        for score, number in zip(scores, numbers, strict=True):
            better, whose = build.fcmp_ordered(">", score, top), build.trunc(number, WHOLE)
            top = build.select(better, score, top)
            label = build.select(better, registers.spread(whose), label)
        registers.write(top, best)
        registers.write(label, found)

    def note_second(self, scores: list[Any], _: list[Any], register: int) -> None:
        """Write the best and the second best of the scores where these are better."""
        build, registers = self._build, self._registers
        places = [self._of_rows(array, register) for array in self._known]
        top, second = (registers.read(place, registers.numbers) for place in places)
        for score in scores:
            better = build.fcmp_ordered(">", score, top)
            top, less = build.select(better, score, top), build.select(better, top, score)
            second = build.select(build.fcmp_ordered(">", less, second), less, second)
        for value, place in zip((top, second), places, strict=True):
            registers.write(value, place)

    def note_all(self, scores: list[Any], numbers: list[Any], register: int) -> None:
        """Write the scores."""
        registers, (known,) = self._registers, self._known
        for score, number in zip(scores, numbers, strict=True):
            row = self._build.mul(number, self._run)
            registers.write(score, self._build.gep(self._of_rows(known, register), [row]))

    def _score_by(self, n: int, first: Any, note: Note) -> None:
        """Write what scores the rows by ``n`` aims from the ``first`` on."""
        build = self._build
        numbers = [build.add(first, INDEX(c)) for c in range(n)]
        aims = [build.gep(self._aims.data, [build.mul(number, self._width)]) for number in numbers]
        sums = self._products(aims)
        biases = [self._registers.spread(build.load(build.gep(aim, [self._d]))) for aim in aims]
        for register in range(_N_REGISTERS):
            of_register = zip(sums, biases, strict=True)
            scores = [build.fadd(build.load(each[register]), bias) for each, bias in of_register]
            note(self, scores, numbers, register)

    def _products(self, aims: list[Any]) -> list[list[Any]]:
        """Write the loop over numbers; return where its sums are, which LLVM keeps in registers."""
        build, registers = self._build, self._registers
        none = ir.Constant(registers.numbers, [0.0] * self._lanes)
        of_rows = range(_N_REGISTERS)
        sums = [[cgutils.alloca_once_value(build, none) for _ in of_rows] for _ in aims]
        with cgutils.for_range(build, self._d) as loop:
            column = build.gep(self._columns, [build.mul(loop.index, self._run)])
            rows = [registers.read(registers.after(column, n), registers.numbers) for n in of_rows]
            for aim, of_aim in zip(aims, sums, strict=True):
                number = registers.spread(build.load(build.gep(aim, [loop.index])))
                for some, total in zip(rows, of_aim, strict=True):
                    product = build.fmul(some, number, flags=("contract",))
                    build.store(build.fadd(build.load(total), product, flags=("contract",)), total)
        return sums

    def _of_rows(self, array: Any, register: int) -> Any:
        """Return the place of what an array has for the rows of a register."""
        return self._registers.after(self._build.gep(array.data, [self._start]), register)


Note = Callable[[_Tile, list[Any], list[Any], int], None]


def _intrinsic(note: Note) -> Any:
    """Return what a loop calls: of columns, aims, a place to start from, and what is known."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _Tile(context, builder, signature.args, values).write(note)
        return context.get_dummy_value()

    def tile(_: Any, columns: Any, aims: Any, start: Any, known: Any) -> Any:
        return types.void(columns, aims, types.intp, known), write

    return intrinsic(tile)


# These score rows in ``columns (d, r)``, from ``start`` on, as many as are ``WIDTH`` bytes of one,
# by ``aims (k, > d)``. They note what is better than is known, in arrays ``(r,)``: the best score
# and whose it is, an int32; or the best and the second best. Or they write all scores, to one array
# ``(k, r)``.
take_best = _intrinsic(_Tile.note_label)
take_two_best = _intrinsic(_Tile.note_second)
take_scores = _intrinsic(_Tile.note_all)
