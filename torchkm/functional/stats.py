"""The second step: what a block of rows says about the centroids, as numbers that add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.assignment import Assignment, check_measured, operands
from torchkm.functional.checks import as_labels, as_rows, as_sample_weight, check_k
from torchkm.functional.geometry import check_directions, uses_unit_rows


@dataclass(frozen=True)
class ClusterStats:
    """What an update needs to know of the rows; blocks, batches and ranks merge with ``+``.

    Attributes:
        counts: summed weight of each cluster, ``(k,)`` float64 (exact past 2^24 rows).
        sums: weighted sum of its rows, ``(k, d)`` float64.
        inertia: weighted sum of squared distances, ``()`` float64.

    On a device without float64 all three are float32.

    Example:
        >>> import torch
        >>> one = ClusterStats(torch.ones(2), torch.ones(2, 3), torch.tensor(0.5))
        >>> (one + one).inertia
        tensor(1.)
    """

    counts: Tensor
    sums: Tensor
    inertia: Tensor

    def __add__(self, other: ClusterStats) -> ClusterStats:
        """Return the stats of both sets of rows together."""
        return ClusterStats(
            self.counts + other.counts, self.sums + other.sums, self.inertia + other.inertia
        )

    @property
    def means(self) -> Tensor:
        """Weighted mean of each cluster, ``(k, d)``; zero where a cluster is empty."""
        counts = torch.where(self.counts > 0, self.counts, 1).unsqueeze(1)  # (k, 1)
        return self.sums / counts

    @staticmethod
    def weighed(sq_distances: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Return the inertia ``()`` of ``sq_distances (n,)``, added up in float64."""
        dtype = kernels.sum_dtype(sq_distances.device)
        if sample_weight is None:
            return sq_distances.sum(dtype=dtype)
        return sq_distances.to(dtype) @ sample_weight.to(dtype)


def accumulate(
    x: Any,
    assignment: Assignment,
    k: int,
    sample_weight: Any = None,
    *,
    metric: str = "euclidean",
) -> ClusterStats:
    """Add up the rows of each cluster.

    Args:
        x: rows ``(n, d)``.
        assignment: labels ``(n,)`` and squared distances ``(n,)`` of those rows.
        k: number of clusters.
        sample_weight: ``(n,)``, non-negative; None counts each row once.
        metric: under ``"cosine"`` unit rows are added.

    Raises:
        TypeError: a dtype that rows, labels or weights may not have.
        ValueError: wrong shapes or devices, labels outside ``[0, k)``, bad weights.

    Cost:
        ``n d`` additions, one read of ``x``.

    Example:
        >>> import torch
        >>> from torchkm.functional import assign
        >>> x = torch.tensor([[0.0], [1.0], [9.0]])
        >>> accumulate(x, assign(x, torch.tensor([[0.0], [8.0]])), k=2).sums
        tensor([[1.],
                [9.]], dtype=torch.float64)
    """
    x = as_rows(x)
    check_directions(x, metric)
    labels = as_labels(assignment.labels, x, check_k(k))
    weight = as_sample_weight(sample_weight, x)
    counts, sums = kernels.segment_sums(x, labels, k, weight, uses_unit_rows(metric))
    return ClusterStats(counts, sums, ClusterStats.weighed(assignment.sq_distances, weight))


def assign_and_accumulate(
    x: Any, centroids: Any, sample_weight: Any = None, *, metric: str = "euclidean"
) -> tuple[Assignment, ClusterStats]:
    """Assign each row and add up its cluster, in one read of the rows.

    Same as ``assign`` then ``accumulate``, except that distances much smaller than the row's
    norm carry the rounding of the expanded form.

    Args:
        x: rows ``(n, d)``.
        centroids: ``(k, d)``.
        sample_weight: ``(n,)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.

    Returns:
        The assignment and its ``ClusterStats``.

    Raises:
        TypeError: as ``assign``.
        ValueError: as ``assign``, and for weights that are negative, not finite or all zero.

    Cost:
        ``2 n k d + n d`` operations, one read of ``x``.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0]])
        >>> _, stats = assign_and_accumulate(x, torch.tensor([[0.0], [8.0]]))
        >>> stats.counts
        tensor([2., 1.], dtype=torch.float64)
    """
    x, centroids = operands(x, centroids, metric)
    found, stats = one_read(x, centroids, as_sample_weight(sample_weight, x), metric)
    check_measured(x, found)
    return found, stats


def one_read(
    x: Tensor, centroids: Tensor, sample_weight: Tensor | None, metric: str
) -> tuple[Assignment, ClusterStats]:
    """Assign and accumulate checked rows."""
    labels, sq_distances, counts, sums = kernels.nearest_and_sums(
        x, centroids, sample_weight, uses_unit_rows(metric)
    )
    inertia = ClusterStats.weighed(sq_distances, sample_weight)
    return Assignment(labels, sq_distances), ClusterStats(counts, sums, inertia)


def feature_variance(x: Tensor, metric: str) -> float:
    """Mean variance of a feature of checked rows: their inertia as one cluster, per number.

    What tolerances are scaled by, as in scikit-learn; weights are left out, as there.
    """
    zero = x.new_zeros(1, x.shape[1], dtype=kernels.compute_dtype(x.dtype))  # (1, d)
    mean = one_read(x, zero, None, metric)[1].means.to(zero)
    return one_read(x, mean, None, metric)[1].inertia.item() / x.numel()
