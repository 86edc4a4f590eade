"""Every kernel for sparse rows, in blocks of them; only scores and centroids are dense.

Rows are not shifted: less an origin they would be dense. Row norms and sums are in float64, which
is where cancellation is made up for. scikit-learn does not centre sparse rows either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.csr import CsrRows
from torchkm.kernels.layout import compute_dtype, rows_of, sum_dtype

# Shares of a centroid's squared length are counted in so many parts: whole numbers add up exactly.
_PARTS = 2.0**62


def nearest(
    x: CsrRows, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids."""
    dtype = compute_dtype(x.dtype, centroids.dtype)
    rows = _measured(x, unit_rows).to(dtype)
    labels = torch.empty(len(rows), dtype=torch.int64, device=x.device)
    sq_distances = rows.values.new_empty(len(rows))
    half_norms, columns = _operands(centroids, dtype)
    for at, block in rows.blocks(_rows_per_block(rows, len(centroids))):
        scores = _product(half_norms, block, columns, -1)
        torch.min(scores, dim=1, out=(sq_distances[at], labels[at]))  # (b, k) -> (b,)
    sq_distances.mul_(2).add_(rows.sq_norms).clamp_(min=0)
    return labels, sq_distances


def nearest_and_sums(
    x: CsrRows,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``labels (n,)``, ``sq_distances (n,)``, ``counts (k,)`` and ``sums (k, d)``."""
    labels, sq_distances = nearest(x, centroids, unit_rows, origin)
    counts, sums = segment_sums(x, labels, len(centroids), sample_weight, unit_rows)
    return labels, sq_distances, counts, sums


def inertia_and_sums_of_each(
    x: CsrRows,
    starts: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``inertia (r,)``, ``counts (r, k)``, ``sums (r, k, d)`` for ``starts (r, k, d)``."""
    inertia, counts, sums = [], [], []
    for start in starts:
        _, sq_distances, count, total = nearest_and_sums(x, start, sample_weight, unit_rows, origin)
        weighed = sq_distances.to(total.dtype)
        inertia.append(
            weighed.sum() if sample_weight is None else weighed @ sample_weight.to(weighed)
        )
        counts.append(count)
        sums.append(total)
    return torch.stack(inertia), torch.stack(counts), torch.stack(sums)


def segment_sums(
    x: CsrRows, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)`` of the rows with each label."""
    counts = torch.zeros(k, dtype=sum_dtype(x.device), device=x.device)
    sums = counts.new_zeros(k, x.width)
    add_rows(_measured(x, unit_rows), labels, sample_weight, counts, sums)
    return counts, sums


def add_rows(
    rows: CsrRows,
    labels: Tensor,
    sample_weight: Tensor | None,
    counts: Tensor,
    sums: Tensor,
    sign: int = 1,
) -> None:
    """Add rows to ``counts (k,)`` and ``sums (k, d)`` of their labels, or take them away."""
    if sample_weight is None:
        counts.add_(torch.bincount(labels, minlength=len(counts)), alpha=sign)
    else:
        sample_weight = sample_weight.to(counts.dtype)
        counts.index_add_(0, labels, sample_weight, alpha=sign)
    for at, block in rows.blocks(_rows_per_block(rows, 0)):
        values = block.values.to(sums.dtype)
        if sample_weight is not None:
            values = values * block.per_value(sample_weight[at])
        sums.view(-1).index_add_(0, _cells(block, labels[at]), values, alpha=sign)


def distances(x: CsrRows, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``, taken in float64 where there is one."""
    dtype = sum_dtype(x.device)
    rows = _measured(x, unit_rows)
    out = x.values.new_empty(len(x), len(centroids), dtype=compute_dtype(x.dtype, centroids.dtype))
    norms = sq_norms(centroids)  # (k,)
    columns = centroids.to(dtype).T.contiguous()  # (d, k)
    for at, block in rows.blocks(_rows_per_block(rows, len(centroids))):
        scores = _product(norms, block.to(dtype), columns, -2)
        out[at] = scores.add_(rows.sq_norms[at].unsqueeze(1)).clamp_(min=0)
    return out


def sq_differences(
    x: CsrRows, centroids: Tensor, labels: Tensor, index: Tensor | None, unit_rows: bool
) -> Tensor:
    """Return squared distances ``(m,)`` of rows ``index`` to the centroids of ``labels (n,)``.

    Where a row has no number, the squares are those of its centroid: all of them less those where
    it has one. They are subtracted as whole numbers of parts, so that nothing is left of equals.
    """
    rows = _measured(x, unit_rows)
    if index is not None:
        rows, labels = rows.take(index), labels[index]
    used, labels = torch.unique(labels, return_inverse=True)
    some = centroids[used].to(sum_dtype(x.device))  # (u, d)
    sizes = sq_norms(some)  # (u,)
    shares = some.square().div_(sizes.clamp_min(torch.finfo(sizes.dtype).tiny).unsqueeze(1))
    shares = shares.mul_(_PARTS).long()
    out = torch.empty_like(rows.sq_norms)
    for at, block in rows.blocks(_rows_per_block(rows, 0)):
        label = labels[at]
        cells = _cells(block, label)
        apart = block.sum_rows((block.values - some.view(-1)[cells]).square())
        number = block.per_value(torch.arange(len(block), device=x.device))
        left = shares.sum(1)[label].index_add_(0, number, shares.view(-1)[cells], alpha=-1)
        out[at] = apart + left.to(sizes) / _PARTS * sizes[label]
    return out


def sq_norms(centroids: Tensor) -> Tensor:
    """Return squared norms ``(k,)`` in the dtype of sums."""
    centroids = centroids.to(sum_dtype(centroids.device))
    return torch.einsum("ij,ij->i", centroids, centroids)


def _measured(x: CsrRows, unit_rows: bool) -> CsrRows:
    return x.unit if unit_rows else x


def _rows_per_block(rows: CsrRows, k: int) -> int:
    return rows_of(k + len(rows.values) // max(1, len(rows)) + 1, rows.device)


def _operands(centroids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return half the squared norms ``(k,)`` of centroids, and these as columns ``(d, k)``."""
    return (sq_norms(centroids) / 2).to(dtype), centroids.to(dtype).T.contiguous()


def _product(start: Tensor, block: CsrRows, columns: Tensor, alpha: int) -> Tensor:
    """Return ``start (k,)`` plus ``alpha`` times the block by ``columns (d, k)``: ``(b, k)``."""
    out = start.expand(len(block), -1).contiguous()
    return torch.addmm(out, block.matrix, columns, alpha=alpha, out=out)


def _cells(block: CsrRows, labels: Tensor) -> Tensor:
    """Return where in flat ``(k, d)`` each value of rows with ``labels (b,)`` belongs, ``(m,)``."""
    return block.per_value(labels * block.width).add_(block.cols)
