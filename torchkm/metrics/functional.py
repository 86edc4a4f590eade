"""The scores as functions of labels and targets."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torchkm.functional import ClusterStats
from torchkm.functional.arrays import as_sample_weight, as_values
from torchkm.metrics import scores
from torchkm.metrics.contingency import contingency_table

__all__ = [
    "adjusted_rand",
    "completeness",
    "homogeneity",
    "hungarian_accuracy",
    "inertia",
    "majority_vote_accuracy",
    "normalized_mutual_info",
    "v_measure",
]


def homogeneity(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return how far each cluster holds one class only, in [0, 1].

    Args:
        labels: cluster of each row, ``(n,)`` integers from 0.
        targets: class of each row, ``(n,)`` integers from 0.
        sample_weight: ``(n,)``, non-negative.

    Returns:
        A float64 scalar ``()``.

    Raises:
        TypeError: as ``contingency_table``.
        ValueError: as ``contingency_table``.

    Cost:
        ``n`` operations for the table, then ``k n_classes``.

    Source:
        Rosenberg and Hirschberg 2007 (https://aclanthology.org/D07-1043).

    Example:
        >>> homogeneity([0, 1, 2, 2], [0, 0, 1, 1])
        tensor(1., dtype=torch.float64)
    """
    return scores.homogeneity_from_table(_table(labels, targets, sample_weight))


def completeness(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return how far each class lies in one cluster only, in [0, 1].

    Arguments, errors and cost as ``homogeneity``; Rosenberg and Hirschberg 2007.

    Example:
        >>> completeness([0, 0, 0, 0], [0, 0, 1, 1])
        tensor(1., dtype=torch.float64)
    """
    return scores.completeness_from_table(_table(labels, targets, sample_weight))


def v_measure(labels: Any, targets: Any, *, beta: float = 1.0, sample_weight: Any = None) -> Tensor:
    """Return the harmonic mean of homogeneity and completeness, in [0, 1].

    Arguments, errors and cost as ``homogeneity``; ``beta`` above 1 favours completeness.
    Rosenberg and Hirschberg 2007.

    Example:
        >>> v_measure([0, 0, 1, 1], [1, 1, 0, 0])
        tensor(1., dtype=torch.float64)
    """
    return scores.v_measure_from_table(_table(labels, targets, sample_weight), beta)


def normalized_mutual_info(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the mutual information over the arithmetic mean of both entropies, in [0, 1].

    Arguments, errors and cost as ``homogeneity``; Strehl and Ghosh 2002
    (doi:10.1162/153244303321897735).

    Example:
        >>> normalized_mutual_info([0, 0, 1, 1], [1, 1, 0, 0])
        tensor(1., dtype=torch.float64)
    """
    return scores.normalized_mutual_info_from_table(_table(labels, targets, sample_weight))


def adjusted_rand(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the share of pairs on which both agree, corrected for chance: 1 at best.

    Arguments, errors and cost as ``homogeneity``; Hubert and Arabie 1985
    (doi:10.1007/BF01908075). A weight counts as that many rows: weights that do not add up to
    whole rows in each cell of the table are a ValueError.

    Example:
        >>> adjusted_rand([0, 0, 1, 1], [1, 1, 0, 0])
        tensor(1., dtype=torch.float64)
    """
    return scores.adjusted_rand_from_table(_table(labels, targets, sample_weight))


def majority_vote_accuracy(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the share of rows in the most frequent class of their cluster (purity).

    The vote is learnt and applied on the same rows; for new rows see ``MajorityVote``.
    Arguments, errors and cost as ``homogeneity``; Manning et al. 2008, section 16.3.

    Example:
        >>> majority_vote_accuracy([0, 0, 0, 1], [5, 5, 1, 1])
        tensor(0.7500, dtype=torch.float64)
    """
    return scores.majority_vote_accuracy_from_table(_table(labels, targets, sample_weight))


def hungarian_accuracy(labels: Any, targets: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the accuracy of the best one-to-one matching of clusters to classes.

    Arguments and errors as ``homogeneity``; ``max(k, n_classes)^3`` operations more. Kuhn 1955
    (doi:10.1002/nav.3800020109).

    Example:
        >>> hungarian_accuracy([0, 0, 1, 2], [1, 1, 0, 0])
        tensor(0.7500, dtype=torch.float64)
    """
    return scores.hungarian_accuracy_from_table(_table(labels, targets, sample_weight))


def inertia(sq_distances: Any, sample_weight: Any = None) -> Tensor:
    """Return the weighted sum of squared distances, added up in float64.

    Args:
        sq_distances: ``(n,)``.
        sample_weight: ``(n,)``, non-negative.

    Raises:
        TypeError: numbers that are not real.
        ValueError: empty, a wrong shape, bad weights.

    Cost:
        ``n`` operations; with weights, float64 copies ``(n,)`` of both.

    Example:
        >>> import torch
        >>> inertia(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]))
        tensor(5., dtype=torch.float64)
    """
    sq_distances = as_values(sq_distances, "sq_distances")
    return ClusterStats.weighed(sq_distances, as_sample_weight(sample_weight, sq_distances))


def _table(labels: Any, targets: Any, sample_weight: Any) -> Tensor:
    return contingency_table(labels, targets, sample_weight=sample_weight)
