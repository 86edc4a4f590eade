"""Scores from how far rows lie from the mean of their cluster, and means from one another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.partition import as_partition, distances_among


def calinski_harabasz(x: Any, labels: Any) -> Tensor:
    """Return the variance between clusters over the variance within; higher is better.

    ``(B / (k - 1)) / (W / (n - k))``, with ``W`` the squared distances of rows to the mean of
    their cluster and ``B`` those of the means to the mean of all, once for each row. 1 where
    ``W`` is 0, as in scikit-learn.

    Args:
        x: rows ``(n, d)``: float32, float64, bfloat16, float16 or uint8.
        labels: cluster of each row, ``(n,)`` integers from 0; numbers without rows do not count.

    Returns:
        A float64 scalar ``()``.

    Raises:
        TypeError: a dtype that rows or labels may not have.
        ValueError: wrong shapes or devices, rows that are not finite, fewer than 2 clusters or as
            many as rows.

    Cost:
        Two reads of the rows, ``4 n d`` operations in float64.

    Source:
        Calinski and Harabasz 1974 (doi:10.1080/03610927408827101).

    Example:
        >>> calinski_harabasz([[0.0], [2.0], [9.0], [9.0]], [0, 0, 1, 1])
        tensor(64., dtype=torch.float64)
    """
    partition = as_partition(x, labels)
    n, k = len(partition.labels), len(partition.counts)
    means = partition.means()
    within = partition.sq_distances_to(means).sum()
    share = partition.counts.to(means.dtype) / n  # (k,)
    between = n * (share @ (means - share @ means).square().sum(1))
    ratio = between * (n - k) / (torch.where(within > 0, within, 1) * (k - 1))
    return torch.where(within > 0, ratio, 1)


def davies_bouldin(x: Any, labels: Any) -> Tensor:
    """Return how alike each cluster is to the one most like it, on the average; lower is better.

    Two clusters are alike by their spreads over the distance of their means, where the spread is
    the mean distance of rows to the mean of their cluster. Clusters whose means coincide are not
    compared, as in scikit-learn.

    Args:
        x: rows ``(n, d)``.
        labels: cluster of each row, ``(n,)`` integers from 0.

    Returns:
        A float64 scalar ``()``, at least 0.

    Raises:
        TypeError: as ``calinski_harabasz``.
        ValueError: as ``calinski_harabasz``.

    Cost:
        Two reads of the rows, ``4 n d`` operations in float64, and ``2 k^2 d`` in blocks of means.

    Source:
        Davies and Bouldin 1979 (doi:10.1109/TPAMI.1979.4766909).

    Example:
        >>> davies_bouldin([[0.0], [2.0], [9.0], [9.0]], [0, 0, 1, 1])
        tensor(0.1250, dtype=torch.float64)
    """
    partition = as_partition(x, labels)
    means = partition.means()
    distances = partition.sq_distances_to(means).sqrt_()  # (n,)
    sums = torch.zeros_like(means[:, 0]).index_add_(0, partition.labels, distances)
    spread = sums / partition.counts  # (k,)
    alike = torch.empty_like(spread)
    for block, apart in distances_among(means):
        both = spread[block].unsqueeze(1) + spread  # (b, k)
        alike[block] = torch.where(apart > 0, both / torch.where(apart > 0, apart, 1), 0).amax(1)
    return alike.mean()
