"""The rows that experiments are timed on."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchkm.lightning import MNISTDataModule

# What an idx file of images begins with, and the bytes before the first pixel.
_MAGIC, _HEADER = 2051, 16


def mnist(root: str, script: str) -> MNISTDataModule:
    """Return real MNIST, ready to be taken from; end ``script`` with a line where there is none."""
    # Here, as who wants pixels alone need not wait for Lightning.
    from torchkm.lightning import DatasetUnavailable, MNISTDataModule

    data = MNISTDataModule(root=root)
    try:
        data.prepare_data()
        data.setup()
    except DatasetUnavailable as error:
        raise SystemExit(f"{script}: error: {error}") from None
    return data


def train_rows(data: MNISTDataModule) -> Tensor:
    """Return its training images, ``(60000, 784)`` float32 in [0, 1]."""
    rows, _ = data.split("train").take(torch.arange(data.n_rows("train")))
    return rows


def train_pixels(root: str | Path) -> Tensor:
    """Return the training images as they are stored, ``(60000, 784)`` uint8.

    Reads ``MNIST/raw/train-images-idx3-ubyte`` under ``root``, or the same file with ``.gz``.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: not a whole idx file of images.
    """
    plain = Path(root) / "MNIST/raw/train-images-idx3-ubyte"
    packed = plain.with_name(f"{plain.name}.gz")
    if plain.exists():
        return _pixels(plain.read_bytes(), plain)
    if packed.exists():
        return _pixels(gzip.decompress(packed.read_bytes()), packed)
    raise FileNotFoundError(f"neither {plain.name} nor {packed.name} is in {plain.parent}")


def _pixels(data: bytes, path: Path) -> Tensor:
    magic, n, height, width = np.frombuffer(data[:_HEADER].ljust(_HEADER), dtype=">i4").tolist()
    if magic != _MAGIC or len(data) != _HEADER + n * height * width:
        raise ValueError(f"{path} is not a whole idx file of images")
    pixels = np.frombuffer(data, dtype=np.uint8, offset=_HEADER).copy()
    return torch.from_numpy(pixels).view(n, height * width)
