"""The plain statement of each kernel, on whole matrices: what the others are checked against.

Also the path that ``torch.compile`` and ``torch.export`` see, because it has no loop over rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.layout import compute_dtype, origin_of, sum_dtype, unit


def nearest(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)``; holds an ``(n, k)`` matrix."""
    rows, centroids = _operands(x, centroids, unit_rows, origin)
    scores = centroids.square().sum(1) / 2 - rows @ centroids.T  # (n, k)
    best, labels = scores.min(dim=1)  # (n,)
    sq_distances = rows.square().sum(1) + 2 * best
    return labels, sq_distances.clamp_min(0)


def segment_sums(
    x: Tensor, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)``; holds an ``(n, k)`` matrix."""
    dtype = sum_dtype(x.device)
    rows = x.to(dtype)
    rows = unit(rows) if unit_rows else rows
    one_hot = torch.nn.functional.one_hot(labels, k).to(dtype)  # (n, k)
    if sample_weight is not None:
        one_hot = one_hot * sample_weight.to(dtype).unsqueeze(1)
    return one_hot.sum(0), one_hot.T @ rows


def distances(x: Tensor, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``."""
    rows, centroids = _operands(x, centroids, unit_rows, origin_of(x, unit_rows))
    norms = rows.square().sum(1, keepdim=True) + centroids.square().sum(1)  # (n, k)
    return (norms - 2 * (rows @ centroids.T)).clamp_min(0)


def _operands(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x.dtype, centroids.dtype)
    rows, origin = x.to(dtype), origin.to(dtype)
    rows = unit(rows) if unit_rows else rows
    return rows - origin, centroids.to(dtype) - origin
