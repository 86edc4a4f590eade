"""Rows side by side, scored by a few centroids at a time in a CPU's registers.

A loop that Numba compiles takes registers of half the width, and writes its sums out to read them
again. So this one is written as LLVM takes it: the sums of as many rows as fit some registers, and
of a few centroids, stay there from the first number to the last (Goto and van de Geijn 2008,
doi:10.1145/1356052.1356053); then it is looked which are the best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INDEX, _WHOLE = ir.IntType(64), ir.IntType(32)

# Centroids that are scored at once, at most.
_AT_ONCE = 4


def _registers() -> tuple[int, int]:
    """Return how many bytes a register has, and how many of them take numbers of rows.

    With the sums, what is looked at next and the best, that is all that a CPU has.
    """
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 4
    if features.get("avx"):
        return 32, 2
    return 16, 2 if features.get("sse2") else 4


_BYTES, _N_REGISTERS = _registers()

# Bytes of one number of all rows that are scored at a time.
WIDTH = _BYTES * _N_REGISTERS


class _Tile:
    """Writes LLVM's instructions for rows in ``columns (d, r)``, from ``start`` on.

    They are scored by ``aims (k, > d)``; what is known of the scores is in arrays ``(r,)``.
    """

    def __init__(self, context: Any, builder: Any, kinds: list[Any], values: list[Any]) -> None:
        self._build = builder
        self._lanes = _BYTES * 8 // kinds[0].dtype.bitwidth
        columns, self._aims, *known = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(kinds, values, strict=True)
            if isinstance(kind, types.Array)
        )
        start = values[2]
        (self._d, self._run), (k, self._width) = (
            [builder.extract_value(array.shape, axis) for axis in (0, 1)]
            for array in (columns, self._aims)
        )
        self._k, self._columns = k, builder.gep(columns.data, [start])
        self._known = [builder.gep(array.data, [start]) for array in known]
        self._numbers = ir.VectorType(context.get_data_type(kinds[0].dtype), self._lanes)
        self._wholes = ir.VectorType(_WHOLE, self._lanes)

    def write(self, note: Note) -> None:
        """Write what scores the rows by all aims, and ``note`` what is known of the scores."""
        build, k = self._build, self._k
        whole = build.and_(k, _INDEX(-_AT_ONCE))
        with cgutils.for_range_slice(build, _INDEX(0), whole, _INDEX(_AT_ONCE)) as (first, _):
            self._score_by(_AT_ONCE, first, note)
        for n in (2, 1):  # what is left of them
            with build.if_then(build.icmp_signed("!=", build.and_(k, _INDEX(n)), _INDEX(0))):
                self._score_by(n, build.and_(k, _INDEX(-2 * n)), note)

    def note_label(self, scores: list[Any], numbers: list[Any], best: Any, found: Any) -> None:
        """Write the ``best`` of scores where these are better, and whose they are."""
        build = self._build
        top, label = self._read(best, self._numbers), self._read(found, self._wholes)
        for score, number in zip(scores, numbers, strict=True):
            better = build.fcmp_ordered(">", score, top)
            top, label = build.select(better, score, top), build.select(better, number, label)
        self._write(top, best)
        self._write(label, found)

    def note_second(self, scores: list[Any], _: list[Any], best: Any, second: Any) -> None:
        """Write the ``best`` and the ``second`` best of scores where these are better."""
        build = self._build
        top, runner_up = (self._read(place, self._numbers) for place in (best, second))
        for score in scores:
            better = build.fcmp_ordered(">", score, top)
            top, less = build.select(better, score, top), build.select(better, top, score)
            closer = build.fcmp_ordered(">", less, runner_up)
            runner_up = build.select(closer, less, runner_up)
        self._write(top, best)
        self._write(runner_up, second)

    def _score_by(self, n: int, first: Any, note: Note) -> None:
        """Write what scores the rows by ``n`` aims from the ``first`` on."""
        build = self._build
        numbers = [build.add(first, _INDEX(c)) for c in range(n)]
        aims = [build.gep(self._aims.data, [build.mul(number, self._width)]) for number in numbers]
        sums = self._products(aims)
        biases = [self._spread(build.load(build.gep(aim, [self._d]))) for aim in aims]
        whose = [self._spread(build.trunc(number, _WHOLE)) for number in numbers]
        for register in range(_N_REGISTERS):
            of_register = zip(sums, biases, strict=True)
            scores = [build.fadd(build.load(each[register]), bias) for each, bias in of_register]
            note(self, scores, whose, *(self._from(place, register) for place in self._known))

    def _products(self, aims: list[Any]) -> list[list[Any]]:
        """Write the loop over numbers; return where its sums are, which LLVM keeps in registers."""
        build, none = self._build, ir.Constant(self._numbers, [0.0] * self._lanes)
        registers = range(_N_REGISTERS)
        sums = [[cgutils.alloca_once_value(build, none) for _ in registers] for _ in aims]
        with cgutils.for_range(build, self._d) as loop:
            column = build.gep(self._columns, [build.mul(loop.index, self._run)])
            rows = [self._read(self._from(column, each), self._numbers) for each in registers]
            for aim, of_aim in zip(aims, sums, strict=True):
                number = self._spread(build.load(build.gep(aim, [loop.index])))
                for some, total in zip(rows, of_aim, strict=True):
                    product = build.fmul(some, number, flags=("contract",))
                    build.store(build.fadd(build.load(total), product, flags=("contract",)), total)
        return sums

    def _from(self, place: Any, register: int) -> Any:
        """Write a place so many registers further on."""
        return self._build.gep(place, [_INDEX(register * self._lanes)])

    def _read(self, place: Any, kind: Any) -> Any:
        return self._build.load(self._as(kind, place), align=self._alignment(kind))

    def _write(self, value: Any, place: Any) -> None:
        kind = value.type
        self._build.store(value, self._as(kind, place), align=self._alignment(kind))

    def _as(self, kind: Any, place: Any) -> Any:
        return self._build.bitcast(place, kind.as_pointer())

    def _alignment(self, kind: Any) -> int:
        return 4 if kind == self._wholes else _BYTES // self._lanes

    def _spread(self, value: Any) -> Any:
        """Write one number to all of a register."""
        kind, zero = ir.VectorType(value.type, self._lanes), ir.Constant(_WHOLE, 0)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self._build.insert_element(nothing, value, zero)
        everywhere = ir.Constant(ir.VectorType(_WHOLE, self._lanes), [0] * self._lanes)
        return self._build.shuffle_vector(first, nothing, everywhere)


Note = Callable[..., None]


def _intrinsic(note: Note) -> Any:
    """Return what a loop calls: of columns, aims, a place to start from, and what is known."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _Tile(context, builder, signature.args, values).write(note)
        return context.get_dummy_value()

    def tile(_: Any, columns: Any, aims: Any, start: Any, first: Any, second: Any) -> Any:
        return types.void(columns, aims, types.intp, first, second), write

    return intrinsic(tile)


# For rows in ``columns (d, r)`` from ``start`` on, as many as are ``WIDTH`` bytes of a column, these
# note which of their scores by ``aims (k, > d)`` are better than what is known, ``(r,)`` each: the
# best, and whose it is, an int32; or the best and the second best.
take_best = _intrinsic(_Tile.note_label)
take_two_best = _intrinsic(_Tile.note_second)
