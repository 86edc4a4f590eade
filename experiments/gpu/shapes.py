"""The shapes that ``benchmark.py --device cuda`` times passes over, and who takes part in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu.contenders import Contender, Torch
from gpu.ours import Ours, Runs
from gpu.peers import Fast, Flash, FlashKernels

Make = Callable[[], Contender]

MNIST = 784

_SEED = 0


@dataclass(frozen=True)
class Shape:
    """A problem, or several of one size, and the passes over it that are timed.

    Attributes:
        b: problems.
        n: rows of each.
        d: features; 784 are MNIST's, other rows are normal random numbers.
        k: clusters; the starts are rows drawn at random.
        dtype: of the rows.
        warm: passes before those that are timed.
        count: passes that are timed together.
        target: microseconds of a pass to stay within, where one was set.
    """

    b: int
    n: int
    d: int
    k: int
    dtype: str
    warm: int
    count: int
    target: float | None = None

    def __str__(self) -> str:
        many = f"{self.b} of " if self.b > 1 else ""
        return f"{many}{self.n:,} x {self.d} {self.dtype}, k={self.k}"


SHAPES = {
    "mnist": (
        Shape(1, 60_000, MNIST, 10, "float32", 5, 20, 100),
        Shape(1, 60_000, MNIST, 256, "float32", 5, 20, 150),
        Shape(1, 60_000, MNIST, 10, "uint8", 5, 20, 100),
        Shape(1, 60_000, MNIST, 256, "uint8", 5, 20, 150),
    ),
    "half": (Shape(1, 1_000_000, 128, 1024, "float16", 4, 12),),
    "batch": (Shape(32, 131_072, 128, 1024, "float16", 4, 8),),
    "ten": (Shape(1, 262_144, 128, 1024, "float16", 0, 10, 200),),
    "certified": (
        Shape(1, 60_000, MNIST, 10, "float32", 5, 20),
        Shape(1, 60_000, MNIST, 64, "float32", 5, 20),
        Shape(1, 60_000, MNIST, 256, "float32", 5, 20),
        Shape(1, 262_144, 128, 1024, "float32", 5, 8),
        Shape(1, 262_144, 128, 1024, "float16", 5, 8),
    ),
}


def rows_and_starts(
    shape: Shape, pixels: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return rows ``(b, n, d)`` on the device and starts ``(b, k, d)`` in float32.

    Args:
        shape: what to draw.
        pixels: MNIST, ``(60000, 784)`` uint8.
        device: where to.
    """
    generator = torch.Generator(device).manual_seed(_SEED)
    size = (shape.b, shape.n, shape.d)
    dtype = getattr(torch, shape.dtype)
    if shape.d == MNIST:
        if pixels is None:
            raise ValueError("these rows are MNIST's, which is not there")
        x = pixels[: shape.n].to(device)[None]
        x = x if dtype == torch.uint8 else (x.float() / 255).to(dtype)
    else:
        x = torch.randn(size, generator=generator, device=device, dtype=dtype)
    chosen = [torch.randperm(shape.n, generator=generator, device=device)[: shape.k] for _ in x]
    return x, torch.stack([rows[at].float() for rows, at in zip(x, chosen, strict=True)])


def roster(group: str, shape: Shape, x: Tensor, starts: Tensor) -> dict[str, tuple[str, Make]]:
    """Return who takes part: by name, what has to be installed, and how to make ready."""
    runs = Runs(x, starts)
    ours: dict[str, Make] = {"torchkm": lambda: Ours(runs)}
    if group == "certified":
        ours["torchkm, proven labels"] = lambda: Ours(runs, proven=True)
        ours["torchkm, float32"] = lambda: Ours(runs, "float32")
        return {name: ("torch", make) for name, make in ours.items()}
    ours["torchkm, all sums anew"] = lambda: Ours(runs, anew=True)
    takes: dict[str, tuple[str, Make]] = {name: ("torch", make) for name, make in ours.items()}
    if shape.dtype == "uint8":
        return takes
    takes["torch float16"] = "torch", lambda: Torch(x, starts)
    if shape.d == MNIST:
        takes["torch TF32"] = "torch", lambda: Torch(x, starts, torch.float32)
        takes["torch float16, one-hot sums"] = "torch", lambda: Torch(x, starts, one_hot=True)
        takes["flash-kmeans float32"] = Flash.needs, lambda: Flash(x, starts)
    half = x.half()
    takes["flash-kmeans float16"] = Flash.needs, lambda: Flash(half, starts)
    takes["flash-kmeans float16, its kernels"] = Flash.needs, lambda: FlashKernels(half, starts)
    takes["fastkmeans float16"] = Fast.needs, lambda: Fast(half, starts)
    return takes
