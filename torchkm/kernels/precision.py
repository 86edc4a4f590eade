"""What float32 means in a product.

A training script may have asked torch for fast products (TF32 on a GPU, bfloat16 on a CPU); a
label that is said to be exact must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Multiply float32 in float32 on ``device`` for a while, whatever was asked for outside."""
    get, put, exact = _switch(device)
    asked = get()
    put(exact)
    try:
        yield
    finally:
        put(asked)


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
