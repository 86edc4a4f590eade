"""The contingency table: how many rows of each class fell into each cluster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import as_index, as_sample_weight, check_same_device
from torchkm.functional.checks import check_integer


def contingency_table(
    labels: Any,
    targets: Any,
    k: int | None = None,
    n_classes: int | None = None,
    sample_weight: Any = None,
) -> Tensor:
    """Count the rows of each class in each cluster.

    Args:
        labels: cluster of each row, ``(n,)`` integers from 0.
        targets: class of each row, ``(n,)`` integers from 0.
        k: number of clusters; None is the largest label and one.
        n_classes: number of classes; None is the largest target and one.
        sample_weight: ``(n,)``, non-negative; None counts each row once.

    Returns:
        The table ``(k, n_classes)``: int64, or float64 with weights. Tables of parts of the
        rows add up to the table of all.

    Raises:
        TypeError: labels or targets that are not integers.
        ValueError: different lengths or devices, empty, negative or too large indices, bad
            weights.

    Cost:
        ``n`` operations and one ``(n,)`` index.

    Example:
        >>> import torch
        >>> contingency_table(torch.tensor([0, 0, 1]), torch.tensor([2, 2, 0]))
        tensor([[0, 0, 2],
                [1, 0, 0]])
    """
    labels = as_index(labels, "labels")
    targets = as_index(targets, "targets")
    if labels.shape != targets.shape:
        raise ValueError(
            "labels and targets must be as long as each other: "
            f"got {len(labels)} labels and {len(targets)} targets"
        )
    check_same_device(labels, targets, "targets")
    k = _size("k", k, "labels", labels)
    n_classes = _size("n_classes", n_classes, "targets", targets)
    weight = as_sample_weight(sample_weight, labels)
    cells = labels * n_classes + targets  # (n,)
    if weight is not None:
        weight = weight.double()
    return torch.bincount(cells, weight, minlength=k * n_classes).reshape(k, n_classes)


def _size(name: str, given: int | None, of: str, index: Tensor) -> int:
    largest = int(index.max())
    if given is None:
        return largest + 1
    given = check_integer(name, given, 1)
    if largest >= given:
        raise ValueError(f"{of} must lie in [0, {given}) for {name}={given}, got {largest}")
    return given
