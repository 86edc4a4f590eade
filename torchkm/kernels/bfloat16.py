"""Whether bfloat16 pays on this machine, and what its rounding can do to a score."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from torchkm.kernels import cpu

# Rounding to nearest is off by at most this share of a number (8 bits of digits).
UNIT = 2.0**-8

# Products are added up in float32. A sum of D of them is off by at most this, times D and the
# product of the norms; twice the unit, because the instructions may round each pair twice.
SUM_UNIT = 2.0**-23

# Products of fewer numbers than this take no longer in float32.
_MANY = 2**13

# Vectors whose norms lie between have products far from what bfloat16 flushes to zero.
SMALLEST_NORM, LARGEST_NORM = 1e-12, 1e12


@cache
def pays() -> bool:
    """Return whether this CPU multiplies bfloat16 in instructions of its own, and adds in float32.

    Asked of the machine: of the flags of its instructions, and of a product whose sum would be
    another in fewer digits.
    """
    return (cpu.has("amx_tile") or cpu.has("avx512_bf16")) and adds_in_float32()


def pays_for(x: Tensor, k: int) -> bool:
    """Return whether rows ``x (n, d)`` and ``k`` centroids are better multiplied in bfloat16."""
    return x.device.type == "cpu" and k * x.shape[1] >= _MANY and pays()


@cache
def adds_in_float32() -> bool:
    """Return whether a product of bfloat16 matrices keeps the digits of float32 as it adds up."""
    size = 2048
    rows = torch.ones(64, size, dtype=torch.bfloat16, device="cpu")
    rows[:, 0], rows[:, -1] = 256.0, -256.0  # in bfloat16 256 + 1 is 256
    product = rows @ torch.ones(64, size, dtype=torch.bfloat16, device="cpu").T
    nearest = torch.tensor(float(size - 2), device="cpu").bfloat16()
    return bool((product == nearest).all())


def above(numbers: Tensor) -> Tensor:
    """Round non-negative ``numbers`` to bfloat16, upwards."""
    return (numbers * (1 + 2 * UNIT)).to(torch.bfloat16)


def digits(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split float32 ``numbers`` into three of bfloat16 whose sum they are, to 24 bits."""
    first = numbers.to(torch.bfloat16)
    rest = numbers - first
    second = rest.to(torch.bfloat16)
    return first, second, (rest - second).to(torch.bfloat16)
