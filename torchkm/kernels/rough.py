"""Sums by guessed labels: those of a product in fewer digits than the rows have.

In bfloat16 a guess errs between centroids whose squared distances differ by less than about a
percent: each score is half a squared distance, rounded to eight bits. Elsewhere it is float32's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels import bfloat16
from torchkm.kernels.bfloat16 import LARGEST_NORM, SMALLEST_NORM, digits
from torchkm.kernels.layout import compute_dtype, unit
from torchkm.kernels.rows import parts
from torchkm.kernels.runs import Scores
from torchkm.kernels.scratch import room_for

# Columns behind the numbers, what the width is rounded up to, and rows at once.
_EXTRA, _TILE, _ROWS_AT_ONCE = 6, 32, 2**10


def sums(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return ``counts (k,)``, ``sums (k, d)`` and ``inertia ()`` by guessed labels.

    Nothing where rows are not on a CPU, or too large or too small for the product.
    """
    if x.device.type != "cpu":
        return None
    k, d = centroids.shape
    dtype = compute_dtype(x.dtype, centroids.dtype)
    origin = origin.to(dtype)
    centred = centroids - origin  # (k, d)
    half_norms = centred.square().sum(1) / 2
    product = (_Bfloat16 if bfloat16.pays_for(x, k) else _Float32)(centred, half_norms)
    counts, total = torch.zeros(k, dtype=torch.float64), torch.zeros(k, d, dtype=dtype)
    sq_norms = torch.zeros((), dtype=torch.float64)
    buffer = room_for("rows of a block", min(len(x), _ROWS_AT_ONCE), d, centred)
    for part in parts(slice(0, len(x)), _ROWS_AT_ONCE):
        rows = x[part].to(dtype)
        rows = unit(rows) if unit_rows else rows
        rows = torch.sub(rows, origin, out=buffer[: len(rows)])  # (b, d)
        norms = torch.linalg.vector_norm(rows, dim=1)
        if not bool(((norms < LARGEST_NORM) & ((norms > SMALLEST_NORM) | (norms == 0))).all()):
            return None
        sq_norm = norms.square()
        labels = product.labels(rows, sq_norm)
        counts += torch.bincount(labels, minlength=k)
        total.index_add_(0, labels, rows)
        sq_norms += sq_norm.sum(dtype=torch.float64)
    across = torch.dot(total.view(-1), centred.view(-1))
    inertia = sq_norms - 2 * across + 2 * counts @ half_norms.double()
    return counts, total.addcmul_(counts.to(dtype).unsqueeze(1), origin), inertia


class _Bfloat16:
    def __init__(self, centred: Tensor, half_norms: Tensor) -> None:
        ones = half_norms.new_ones(3, len(half_norms)).float()
        self._right = _operand(centred, torch.stack([*digits(-half_norms.float()), *ones]))

    def labels(self, rows: Tensor, sq_norms: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of ``rows (b, d)``."""
        ones = sq_norms.new_ones(3, len(rows)).float()
        left = _operand(rows, torch.stack([*ones, *digits(sq_norms.float() / -2)]))
        # argmax takes four times as long.
        return (left @ self._right.T).max(1).indices


class _Float32:
    def __init__(self, centred: Tensor, half_norms: Tensor) -> None:
        self._centred, self._bias = centred.float(), -half_norms.float()
        self._scores = Scores(
            room_for("scores in runs", _ROWS_AT_ONCE, len(centred), self._centred)
        )

    def labels(self, rows: Tensor, _: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of ``rows (b, d)``."""
        self._scores.fill(rows.float(), self._centred, self._bias)
        labels = torch.empty(len(rows), dtype=torch.int64)
        self._scores.best(self._bias.new_empty(len(rows)), labels)
        return labels


def _operand(rows: Tensor, behind: Tensor) -> Tensor:
    """Return ``rows (b, d)`` in bfloat16 with the columns ``behind (6, b)`` them."""
    b, d = rows.shape
    width = -(-(d + _EXTRA) // _TILE) * _TILE
    out = torch.empty(b, width, dtype=torch.bfloat16)
    out[:, :d] = rows
    out[:, d : d + _EXTRA] = behind.T
    out[:, d + _EXTRA :] = 0
    return out
