"""Labels as bfloat16 sees them: with the sums that go with guesses, or with what is in doubt.

A guess errs between centroids whose squared distances differ by less than about a percent: each
score is half a squared distance, rounded to eight bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels import bfloat16
from torchkm.kernels.bfloat16 import SUM_UNIT, UNIT, digits
from torchkm.kernels.layout import compute_dtype, unit
from torchkm.kernels.rows import parts, take_out

# More than becomes of a number or a product that float32 is too coarse for.
_VANISHED = 1e-30

# Columns behind the numbers, what the width is rounded up to, and rows at once.
_EXTRA, _TILE, _ROWS_AT_ONCE, _MOST_AT_ONCE = 6, 32, 2**10, 2**11

# Products of fewer numbers than this take no longer in float32.
_MANY = 2**13


def pays(x: Tensor, k: int) -> bool:
    """Return whether rows ``x`` and ``k`` centroids are better multiplied in bfloat16."""
    return x.device.type == "cpu" and k * x.shape[1] >= _MANY and bfloat16.pays()


def guesses(x: Tensor, k: int) -> bool:
    """Return whether sums by guessed labels are to be had of rows ``x``: those of float32."""
    return compute_dtype(x.dtype) == torch.float32 and pays(x, k)


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


def labels(x: Tensor, centroids: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and the rows ``(m,)`` whose label is in doubt.

    All others are proven: by Cauchy and Schwarz, rounding took less from the lead of the score
    than there is. Only centroids are shifted by the ``origin``, which moves all scores of a row
    alike; rows far from it, or not finite, are in doubt.
    """
    exact, offset = centroids.double() - origin.double(), origin.double()
    centred = exact.float()  # (k, d)
    bias = (exact.square().sum(1) / 2 + exact @ offset).float()  # (k,) (|c|^2 - |origin|^2) / 2
    right = _operand(centred, torch.stack([*digits(-bias), *bias.new_zeros(3, len(bias))]))
    norm = torch.linalg.vector_norm(centred, dim=1).max()
    lost = torch.linalg.vector_norm(centred - right[:, : x.shape[1]], dim=1).max()
    # Of rows, rounding takes at most a share: to measure how much would take longer than it saves.
    width = right.shape[1]
    per_norm = 2 * (lost + (UNIT + width * SUM_UNIT) * norm) + width * _VANISHED
    always = 2 * width * SUM_UNIT * bias.abs().max() + width * _VANISHED * (1 + norm)
    out, doubtful = torch.empty(len(x), dtype=torch.int64), []
    size = min(_MOST_AT_ONCE, len(x))
    left = right.new_ones(size, width)
    left[:, x.shape[1] + _EXTRA :] = 0
    room = right.new_empty(size, len(right))
    for part in parts(slice(0, len(x)), size):
        rows = left[: part.stop - part.start]
        rows[:, : x.shape[1]] = x[part]
        scores = torch.mm(rows, right.T, out=room[: len(rows)])  # (b, k)
        out[part] = scores.max(1).indices
        own = take_out(scores, out[part], -torch.inf).float()
        second = scores.amax(1).float()
        rounding = torch.linalg.vector_norm(x[part].float(), dim=1) * per_norm + always
        rounding += UNIT * (own.abs() + second.abs())
        doubtful.append(torch.nonzero(~(own - second > rounding)).squeeze(1) + part.start)
    return out, torch.cat(doubtful)


def _operand(rows: Tensor, behind: Tensor) -> Tensor:
    """Return ``rows (b, d)`` in bfloat16 with the columns ``behind (6, b)`` them."""
    b, d = rows.shape
    width = -(-(d + _EXTRA) // _TILE) * _TILE
    out = torch.empty(b, width, dtype=torch.bfloat16)
    out[:, :d] = rows
    out[:, d : d + _EXTRA] = behind.T
    out[:, d + _EXTRA :] = 0
    return out
