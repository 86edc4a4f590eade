"""The rows that experiments are timed on."""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.lightning import DatasetUnavailable, MNISTDataModule


def mnist(root: str, script: str) -> MNISTDataModule:
    """Return real MNIST, ready to be taken from; end ``script`` with a line where there is none."""
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
