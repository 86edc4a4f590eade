"""A CPU's registers, as LLVM is told to use them in place of what it would make of a loop."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir

INDEX, WHOLE = ir.IntType(64), ir.IntType(32)


def _of_cpu() -> tuple[int, int]:
    """Return how many bytes a register has, and how many registers there are."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 32
    if features.get("avx"):
        return 32, 16
    return 16, 16 if features.get("sse2") else 32


BYTES, N_REGISTERS = _of_cpu()


class Registers:
    """Writes LLVM's instructions for so many numbers side by side."""

    def __init__(self, context: Any, builder: Any, dtype: Any, lanes: int) -> None:
        self._build, self._lanes, self._size = builder, lanes, dtype.bitwidth // 8
        self.numbers = ir.VectorType(context.get_data_type(dtype), lanes)
        self.wholes = ir.VectorType(WHOLE, lanes)

    def read(self, place: Any, kind: Any) -> Any:
        """Read a register from a place, wherever in a line of the cache that is."""
        return self._build.load(self._as(kind, place), align=self._alignment(kind))

    def write(self, value: Any, place: Any) -> None:
        """Write a register to a place."""
        kind = value.type
        self._build.store(value, self._as(kind, place), align=self._alignment(kind))

    def after(self, place: Any, n: int) -> Any:
        """Return the place ``n`` registers further on."""
        return self._build.gep(place, [INDEX(n * self._lanes)])

    def spread(self, value: Any) -> Any:
        """Return a register that holds one number everywhere."""
        nothing = ir.Constant(ir.VectorType(value.type, self._lanes), ir.Undefined)
        first = self._build.insert_element(nothing, value, ir.Constant(WHOLE, 0))
        return self.pick(first, nothing, [0] * self._lanes)

    def pick(self, one: Any, other: Any, which: list[int]) -> Any:
        """Return numbers of two registers, of which the ``other`` goes on where ``one`` ends."""
        kind = ir.VectorType(WHOLE, self._lanes)
        return self._build.shuffle_vector(one, other, ir.Constant(kind, which))

    def total(self, value: Any) -> Any:
        """Return the sum of the numbers of a register, added up half by half."""
        n = self._lanes
        while n > 1:
            n //= 2
            halves = [
                ir.Constant(ir.VectorType(WHOLE, n), list(range(first, first + n)))
                for first in (0, n)
            ]
            value = self._build.fadd(
                *(self._build.shuffle_vector(value, value, half) for half in halves)
            )
        return self._build.extract_element(value, WHOLE(0))

    def _as(self, kind: Any, place: Any) -> Any:
        return self._build.bitcast(place, kind.as_pointer())

    def _alignment(self, kind: Any) -> int:
        return 4 if kind == self.wholes else self._size


def arrays_of(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    """Return what is known of the arrays among values of some kinds."""
    return [
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(kinds, values, strict=True)
        if hasattr(kind, "ndim")
    ]


def lengths(builder: Any, array: Any, n_axes: int) -> list[Any]:
    """Return how long an array is along its axes."""
    return [builder.extract_value(array.shape, axis) for axis in range(n_axes)]
