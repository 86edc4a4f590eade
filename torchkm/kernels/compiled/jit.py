"""How loops are compiled, and on how many threads they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch

from torchkm.kernels import layout

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


def run(loop: Callable[..., Any], on_threads: Callable[..., Any], *args: Any) -> Any:
    """Run a loop on as many threads as torch's operations take, if those are several."""
    config: Any = numba.config
    asked = torch.get_num_threads()
    if asked == 1:
        return loop(*args)
    numba.set_num_threads(min(asked, config.NUMBA_NUM_THREADS))
    try:
        return on_threads(*args)
    finally:
        # Where both are threads of OpenMP, torch now has as many as Numba.
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
    """Return when all that is compiled was last changed, and how long it is."""
    files = [*Path(__file__).parent.glob("*.py"), Path(layout.__file__)]
    stats = [(file.name, file.stat()) for file in sorted(files) if file.exists()]
    return tuple((name, stat.st_mtime, stat.st_size) for name, stat in stats)
