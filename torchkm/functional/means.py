"""Means of labelled rows, and Lloyd's step by them, with gradients: hard centroids.

Labels change where a row is equally near to two centroids, and are constant everywhere else. So
the derivative of a hard centroid is that of a mean, almost everywhere, however many steps led to
the labels: there is nothing to solve and nothing to unroll.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.energy import nearest_labels
from torchkm.functional.soft import NOTHING, in_own_precision
from torchkm.functional.soft_problem import SoftProblem, as_soft_problem


def cluster_means(
    x: Tensor,
    labels: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
) -> Tensor:
    """Return the mean of the rows of each label, differentiable by rows and weights.

    ``d c_j / d x_i = [label_i = j] weight_i / R_j`` with ``R_j`` the weight of the cluster, and
    ``d c_j / d weight_i = [label_i = j] (x_i - c_j) / R_j``: that of converged hard k-means too,
    wherever no row is equally near to two centroids.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        labels: ``(*batch, n)`` int64, from 0 to ``k - 1``.
        centroids: ``(*batch, k, d)``: what a cluster without rows keeps, as a constant.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"``, or ``"cosine"``, where the mean goes back to the unit sphere.

    Returns:
        ``(*batch, k, d)``, with derivatives of two orders.

    Raises:
        TypeError: no float tensors, or labels that are not int64.
        ValueError: shapes that do not fit, an unknown metric.

    Cost:
        ``n d`` additions, in the dtype of the rows, measured from the centroids.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [8.0]], requires_grad=True)
        >>> means = cluster_means(x, torch.tensor([0, 0, 1]), torch.zeros(3, 1))
        >>> means.flatten().tolist()
        [0.5, 8.0, 0.0]
        >>> means[0].backward()
        >>> x.grad.flatten()
        tensor([0.5000, 0.5000, 0.0000])
    """
    problem, centroids = as_soft_problem(x, centroids, 1.0, sample_weight, metric)
    return means_of(problem, _as_labels(labels, problem), centroids)


def lloyd_step(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Make one Lloyd step for a problem; a cluster without rows stays where it is."""
    return means_of(problem, nearest_labels(problem, centroids), centroids)


def means_of(problem: SoftProblem, labels: Tensor, centroids: Tensor) -> Tensor:
    """Return the means ``(*batch, k, d)`` of the rows of each of ``labels (*batch, n)``."""
    with in_own_precision(problem.x):
        at = centroids.detach()
        # Sums of what is left of the rows lose no digits to where the clusters lie.
        about = torch.zeros_like(at) if problem.unit_rows else at
        index = labels.unsqueeze(-1).expand(problem.x.shape)
        weight = problem.weight.unsqueeze(-1)
        apart = weight * (problem.x - about.gather(-2, index))
        both = torch.cat([apart, weight], -1)  # (*batch, n, d + 1)
        total = at.new_zeros(*at.shape[:-1], both.shape[-1])
        total = total.scatter_add(-2, labels.unsqueeze(-1).expand(both.shape), both)
        total = problem.total(total)
        masses, sums = total[..., -1:], total[..., :-1]
        held = ~(masses <= NOTHING)  # a NaN holds too
        if problem.unit_rows:
            moved = torch.nn.functional.normalize(sums, dim=-1)
        else:
            moved = about + sums / torch.where(held, masses, 1)
        return torch.where(held, moved, at)


def _as_labels(labels: Any, problem: SoftProblem) -> Tensor:
    """Return labels ``(*batch, n)`` of the rows; their values are not looked at.

    Raises:
        TypeError: not an int64 tensor.
        ValueError: another shape.
    """
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        what = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a tensor of int64 numbers, got {what}")
    try:
        return labels.expand(problem.x.shape[:-1])
    except RuntimeError as error:
        raise ValueError(
            f"labels must have one number for each row: expected {tuple(problem.x.shape[:-1])}, "
            f"got {tuple(labels.shape)}"
        ) from error
