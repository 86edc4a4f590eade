"""What float32 means in a product.

A training script may have asked torch for fast products (TF32 on a GPU, bfloat16 on a CPU); a
label that is said to be exact must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


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


def in_full_precision(kernel: Callable[P, T]) -> Callable[P, T]:
    """Run ``kernel`` without autocast, gradients or fast products, on the device of its tensors."""

    @wraps(kernel)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        device = next(a.device for a in args if isinstance(a, Tensor))
        if _asks_for_nothing(device):
            return kernel(*args, **kwargs)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            if torch.compiler.is_compiling():  # a switch cannot be traced
                return kernel(*args, **kwargs)
            with full_float32(device):
                return kernel(*args, **kwargs)

    return run


def _asks_for_nothing(device: torch.device) -> bool:
    """Return whether a kernel may run as things stand, which takes a tenth of the time."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    # Once some thread is inside, the switch stands at "ieee", and will not stay there.
    return not torch.is_autocast_enabled(device.type) and _switch(device)[0]() == "none"


def _switch(device: torch.device) -> tuple[Callable[[], str], Callable[[str], None], str]:
    return _switch_of(device.type)


@cache
def _switch_of(kind: str) -> tuple[Callable[[], str], Callable[[str], None], str]:
    """Return how to read and set the precision of products, and the name of the exact one."""
    backend = torch.backends.cuda if kind == "cuda" else torch.backends.mkldnn
    setting: Any = getattr(backend, "matmul", None)
    if not hasattr(setting, "fp32_precision"):  # torch 2.8 has one switch for all devices
        return torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
    return (
        lambda: setting.fp32_precision,
        lambda name: setattr(setting, "fp32_precision", name),
        "ieee",
    )
