"""What a clustering costs, differentiable by rows, centroids, weights and temperature.

The free energy is what soft Lloyd steps lower, the inertia what Lloyd's do. Where centroids
minimise one of them, its gradient by the rows is the same whether they are held constant or not.
The soft inertia is minimised by neither.

Each is a number for a problem, and here also one for each row, which losses reduce as asked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.soft import (
    in_own_precision,
    of_blocks,
    origin_amid,
    scores_of,
    shares_of,
)
from torchkm.functional.soft_problem import SoftProblem, as_soft_problem


def free_energy(
    x: Tensor,
    centroids: Tensor,
    temperature: Any,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
) -> Tensor:
    """Return the free energy, which soft Lloyd steps lower and whose limit is the inertia.

    ``-temperature * sum_i weight_i log sum_j exp(-|x_i - c_j|^2 / temperature)``

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: ``(*batch, k, d)``.
        temperature: above 0; a number, or a tensor that broadcasts to ``(*batch,)``.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.

    Returns:
        ``(*batch,)``.

    Raises:
        TypeError: as ``responsibilities``.
        ValueError: as ``responsibilities``.

    Cost:
        ``2 n k d`` operations; a block of scores in memory, also with gradients.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> free_energy(x, x, 1e-3)
        tensor(0.)
    """
    problem, centroids = as_soft_problem(x, centroids, temperature, sample_weight, metric)
    return _weighed(free_energies(problem, centroids), problem)


def soft_inertia(
    x: Tensor,
    centroids: Tensor,
    temperature: Any,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
) -> Tensor:
    """Return the squared distances, weighed by the responsibilities.

    ``sum_i weight_i sum_j r_ij |x_i - c_j|^2``: the free energy less the entropy of the shares, and
    the loss of deep k-means (Fard, Thonet and Gaussier 2020, arXiv:1806.10069), whose ``alpha`` is
    ``1 / temperature``.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: ``(*batch, k, d)``.
        temperature: above 0; a number, or a tensor that broadcasts to ``(*batch,)``.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.

    Returns:
        ``(*batch,)``.

    Raises:
        TypeError: as ``responsibilities``.
        ValueError: as ``responsibilities``.

    Cost:
        ``2 n k d`` operations; a block of scores in memory, also with gradients.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> soft_inertia(x, x[::2], 1e-3)
        tensor(1.)
    """
    problem, centroids = as_soft_problem(x, centroids, temperature, sample_weight, metric)
    return _weighed(mean_sq_distances(problem, centroids), problem)


def inertia(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None = None,
    *,
    metric: str = "euclidean",
) -> Tensor:
    """Return the squared distances of rows to their nearest centroid, added up.

    ``sum_i weight_i min_j |x_i - c_j|^2``. Its gradient, ``2 weight_i (x_i - c_j)`` for the nearest
    ``j``, is exact wherever no row is equally near to two centroids.

    Args:
        x: rows ``(*batch, n, d)`` of any float dtype.
        centroids: ``(*batch, k, d)``.
        sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.

    Returns:
        ``(*batch,)``.

    Raises:
        TypeError: as ``responsibilities``.
        ValueError: as ``responsibilities``.

    Cost:
        ``2 n k d`` operations; a block of scores in memory, also with gradients.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [5.0]], requires_grad=True)
        >>> inertia(x, torch.tensor([[0.0], [3.0]])).backward()
        >>> x.grad.flatten()
        tensor([0., 2., 4.])
    """
    problem, centroids = as_soft_problem(x, centroids, 1.0, sample_weight, metric)
    return _weighed(least_sq_distances(problem, centroids), problem)


def free_energies(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Return the free energy of each row ``(*batch, n)``, not yet weighed."""

    def of_block(rows: Tensor, weight: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
        logs = scores_of(rows, centred, temperature).logsumexp(-1)  # (*batch, b, k) -> (*batch, b)
        return rows.square().sum(-1) - temperature.squeeze(-1) * logs

    return _of_rows(of_block, problem, centroids)


def mean_sq_distances(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Return the mean squared distance of each row by its shares ``(*batch, n)``."""

    def of_block(rows: Tensor, weight: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
        shares = shares_of(rows, centred, temperature)  # (*batch, b, k)
        less = (shares * scores_of(rows, centred, temperature)).sum(-1)
        return rows.square().sum(-1) - temperature.squeeze(-1) * less

    return _of_rows(of_block, problem, centroids)


def least_sq_distances(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Return the squared distance of each row to its nearest centroid ``(*batch, n)``."""

    def of_block(rows: Tensor, weight: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
        labels = nearest_of(rows, centred)
        index = labels.unsqueeze(-1).expand(rows.shape)
        return (rows - centred.gather(-2, index)).square().sum(-1)

    return _of_rows(of_block, problem, centroids)


def nearest_labels(problem: SoftProblem, centroids: Tensor) -> Tensor:
    """Return which centroid is nearest to each row ``(*batch, n)``, the lowest among equals."""

    def of_block(rows: Tensor, weight: Tensor, centred: Tensor, temperature: Tensor) -> Tensor:
        return nearest_of(rows, centred)

    with torch.no_grad():
        return _of_rows(of_block, problem, centroids)


def nearest_of(rows: Tensor, centred: Tensor) -> Tensor:
    """Return which of ``centred (*batch, k, d)`` is nearest to each of ``rows (*batch, b, d)``."""
    return scores_of(rows.detach(), centred.detach(), rows.new_ones(())).argmax(-1)


def _of_rows(of_block: Any, problem: SoftProblem, centroids: Tensor) -> Tensor:
    with in_own_precision(problem.x):
        origin = origin_amid(problem, centroids)
        return torch.cat(list(of_blocks(of_block, problem, origin, centroids - origin)), -1)


def _weighed(values: Tensor, problem: SoftProblem) -> Tensor:
    with in_own_precision(problem.x):
        return (problem.weight * values).sum(-1)
