"""Memory that a thread keeps for the next call: fresh memory can cost as much as a product."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

_KEPT = threading.local()


def room(name: str, rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return room ``(rows, width)`` on the CPU, of its own for each ``name``.

    It holds anything, and is the caller's until the thread asks for that name again.
    """
    size = rows * width
    kept: Tensor | None = getattr(_KEPT, name, None)
    if kept is None or len(kept) < size or kept.dtype != dtype:
        with torch.inference_mode(False):  # or nothing could be written there outside of that mode
            kept = torch.empty(size, dtype=dtype, device="cpu")
        setattr(_KEPT, name, kept)
    return kept[:size].view(rows, width)


def room_for(name: str, rows: int, width: int, like: Tensor) -> Tensor:
    """Return a ``room`` of the dtype and device of ``like``: fresh memory where there is no CPU's.

    What is compiled gets fresh memory too.
    """
    if like.device.type != "cpu" or torch.compiler.is_compiling():
        return like.new_empty(rows, width)
    return room(name, rows, width, like.dtype)
