"""Mean distances of rows to whole clusters: a block of rows against every row.

One product of rows with two more columns each gives squared distances:
``(r, 1, |r|^2) . (-2 s, |s|^2, 1) = |r - s|^2``. It is taken in float64 where there is one, as the
root of what cancels would be large in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torchkm.kernels.csr import Rows
from torchkm.kernels.layout import rows_per_block, sum_dtype
from torchkm.kernels.rows import OrderedRows, parts

# A squared distance below so many units in the last place of both squared norms is only rounding.
# Equal rows were seen to miss 0 by up to 14, at 20,000 numbers a row.
_UNITS_OF_ROUNDING = 16


def mean_distances(
    x: Rows, labels: Tensor, counts: list[Tensor], unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean distances to the rows of the own cluster and of the nearest other, ``(r, n)``.

    For each of the partitions ``labels (r, n)``, whose clusters have ``counts (k,)`` rows, each at
    least 1. All share the distances between rows. A row does not count among its own cluster. The
    distance is Euclidean, or ``1 - cos`` of ``unit_rows``.
    """
    rows = OrderedRows(x, None, origin.to(sum_dtype(x.device)), unit_rows)
    sums_of = _sums_of_cosines if unit_rows else _sums_of_distances
    sizes = [len(each) for each in counts]
    firsts = torch.tensor([0, *sizes[:-1]], device=x.device).cumsum(0).unsqueeze(1)  # (r, 1)
    own, other = rows.origin.new_empty(2, *labels.shape)
    for block, sums_of_all in sums_of(rows, labels + firsts, sum(sizes)):
        for i, sums in enumerate(torch.split(sums_of_all, sizes)):
            label, count = labels[i, block].unsqueeze(0), counts[i]  # (1, b), (k,)
            to_own = sums.gather(0, label) / (count[label] - 1).clamp_min(1)
            own[i, block] = to_own.squeeze(0)
            means = sums.div_(count.unsqueeze(1)).scatter_(0, label, torch.inf)
            other[i, block] = means.amin(0)  # (k, b) -> (b,)
    return own, other


def _sums_of_distances(rows: OrderedRows, labels: Tensor, k: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of rows with their summed distances ``(k, b)`` to each of ``k`` clusters.

    A row is of the cluster that each of its ``labels (r, n)`` names.
    """
    size = rows_per_block(rows.x, k)
    n_others = rows_per_block(rows.x, size)
    for block, lifted in _lifted(rows, size):
        facing = _facing(lifted).T.contiguous()  # (d + 2, b)
        sums = lifted.new_zeros(k, len(lifted))
        for others, lifted_others in _lifted(rows, n_others):
            apart = torch.mm(lifted_others, facing).clamp_min_(0).sqrt_()  # (c, b)
            for into in labels[:, others]:
                sums.index_add_(0, into, apart)
        yield block, sums


def _sums_of_cosines(rows: OrderedRows, labels: Tensor, k: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of unit rows with their summed ``1 - cos (k, b)`` to each cluster.

    That is half a squared distance, so the product with a cluster's sum is the sum of products.
    """
    size = rows_per_block(rows.x, k)
    totals = rows.origin.new_zeros(k, rows.x.shape[1] + 2)
    for block, lifted in _lifted(rows, size):
        facing = _facing(lifted)
        for into in labels[:, block]:
            totals.index_add_(0, into, facing)
    for block, lifted in _lifted(rows, size):
        yield block, torch.mm(totals, lifted.T).clamp_min_(0).div_(2)


def _lifted(rows: OrderedRows, size: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of at most ``size`` rows as ``(r, 1, |r|^2)``, ``(b, d + 2)``."""
    buffer = rows.buffer(size)
    keep = 1 - _UNITS_OF_ROUNDING * torch.finfo(buffer.dtype).eps
    for block in parts(slice(0, len(rows)), size):
        shifted = rows.shifted(block, buffer)
        sq_norms = shifted.square().sum(1, keepdim=True).mul_(keep)
        yield block, torch.cat([shifted, torch.ones_like(sq_norms), sq_norms], dim=1)


def _facing(lifted: Tensor) -> Tensor:
    """Return ``(-2 r, |r|^2, 1)`` of rows ``(r, 1, |r|^2)``."""
    rows, ones, sq_norms = lifted.tensor_split((-2, -1), dim=1)
    return torch.cat([-2 * rows, sq_norms, ones], dim=1)
