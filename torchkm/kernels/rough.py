"""Labels as bfloat16 guesses them, and the sums that go with them.

A guess errs between centroids whose squared distances differ by less than about a percent: each
score is half a squared distance, rounded to eight bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels import bfloat16
from torchkm.kernels.bfloat16 import digits
from torchkm.kernels.layout import compute_dtype, unit
from torchkm.kernels.rows import parts

# Columns behind the numbers, what the width is rounded up to, and rows at once.
_EXTRA, _TILE, _ROWS_AT_ONCE = 6, 32, 2**10

# Products of fewer numbers than this take no longer in float32.
_MANY = 2**13


def guesses(x: Tensor, k: int) -> bool:
    """Return whether rows ``x`` and ``k`` centroids are better multiplied in bfloat16."""
    able = x.device.type == "cpu" and compute_dtype(x.dtype) == torch.float32
    return able and k * x.shape[1] >= _MANY and bfloat16.pays()


def sums(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``counts (k,)``, ``sums (k, d)`` and ``inertia ()`` by guessed labels."""
    k, d = centroids.shape
    centred = centroids - origin  # (k, d)
    width = -(-(d + _EXTRA) // _TILE) * _TILE
    right = torch.zeros(k, width, dtype=torch.bfloat16)
    right[:, :d] = centred
    half_norms = centred.square().sum(1) / 2
    right[:, d : d + 3] = torch.stack(digits(-half_norms), dim=1)
    right[:, d + 3 : d + 6] = 1
    left = torch.zeros(_ROWS_AT_ONCE, width, dtype=torch.bfloat16)
    left[:, d : d + 3] = 1
    counts, total = torch.zeros(k, dtype=torch.float64), torch.zeros(k, d, dtype=torch.float64)
    sq_norms = torch.zeros((), dtype=torch.float64)
    for part in parts(slice(0, len(x)), _ROWS_AT_ONCE):
        rows = x[part].float()
        rows = (unit(rows) if unit_rows else rows) - origin  # (b, d)
        norms = torch.linalg.vector_norm(rows, dim=1).square_()
        left[: len(rows), :d] = rows
        left[: len(rows), d + 3 : d + 6] = torch.stack(digits(norms / -2), dim=1)
        labels = (left @ right.T)[: len(rows)].argmax(1)
        counts += torch.bincount(labels, minlength=k)
        total += torch.zeros(k, d).index_add_(0, labels, rows)
        sq_norms += norms.sum(dtype=torch.float64)
    inertia = sq_norms - 2 * (total * centred).sum() + 2 * counts @ half_norms.double()
    return counts, total.addcmul_(counts.unsqueeze(1), origin.double()), inertia
