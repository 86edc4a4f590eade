"""Each cluster in two: how it would part, and what that would gain."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.geometry import centroids_on
from torchkm.functional.problem import Problem

_PASSES = 4


class Halves(NamedTuple):
    """Clusters in two.

    Attributes:
        centroids: of the two parts, ``(k, 2, d)``.
        gains: by how much the inertia would fall with both in place of one, ``(k,)``.
    """

    centroids: Tensor
    gains: Tensor


def halves(
    problem: Problem, centroids: Tensor, labels: Tensor, generator: torch.Generator
) -> Halves:
    """Part each cluster by k-means with two centroids: its own, and a random row of it at first.

    Cost:
        Four passes of ``2 n d`` operations and two reads.
    """
    k, d = centroids.shape
    other = _random_rows(problem, centroids, labels, generator)
    two = torch.stack([centroids, other], dim=1)  # (k, 2, d)
    for _ in range(_PASSES):
        sides = kernels.sides(problem.x, labels, two, problem.unit_rows, problem.origin)
        counts, sums = kernels.segment_sums(
            problem.x, 2 * labels + sides, 2 * k, problem.sample_weight, problem.unit_rows
        )
        means = sums / counts.clamp(min=torch.finfo(counts.dtype).tiny).unsqueeze(1)
        means = torch.where(counts.unsqueeze(1) > 0, means, two.view(2 * k, d).to(means.dtype))
        two = centroids_on(problem.metric, means, two.view(2 * k, d).to(means.dtype))
        two = two.view(k, 2, d).to(centroids.dtype)
    counts, means = counts.view(k, 2), means.view(k, 2, d)
    apart = (means[:, 1] - means[:, 0]).square().sum(1)  # (k,)
    return Halves(two, counts.prod(1) / counts.sum(1).clamp(min=1e-300) * apart)


def _random_rows(
    problem: Problem, centroids: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Return one random row of each cluster, ``(k, d)``; its centroid where it has none."""
    order = torch.randperm(len(labels), generator=generator, device=generator.device)
    order = order.to(labels.device)
    rank = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)).to(order))
    top = torch.full_like(labels[:1], -1).expand(len(centroids)).clone()  # (k,)
    top.scatter_reduce_(0, labels, rank, "amax")
    rows = problem.x[order[top]].to(centroids.dtype)  # (k, d)
    rows = kernels.unit(rows) if problem.unit_rows else rows
    return torch.where(top.unsqueeze(1) >= 0, rows, centroids)
