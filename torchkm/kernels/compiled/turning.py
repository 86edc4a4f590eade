"""Rows and numbers that change places in registers, eight by eight."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from torchkm.kernels.compiled.registers import INDEX, Registers, arrays_of, lengths

# Rows, and numbers of them, that change places at once.
SIDE = 8


def _turner(_: Any, rows: Any, i: Any, j: Any, origin: Any, columns: Any, at: Any) -> Any:

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = arrays_of(context, builder, signature.args, values)
        registers = Registers(context, builder, rows.dtype, SIDE)
        _turn(builder, registers, arrays, (*values[1:3], values[5]))
        return context.get_dummy_value()

    where = types.intp
    return types.void(rows, where, where, origin, columns, where), write


def _turn(build: Any, registers: Registers, arrays: list[Any], where: tuple[Any, ...]) -> None:
    (rows, origin, columns), (i, j, at) = arrays, where
    zero = registers.read(build.gep(origin.data, [j]), registers.numbers)
    taken = [
        build.fsub(registers.read(place, registers.numbers), zero)
        for place in _places(build, rows, i, j)
    ]
    for numbers, place in zip(
        _changed(registers, taken), _places(build, columns, j, at), strict=True
    ):
        registers.write(numbers, place)


def _places(build: Any, array: Any, first: Any, at: Any) -> list[Any]:
    """Return where eight rows of an array begin, from one on, at a number of theirs."""
    _, width = lengths(build, array, 2)
    numbers = [build.mul(build.add(first, INDEX(each)), width) for each in range(SIDE)]
    return [build.gep(array.data, [build.add(number, at)]) for number in numbers]


def _changed(registers: Registers, rows: list[Any]) -> list[Any]:
    """Return rows whose places have changed with those of their numbers.

    First blocks of half the size do, off the diagonal, then half of these in each.
    """
    rows, half = list(rows), SIDE // 2
    while half:
        upper = [c + SIDE - half if c & half else c for c in range(SIDE)]
        lower = [c + SIDE if c & half else c + half for c in range(SIDE)]
        for r in (r for r in range(SIDE) if not r & half):
            pair = rows[r], rows[r + half]
            rows[r], rows[r + half] = (registers.pick(*pair, which) for which in (upper, lower))
        half //= 2
    return rows


# Eight numbers, from ``j`` on, of eight ``rows (r, d)``, from ``i`` on, go to ``columns (d, RUN)``,
# less those of the ``origin (d,)``: side by side from ``at`` on.
turn_eight: Any = intrinsic(_turner)
