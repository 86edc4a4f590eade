"""How loops are compiled, and on how many threads they run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

# What the order of rounding may be changed for: nothing, or sums side by side.
_IN_ORDER, _SIDE_BY_SIDE = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}


def in_order(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop whose sums are added up in the order that is written."""
    return _compiled(function, fastmath=_IN_ORDER)


def side_by_side(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop whose sums may be added up in any order, as many at once as fit."""
    return _compiled(function, fastmath=_SIDE_BY_SIDE)


def on_threads(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop whose turns of ``numba.prange`` are run side by side."""
    return _compiled(function, fastmath=_IN_ORDER, parallel=True)


@cache
def _launch() -> int:
    """Have threads stand by, and return the number of the process that has them.

    Without them, a loop that may call one on threads must not run.
    """
    asked = torch.get_num_threads()
    numba.get_num_threads()
    _leave(asked)
    return os.getpid()


def run(loop: Callable[..., Any], on_threads: Callable[..., Any], *args: Any) -> Any:
    """Run a loop on as many threads as torch's operations take, if those are several.

    Threads do not come along when a process forks, and Numba ends one that asks for them.
    """
    config: Any = numba.config
    asked = torch.get_num_threads()
    if asked == 1 or _launch() != os.getpid():
        return loop(*args)
    numba.set_num_threads(min(asked, config.NUMBA_NUM_THREADS))
    try:
        return on_threads(*args)
    finally:
        _leave(asked)


def _leave(asked: int) -> None:
    """Leave torch its threads: where both are OpenMP's, it has as many as Numba after a loop."""
    if torch.get_num_threads() != asked:
        torch.set_num_threads(asked)


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        loop: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is nowhere to keep it
        return numba.njit(**options)(function)
    # Numba looks at the file of a loop alone, and would go on with what it calls as that once was.
    kept: Any = getattr(getattr(loop, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = _stamp_of_sources()
    return loop


@cache
def _stamp_of_sources() -> tuple[tuple[str, float, int], ...]:
    """Return when all that is compiled, or may be in it, was last changed, and how long it is."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *here.parent.glob("*.py")]
    stats = [(file.name, file.stat()) for file in sorted(files)]
    return tuple((name, stat.st_mtime, stat.st_size) for name, stat in stats)


# A loop on threads would have Numba do these on threads too, which it launches anew.


@in_order
def zeros_of_parts(n_parts, like):
    """Return zeros ``like`` an array in the first half of ``(p, 2, ...)``, for each part.

    The other half keeps threads off each other's lines of the cache.
    """
    return np.zeros((n_parts, 2, *like.shape), like.dtype)


@in_order
def add_parts(parts, total):
    """Add the first half of ``parts (p, 2, ...)`` to their ``total (...)``."""
    for part in range(len(parts)):
        total += parts[part, 0]
