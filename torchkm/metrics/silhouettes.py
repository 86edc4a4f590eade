"""Silhouettes: how much nearer each row lies to its own cluster than to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import as_labels, as_rows
from torchkm.functional.checks import as_generator, check_integer
from torchkm.functional.partition import Partition, as_partition, mean_distances
from torchkm.functional.sampling import draw_without_replacement


def silhouette_samples(x: Any, labels: Any, *, metric: str = "euclidean") -> Tensor:
    """Return the silhouette of each row, in [-1, 1]: 1 is well inside its cluster.

    ``(b - a) / max(a, b)``, with ``a`` the mean distance to the other rows of its cluster and
    ``b`` the least mean distance to the rows of another. A row that is alone in its cluster has 0.

    Args:
        x: rows ``(n, d)``: float32, float64, bfloat16, float16 or uint8.
        labels: cluster of each row, ``(n,)`` integers from 0; numbers without rows do not count.
        metric: ``"euclidean"``, the distance and not its square, or ``"cosine"``, which is
            ``1 - cos``: both as in scikit-learn.

    Returns:
        Float64 ``(n,)``.

    Raises:
        TypeError: a dtype that rows or labels may not have.
        ValueError: wrong shapes or devices, rows that are not finite, an unknown metric, rows of
            zeros under ``"cosine"``, fewer than 2 clusters or as many as rows.

    Cost:
        Exact. ``"euclidean"``: ``2 n^2 d`` operations in float64, in blocks that hold no more
        than a few million numbers on a CPU. ``"cosine"``: ``2 n k d``, because cosines to a
        cluster add up to the cosine to its sum.

    Source:
        Rousseeuw 1987 (doi:10.1016/0377-0427(87)90125-7).

    Example:
        >>> silhouette_samples([[0.0], [1.0], [9.0]], [0, 0, 1])
        tensor([0.8889, 0.8750, 0.0000], dtype=torch.float64)
    """
    return _samples([as_partition(x, labels, metric)])[0]


def silhouette(
    x: Any,
    labels: Any,
    *,
    metric: str = "euclidean",
    sample_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean silhouette of the rows, in [-1, 1]; higher is better.

    Args:
        x: rows ``(n, d)``.
        labels: cluster of each row, ``(n,)`` integers from 0.
        metric: as ``silhouette_samples``.
        sample_size: score so many rows among themselves, drawn without replacement, as in
            scikit-learn; all rows where there are fewer. None scores all.
        generator: draws the sample; None is a fresh one.

    Returns:
        A float64 scalar ``()``.

    Raises:
        TypeError: as ``silhouette_samples``.
        ValueError: as ``silhouette_samples``, also where the sample has too few clusters.

    Cost:
        As ``silhouette_samples`` of the rows that are scored.

    Source:
        Rousseeuw 1987 (doi:10.1016/0377-0427(87)90125-7).

    Example:
        >>> silhouette([[0.0], [1.0], [9.0]], [0, 0, 1])
        tensor(0.5880, dtype=torch.float64)
    """
    if sample_size is not None:
        x, labels = _sample(x, labels, sample_size, as_generator(generator))
    return silhouette_samples(x, labels, metric=metric).mean()


def silhouette_of_each(x: Any, labels: Sequence[Any], *, metric: str = "euclidean") -> Tensor:
    """Return the mean silhouette of the rows for each of several clusterings of them.

    Args:
        x: rows ``(n, d)``.
        labels: for each clustering, the cluster of each row, ``(n,)`` integers from 0.
        metric: as ``silhouette_samples``.

    Returns:
        Float64 ``(r,)``.

    Raises:
        TypeError: as ``silhouette_samples``.
        ValueError: as ``silhouette_samples``; no clustering at all.

    Cost:
        As ``silhouette_samples`` once: all share the distances, which are most of the work.

    Source:
        Rousseeuw 1987 (doi:10.1016/0377-0427(87)90125-7).

    Example:
        >>> silhouette_of_each([[0.0], [1.0], [9.0]], [[0, 0, 1], [0, 1, 1]])
        tensor([ 0.5880, -0.2546], dtype=torch.float64)
    """
    if not len(labels):
        raise ValueError("labels must hold at least one clustering, got none")
    return _samples([as_partition(x, each, metric) for each in labels]).mean(1)


def _samples(partitions: Sequence[Partition]) -> Tensor:
    """Return the silhouette of each row in each of ``r`` partitions, ``(r, n)``."""
    own, other = mean_distances(partitions)
    larger = torch.maximum(own, other)
    shared = torch.stack([each.counts[each.labels] > 1 for each in partitions])  # (r, n)
    scored = (larger > 0) & shared
    return torch.where(scored, (other - own) / torch.where(scored, larger, 1), 0)


def _sample(
    x: Any, labels: Any, sample_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    rows = as_rows(x)
    labels = as_labels(labels, rows)
    # Two clusters, one of them with a row to compare: less cannot be scored.
    size = min(check_integer("sample_size", sample_size, 3), len(rows))
    index = draw_without_replacement(len(rows), size, None, generator, rows.device)
    return rows[index], labels[index]
