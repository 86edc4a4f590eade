"""Kernels for a GPU, run where there is one and interpreted where there is none."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _ignore_what_numpy_says() -> None:
    """Triton's interpreter multiplies with NumPy, which warns where a GPU does not."""
