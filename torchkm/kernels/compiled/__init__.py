"""Loops over rows that Numba compiles for the CPU at hand: the extra ``numba``.

They do in one read, or one call, what torch's operations take many for. Where Numba is missing all
is done without.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def available() -> bool:
    """Return whether there is Numba, and it compiles."""
    try:
        import numba
    except ImportError:  # missing, or older than the NumPy that is here
        return False
    config: Any = numba.config
    return not config.DISABLE_JIT


# Numbers multiplied for a row from which on a product takes no longer than a loop.
_MANY = 2**9

# Centroids from which on a loop that only finds the best of a product pays, of rows no wider.
_MANY_CENTROIDS, _WIDE = 2**5, 2**7


def pays_for(k: int, d: int) -> bool:
    """Return whether rows of ``d`` numbers are best scored against ``k`` centroids in a loop."""
    return k * d <= _MANY and available()


def pays_once_for(k: int, d: int) -> bool:
    """Return whether to label rows once in a loop, or by products that one looks through."""
    narrow = k * d <= _MANY or (k >= _MANY_CENTROIDS and d <= _WIDE)
    return narrow and available()
