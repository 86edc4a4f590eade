"""Rows with the clusters they were put in, by whatever: what scores without classes are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import as_labels, check_finite
from torchkm.functional.geometry import sq_movements
from torchkm.functional.problem import Problem, as_problem

# By how many units in the last place two means of equal numbers may differ.
_UNITS_OF_MEANS = 64


@dataclass(frozen=True)
class Partition:
    """Rows and their clusters.

    Attributes:
        problem: the rows and how they are measured.
        labels: cluster of each row, ``(n,)`` int64: those that have rows, numbered from 0.
        counts: rows of each cluster, ``(k,)`` int64, at least 1.
    """

    problem: Problem
    labels: Tensor
    counts: Tensor

    def means(self) -> Tensor:
        """Return the mean of each cluster, ``(k, d)`` in float64, from one read of the rows."""
        problem, k = self.problem, len(self.counts)
        counts, sums = kernels.segment_sums(problem.x, self.labels, k, None, problem.unit_rows)
        return sums / counts.unsqueeze(1)

    def sq_distances_to(self, means: Tensor) -> Tensor:
        """Return the squared distances ``(n,)`` of rows to the ``means (k, d)`` of their clusters.

        From differences, in the dtype of the means, by one read of the rows. What is only
        rounding is 0.
        """
        x, origin = self.problem.x, self.problem.origin
        places = torch.arange(len(self.labels), device=means.device)
        return torch.cat(
            [
                sq_movements(
                    means[self.labels[part]], kernels.dense_rows(x, part).to(means.dtype), origin
                )
                for part in torch.split(places, kernels.rows_per_block(x, 0))
            ]
        )


def mean_distances(partitions: Sequence[Partition]) -> tuple[Tensor, Tensor]:
    """Return how far each row lies from its cluster and from the nearest other, ``(r, n)`` each.

    For ``r`` partitions of the same rows, which share the distances between rows. Both are means
    of distances (not squared; ``1 - cos`` under ``"cosine"``): to the other rows of its cluster, 0
    where there are none, and to the rows of the other cluster for which that is least. Distances
    of rounding alone are 0.
    """
    problem = partitions[0].problem
    labels = torch.stack([each.labels for each in partitions])  # (r, n)
    counts = [each.counts for each in partitions]
    return kernels.mean_distances(problem.x, labels, counts, problem.unit_rows, problem.origin)


def as_partition(x: Any, labels: Any, metric: str = "euclidean") -> Partition:
    """Return rows ``x (n, d)`` with their ``labels (n,)``, checked.

    Raises:
        TypeError: as ``as_problem`` and ``as_labels``.
        ValueError: as these and ``check_finite``; fewer than 2 clusters, or as many as rows.
    """
    problem = as_problem(x, None, metric)
    check_finite(problem.x)
    labels = as_labels(labels, problem.x)
    ids, labels, counts = labels.unique(return_inverse=True, return_counts=True)
    n, k = len(labels), len(ids)
    if not 2 <= k < n:
        raise ValueError(
            f"labels must name at least 2 clusters and fewer than there are rows, got {k} for "
            f"{n} rows"
        )
    return Partition(problem, labels, counts)


def distances_among(means: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of ``means (k, d)`` with their distances ``(b, k)`` to all of them.

    From differences. Means that are apart by no more than rounding are at distance 0.
    """
    size = kernels.rows_per_block(means, len(means))
    rounding = _UNITS_OF_MEANS * torch.finfo(means.dtype).eps
    norms = torch.linalg.vector_norm(means, dim=1) * rounding  # (k,)
    for start in range(0, len(means), size):
        block = slice(start, start + size)
        some = means[block]
        apart = torch.cdist(some, means, compute_mode="donot_use_mm_for_euclid_dist")  # (b, k)
        limit = torch.maximum(norms[block].unsqueeze(1), norms)
        yield block, torch.where(apart > limit, apart, 0)
