"""What float32 means in a product.

A training script may have asked torch for fast products (TF32 on a GPU, bfloat16 on a CPU); a
label that is said to be exact must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch


@dataclass
class _Borrowed:
    """What was asked for outside, while some thread is inside."""

    n_inside: int = 0
    asked: str = ""


_LOCK = Lock()
_BORROWED: dict[str, _Borrowed] = {}


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Multiply float32 in float32 on ``device`` for a while, whatever was asked for outside.

    The switch belongs to the whole process: the first thread in turns it, the last one out turns
    it back.
    """
    get, put, exact = _switch(device)
    borrowed = _BORROWED.setdefault(device.type, _Borrowed())
    with _LOCK:
        if borrowed.n_inside == 0:
            borrowed.asked = get()
            put(exact)
        borrowed.n_inside += 1
    try:
        yield
    finally:
        with _LOCK:
            borrowed.n_inside -= 1
            if borrowed.n_inside == 0:
                put(borrowed.asked)


def _switch(device: torch.device) -> tuple[Callable[[], str], Callable[[str], None], str]:
    """Return how to read and set the precision of products, and the name of the exact one."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    setting: Any = getattr(backend, "matmul", None)
    if not hasattr(setting, "fp32_precision"):  # torch 2.8 has one switch for all devices
        return torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
    return (
        lambda: setting.fp32_precision,
        lambda name: setattr(setting, "fp32_precision", name),
        "ieee",
    )
