"""Loops over rows that Numba compiles for the CPU at hand: the extra ``numba``.

They do in one read, or one call, what torch's operations take many for. Where Numba is missing all
is done without.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


@cache
def available() -> bool:
    """Return whether there is Numba, and it compiles."""
    try:
        import numba
    except ImportError:  # missing, or older than the NumPy that is here
        return False
    config: Any = numba.config
    return not config.DISABLE_JIT


# Rows up to such a width are multiplied in loops, as are those that have so few products: of wider
# ones a run does not stay in the first cache.
_WIDE, _FEW = 2**7, 2**9

# Along how many directions wide rows are looked at: as many as are scored at once, times some. And
# what else that takes for each number and each score, in products.
DIRECTIONS, _ASIDE = 30, 10

# What loops are compiled for.
_DTYPES = (torch.float32, torch.float64)


def pays_for(k: int, d: int) -> bool:
    """Return whether rows of ``d`` numbers are best scored against ``k`` centroids in a loop."""
    return (d <= _WIDE or k * d <= _FEW) and available()


def saves_along_directions(n: int, k: int, d: int) -> int:
    """Return how many products are saved where ``n`` rows are first looked at along directions."""
    if d <= _WIDE or not available():
        return 0
    return n * (k * d - (DIRECTIONS + _ASIDE) * (k + d))


def reader_of(x: Any, centroids: Tensor, unit_rows: bool) -> ModuleType | None:
    """Return what reads rows ``x (n, d)`` once, in loops, or None where that does not pay.

    Narrow rows, as they lie on a CPU: see ``once.py``.
    """
    if not isinstance(x, Tensor) or unit_rows or torch.compiler.is_compiling():
        return None
    as_they_lie, alike = x.device.type == "cpu" and x.is_contiguous(), x.dtype == centroids.dtype
    if not (as_they_lie and alike and x.dtype in _DTYPES and pays_for(*centroids.shape)):
        return None
    from torchkm.kernels.compiled import once

    return once
