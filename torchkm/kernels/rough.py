"""Sums by labels as bfloat16 guesses them.

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


def guesses(x: Tensor, k: int) -> bool:
    """Return whether sums by guessed labels are to be had of rows ``x``: those of float32."""
    return compute_dtype(x.dtype) == torch.float32 and bfloat16.pays_for(x, k)


def sums(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``counts (k,)``, ``sums (k, d)`` in float32 and ``inertia ()`` by guessed labels."""
    k, d = centroids.shape
    centred = centroids - origin  # (k, d)
    half_norms = centred.square().sum(1) / 2
    right = _operand(centred, torch.stack([*digits(-half_norms), *half_norms.new_ones(3, k)]))
    counts, total = torch.zeros(k, dtype=torch.float64), torch.zeros(k, d)
    sq_norms = 0.0
    for part in parts(slice(0, len(x)), _ROWS_AT_ONCE):
        rows = x[part].float()
        rows = (unit(rows) if unit_rows else rows) - origin  # (b, d)
        sq_norm = torch.linalg.vector_norm(rows, dim=1).square_()
        left = _operand(rows, torch.stack([*sq_norm.new_ones(3, len(rows)), *digits(sq_norm / -2)]))
        labels = (left @ right.T).max(1).indices  # argmax takes four times as long
        counts += torch.bincount(labels, minlength=k)
        total.index_add_(0, labels, rows)
        sq_norms += sq_norm.sum()
    across = torch.dot(total.view(-1), centred.view(-1))
    inertia = sq_norms - 2 * across + 2 * counts @ half_norms.double()
    return counts, total.addcmul_(counts.float().unsqueeze(1), origin), inertia


def _operand(rows: Tensor, behind: Tensor) -> Tensor:
    """Return ``rows (b, d)`` in bfloat16 with the columns ``behind (6, b)`` them."""
    b, d = rows.shape
    width = -(-(d + _EXTRA) // _TILE) * _TILE
    out = torch.empty(b, width, dtype=torch.bfloat16)
    out[:, :d] = rows
    out[:, d : d + _EXTRA] = behind.T
    out[:, d + _EXTRA :] = 0
    return out
