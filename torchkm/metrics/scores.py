"""Scores as functions of a contingency table ``(k, n_classes)``, computed in float64.

Conventions for degenerate tables are scikit-learn's. Empty clusters and classes do not count.
Each score costs ``k n_classes`` operations and a few copies of the table, unless it says more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.functional.checks import check_number


def entropy(counts: Tensor) -> Tensor:
    """Return the entropy ``()`` in nats of ``counts`` of any shape.

    Example:
        >>> entropy(torch.tensor([2, 2]))
        tensor(0.6931, dtype=torch.float64)
    """
    counts = counts.double()
    share = counts[counts > 0] / counts.sum()
    return -(share * share.log()).sum()


def conditional_entropy(table: Tensor) -> Tensor:
    """Return the entropy ``()`` of the column that is left when the row is known, in nats.

    Example:
        >>> conditional_entropy(torch.tensor([[1, 1], [2, 0]]))
        tensor(0.3466, dtype=torch.float64)
    """
    table = table.double()
    sizes = table.sum(1, keepdim=True).expand_as(table)  # (k, n_classes)
    held = table > 0
    return -(table[held] * (table[held] / sizes[held]).log()).sum() / table.sum()


def homogeneity_from_table(table: Tensor) -> Tensor:
    """Return how far each cluster holds one class only, in [0, 1]; 1 where there is one class.

    Rosenberg and Hirschberg 2007 (https://aclanthology.org/D07-1043).

    Example:
        >>> homogeneity_from_table(torch.tensor([[5, 0], [0, 3], [0, 2]]))
        tensor(1., dtype=torch.float64)
    """
    classes = entropy(table.sum(0))
    # Independent clusters and classes leave a difference of rounding, on either side of 0.
    return _share(classes - conditional_entropy(table), classes).clamp_min(0)


def completeness_from_table(table: Tensor) -> Tensor:
    """Return how far each class lies in one cluster only, in [0, 1]; 1 where there is one cluster.

    Rosenberg and Hirschberg 2007.

    Example:
        >>> completeness_from_table(torch.tensor([[5, 0, 0], [0, 3, 2]]))
        tensor(1., dtype=torch.float64)
    """
    return homogeneity_from_table(table.T)


def v_measure_from_table(table: Tensor, beta: float = 1.0) -> Tensor:
    """Return the weighted harmonic mean of homogeneity and completeness.

    Rosenberg and Hirschberg 2007; ``beta`` above 1 favours completeness.

    Raises:
        TypeError: a ``beta`` that is not a number.
        ValueError: a ``beta`` that is negative or not finite.

    Example:
        >>> v_measure_from_table(torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]]))
        tensor(0.6667, dtype=torch.float64)
    """
    beta = check_number("beta", beta, 0)
    h, c = homogeneity_from_table(table), completeness_from_table(table)
    return (1 + beta) * h * c / (beta * h + c).clamp_min(torch.finfo(h.dtype).tiny)


def normalized_mutual_info_from_table(table: Tensor) -> Tensor:
    """Return the mutual information over the mean of both entropies.

    Strehl and Ghosh 2002 (doi:10.1162/153244303321897735), with the arithmetic mean.

    Example:
        >>> normalized_mutual_info_from_table(torch.tensor([[0, 4], [2, 0]]))
        tensor(1., dtype=torch.float64)
    """
    classes, clusters = entropy(table.sum(0)), entropy(table.sum(1))
    return _share(classes - conditional_entropy(table), (classes + clusters) / 2).clamp_min(0)


def adjusted_rand_from_table(table: Tensor) -> Tensor:
    """Return the share of pairs that agree, corrected for chance: 1 at best, 0 at random.

    Hubert and Arabie 1985 (doi:10.1007/BF01908075).

    Raises:
        ValueError: counts that are not whole. There are no pairs within half a row: the formula
            would leave its range, and the answer depend on the unit of the weights.

    Example:
        >>> adjusted_rand_from_table(torch.tensor([[1, 1], [1, 1]]))
        tensor(-0.5000, dtype=torch.float64)
    """
    table = table.double()
    _check_whole(table)
    together = _pairs(table)
    in_clusters, in_classes = _pairs(table.sum(1)), _pairs(table.sum(0))
    n = table.sum()
    expected = in_clusters * in_classes / (n * (n - 1) / 2).clamp_min(1)
    most = (in_clusters + in_classes) / 2
    return _share(together - expected, most - expected)


def majority_vote_accuracy_from_table(table: Tensor) -> Tensor:
    """Return the share of rows in the most frequent class of their cluster (purity).

    Manning, Raghavan and Schuetze 2008, section 16.3.

    Example:
        >>> majority_vote_accuracy_from_table(torch.tensor([[2, 1], [1, 0]]))
        tensor(0.7500, dtype=torch.float64)
    """
    return table.amax(dim=1).sum().double() / table.sum().double()


def hungarian_accuracy_from_table(table: Tensor) -> Tensor:
    """Return the share of rows that the best one-to-one matching of clusters to classes gets right.

    Kuhn 1955 (doi:10.1002/nav.3800020109), by SciPy on the CPU: ``max(k, n_classes)^3``
    operations.

    Example:
        >>> hungarian_accuracy_from_table(torch.tensor([[2, 1], [1, 0]]))
        tensor(0.5000, dtype=torch.float64)
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table.cpu().numpy(), maximize=True)
    matched = table[torch.from_numpy(rows), torch.from_numpy(columns)].sum()
    return matched.double() / table.sum().double()


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return ``part / whole``; 1 where there was nothing to get wrong."""
    # Both are sums of logarithms: what differs from 0 by rounding is 0.
    nothing = whole.abs() <= torch.finfo(whole.dtype).eps
    return torch.where(nothing, 1.0, part / torch.where(nothing, 1.0, whole))


def _check_whole(table: Tensor) -> None:
    broken = table[table != table.round()]
    if broken.numel():
        raise ValueError(
            "adjusted_rand counts pairs of rows, so a table must hold whole counts and "
            f"sample_weight add up to them: got {broken[0].item():g} in a cell"
        )


def _pairs(counts: Tensor) -> Tensor:
    return (counts * (counts - 1) / 2).sum()
