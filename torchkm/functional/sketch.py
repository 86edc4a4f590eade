"""Rows in few dimensions, where that tells enough."""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm import kernels

# Dimensions to keep where rows have at least twice as many, and rows projected at once.
_KEPT, _PART = 64, 2**9


def sketch(rows: kernels.Rows, generator: torch.Generator) -> Tensor:
    """Return centred ``rows (m, d)`` in few dimensions, with distances about as they were.

    A random projection to 64 dimensions changes a squared distance by 18 % or so (Johnson and
    Lindenstrauss 1984, doi:10.1090/conm/026/737400): less than the luck of a draw.
    """
    d = rows.shape[1]
    if isinstance(rows, kernels.CsrRows) and d >= 2 * _KEPT:
        rows = rows.without_empty_columns()
        projected = _along(rows.matrix, _normal(rows, generator))
        return projected - projected.mean(0)
    rows = kernels.dense_rows(rows)
    mean = rows.mean(0)
    if d < 2 * _KEPT:
        return rows - mean
    normal = _normal(rows, generator)
    # In parts that stay in cache: a centred copy of all rows would take longer than the product.
    return torch.cat([_along(part - mean, normal) for part in torch.split(rows, _PART)])


@kernels.in_full_precision
def _along(rows: Tensor, normal: Tensor) -> Tensor:
    """Return ``rows (m, d)`` along the columns of ``normal (d, 64)``."""
    return rows @ normal


def _normal(rows: kernels.Rows, generator: torch.Generator) -> Tensor:
    """Return a random projection ``(d, 64)`` for ``rows (m, d)``."""
    normal = torch.randn(rows.shape[1], _KEPT, generator=generator, device=generator.device)
    return (normal / _KEPT**0.5).to(rows.device, rows.dtype)
