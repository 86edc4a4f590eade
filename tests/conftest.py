"""What tests share: made data, the plain reference, and where real MNIST lies."""

from __future__ import annotations

import os
from pathlib import Path

# Processes that test side by side share the cores; libraries ask for these when imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    n_threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, n_threads)))

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():  # kernels for a GPU are interpreted; Triton asks once
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
    root = mnist_root()
    if root is None:
        skip = pytest.mark.skip(reason="real MNIST: set TORCHKM_DATA to a folder with MNIST/raw")
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(skip)


def mnist_root() -> Path | None:
    root = Path(os.environ.get("TORCHKM_DATA", ""))
    return root if (root / "MNIST" / "raw").is_dir() else None


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def blobs(generator: torch.Generator) -> torch.Tensor:
    """600 rows of 5 numbers around 6 overlapping centres, float64."""
    centres = 3 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(6, 100, 5, generator=generator, dtype=torch.float64)
    return (centres.unsqueeze(1) + noise).flatten(0, 1)


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The embedded digits in [0, 1], float64, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x / 16), torch.from_numpy(y)


@pytest.fixture
def mnist_rows() -> torch.Tensor:
    """The 60,000 training images in [0, 1], float32."""
    root = mnist_root()
    assert root is not None
    raw = np.fromfile(root / "MNIST" / "raw" / "train-images-idx3-ubyte", dtype=np.uint8)
    return torch.from_numpy(raw[16:].reshape(60_000, 784)).float().div_(255)
