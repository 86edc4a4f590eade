"""Which class a cluster stands for: the vote of the rows whose class is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import as_index
from torchkm.metrics.contingency import contingency_table


class MajorityVote:
    """Names each cluster by its most frequent class, and so predicts classes of new rows.

    Fit it on the labels and classes of training rows, then ``predict`` from the labels of any
    others. Ties go to the lowest class. A cluster that had no row when the vote was taken gets
    the most frequent class of all rows.

    Args:
        k: number of clusters; None is the largest label and one.
        n_classes: number of classes; None is the largest target and one.

    Attributes:
        classes: class of each cluster, ``(k,)`` int64.
        confidence: share of the cluster's rows in that class, ``(k,)`` float64; 0 for a cluster
            without rows.

    Example:
        >>> import torch
        >>> vote = MajorityVote().fit(labels=[0, 0, 0, 1, 1], targets=[7, 7, 3, 4, 4])
        >>> vote.predict(torch.tensor([1, 0]))
        tensor([4, 7])
        >>> vote
        MajorityVote(k=2, n_classes=8)
    """

    classes: Tensor
    confidence: Tensor

    def __init__(self, k: int | None = None, n_classes: int | None = None) -> None:
        self.k, self.n_classes = self._given = k, n_classes

    @classmethod
    def from_table(cls, table: Tensor) -> MajorityVote:
        """Return the vote of a contingency ``table (k, n_classes)``.

        Raises:
            ValueError: a table of another rank, of negative counts or NaN, or of no rows.

        Cost:
            ``k n_classes`` operations.

        Example:
            >>> MajorityVote.from_table(torch.tensor([[3, 1], [0, 2]])).classes
            tensor([0, 1])
        """
        return cls()._count(table)

    def fit(self, labels: Any, targets: Any, sample_weight: Any = None) -> MajorityVote:
        """Take the vote.

        Args:
            labels: cluster of each row, ``(n,)`` integers.
            targets: class of each row, ``(n,)`` integers.
            sample_weight: ``(n,)``, non-negative.

        Raises:
            TypeError: as ``contingency_table``.
            ValueError: as ``contingency_table``.

        Cost:
            As ``contingency_table``, then ``k n_classes`` operations.
        """
        return self._count(
            contingency_table(labels, targets, *self._given, sample_weight=sample_weight)
        )

    def predict(self, labels: Any) -> Tensor:
        """Return the class ``(n,)`` of the cluster of each row.

        Args:
            labels: cluster of each row, ``(n,)`` integers below ``k``.

        Raises:
            TypeError: labels that are not integers.
            ValueError: labels that the vote has not heard of, or no vote yet.

        Cost:
            One look-up a row.
        """
        self._check_fitted()
        labels = as_index(labels, "labels")
        if int(labels.max()) >= len(self.classes):
            raise ValueError(
                f"labels must lie in [0, {len(self.classes)}), the clusters of the vote, "
                f"got {int(labels.max())}"
            )
        return self.classes.to(labels.device)[labels]

    def accuracy(self, labels: Any, targets: Any) -> Tensor:
        """Return the share of rows ``()`` whose class the vote predicts.

        Args:
            labels: cluster of each row, ``(n,)``.
            targets: class of each row, ``(n,)``.

        Raises:
            TypeError: as ``predict``.
            ValueError: as ``predict``, or different lengths.
        """
        self._check_fitted()
        return self.accuracy_from_table(contingency_table(labels, targets, len(self.classes)))

    def accuracy_from_table(self, table: Tensor) -> Tensor:
        """Return the share of the rows ``()`` of another ``table (k, n)`` that the vote gets right.

        Raises:
            ValueError: a table of another shape, of negative counts or NaN, or of no rows, or no
                vote yet.

        Example:
            >>> vote = MajorityVote.from_table(torch.tensor([[3, 1], [0, 2]]))
            >>> vote.accuracy_from_table(torch.tensor([[1, 1], [0, 2]]))
            tensor(0.7500, dtype=torch.float64)
        """
        self._check_fitted()
        _check_table(table)
        if len(table) != len(self.classes):
            raise ValueError(
                f"table must have a row for each of {len(self.classes)} clusters, got {len(table)}"
            )
        known = self.classes.to(table.device) < table.shape[1]
        index = torch.where(known, self.classes.to(table.device), 0).unsqueeze(1)
        right = table.gather(1, index).squeeze(1)[known].sum()
        return right.double() / table.sum().double()

    def __repr__(self) -> str:
        """Name the sizes."""
        return f"MajorityVote(k={self.k}, n_classes={self.n_classes})"

    def _count(self, table: Tensor) -> MajorityVote:
        _check_table(table)
        self.k, self.n_classes = table.shape
        sizes = table.sum(1)  # (k,)
        most_frequent = table.sum(0).argmax()
        self.classes = torch.where(sizes > 0, table.argmax(1), most_frequent)
        best = table.amax(1).double()
        self.confidence = torch.where(sizes > 0, best / sizes.double().clamp_min(1e-300), 0.0)
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes"):
            raise ValueError("this MajorityVote has no vote yet: call fit(labels, targets) first")


def _check_table(table: Tensor) -> None:
    if not isinstance(table, Tensor):
        raise TypeError(f"table must be a tensor, got {type(table).__name__}")
    if table.ndim != 2 or not bool(table.any()):
        raise ValueError(
            f"table must be (k, n_classes) and count at least one row, got {tuple(table.shape)} "
            f"of sum {float(table.sum()):g}"
        )
    bad = table[~(table >= 0)]  # NaN is not above 0 either
    if bad.numel():
        raise ValueError(f"table must hold counts of at least 0, got {bad[0].item():g}")
