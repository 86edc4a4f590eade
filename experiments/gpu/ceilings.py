"""What a device can do at most: bytes a second, operations a second; and the floors that follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from gpu.clock import Clock

RATES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

# A copy of so many bytes, several times what a cache holds; a product of such square matrices.
_BYTES, _SIDE = 4 << 30, 8192

# Of a product, which takes far longer in float32.
_REPEATS = {"fp32": 3, "tf32": 5, "bf16": 7, "fp16": 7}


@dataclass(frozen=True)
class Ceilings:
    """What one device was measured to do.

    Attributes:
        bandwidth: bytes a second, read and written, of a copy.
        rates: operations a second of a matrix product, by the name of its precision.
    """

    bandwidth: float
    rates: dict[str, float]

    def floor(self, n_bytes: float, n_operations: float, rate: str) -> float:
        """Return the seconds that moving or computing takes at least, whichever is longer."""
        return max(n_bytes / self.bandwidth, n_operations / self.rates[rate])

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def measure_ceilings(
    clock: Clock, device: torch.device, n_bytes: int = _BYTES, side: int = _SIDE, repeats: int = 20
) -> Ceilings:
    """Time copies and products on a device; random numbers, as zeros take less power."""
    return Ceilings(
        bandwidth=_bandwidth(clock, device, n_bytes, repeats),
        rates={name: _rate(clock, device, name, side) for name in RATES},
    )


def _bandwidth(clock: Clock, device: torch.device, n_bytes: int, repeats: int) -> float:
    source = torch.randint(255, (n_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / _median(clock, lambda: target.copy_(source), repeats)


def _rate(clock: Clock, device: torch.device, name: str, side: int) -> float:
    a, b = (torch.randn(side, side, device=device).to(RATES[name]) for _ in range(2))
    out = torch.empty_like(a)
    with products_in("tf32" if name == "tf32" else "ieee"):
        seconds = _median(clock, lambda: torch.mm(a, b, out=out), _REPEATS[name])
    return 2 * float(side) ** 3 / seconds


def _median(clock: Clock, work: Any, repeats: int) -> float:
    for _ in range(2):
        work()
    return median(clock.seconds(work) for _ in range(repeats))


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let float32 products on CUDA be computed in ``"ieee"`` or ``"tf32"``; put it back after."""
    setting: Any = torch.backends.cuda.matmul
    switch = "fp32_precision"
    value: Any = precision
    if not hasattr(setting, switch):  # torch 2.8
        switch, value = "allow_tf32", precision == "tf32"
    before = getattr(setting, switch)
    setattr(setting, switch, value)
    try:
        yield
    finally:
        setattr(setting, switch, before)
