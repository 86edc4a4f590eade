"""The scores as torchmetrics metrics whose whole state is one summed table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from torchkm.functional.checks import check_integer
from torchkm.metrics import scores
from torchkm.metrics.contingency import contingency_table
from torchkm.metrics.functional import inertia

Score = Callable[[Tensor], Tensor]


class ContingencyTable(Metric):
    """The contingency table itself; the scores below are functions of it.

    Batches and ranks sum. In a ``MetricCollection`` all of them share one table.

    Args:
        k: number of clusters.
        n_classes: number of classes.
        **kwargs: of ``torchmetrics.Metric``.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: sizes below 1; in ``update``, what ``contingency_table`` refuses.

    Example:
        >>> import torch
        >>> metric = ContingencyTable(k=2, n_classes=3)
        >>> metric.update(torch.tensor([0, 0]), torch.tensor([2, 2]))
        >>> metric.update(torch.tensor([1]), torch.tensor([0]))
        >>> metric.compute()
        tensor([[0, 0, 2],
                [1, 0, 0]])
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = False
    table: Tensor
    score: ClassVar[Score] = torch.clone

    def __init__(self, k: int, n_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = check_integer("k", k, 1)
        self.n_classes = check_integer("n_classes", n_classes, 1)
        empty = torch.zeros(k, n_classes, dtype=torch.int64)
        self.add_state("table", default=empty, dist_reduce_fx="sum")

    def update(self, labels: Tensor, targets: Tensor) -> None:
        """Add a batch of ``labels (n,)`` and ``targets (n,)``.

        Raises:
            TypeError: as ``contingency_table``.
            ValueError: as ``contingency_table``; the table stays as it was.
        """
        self.table = self.table + contingency_table(labels, targets, self.k, self.n_classes)

    def compute(self) -> Tensor:
        """Return the score of all rows so far."""
        return type(self).score(self.table)


class Homogeneity(ContingencyTable):
    """How far each cluster holds one class only; see ``functional.homogeneity``.

    Example:
        >>> import torch
        >>> Homogeneity(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 0]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.homogeneity_from_table


class Completeness(ContingencyTable):
    """How far each class lies in one cluster only; see ``functional.completeness``.

    Example:
        >>> import torch
        >>> Completeness(k=1, n_classes=2)(torch.tensor([0, 0]), torch.tensor([1, 0]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.completeness_from_table


class VMeasure(ContingencyTable):
    """The harmonic mean of homogeneity and completeness; see ``functional.v_measure``.

    Example:
        >>> import torch
        >>> VMeasure(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 0]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.v_measure_from_table


class NormalizedMutualInfo(ContingencyTable):
    """Mutual information over mean entropy; see ``functional.normalized_mutual_info``.

    Example:
        >>> import torch
        >>> NormalizedMutualInfo(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 0]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.normalized_mutual_info_from_table


class AdjustedRand(ContingencyTable):
    """Pairs that agree, corrected for chance; see ``functional.adjusted_rand``.

    Example:
        >>> import torch
        >>> AdjustedRand(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 0]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.adjusted_rand_from_table


class MajorityVoteAccuracy(ContingencyTable):
    """Share of rows in their cluster's class; see ``functional.majority_vote_accuracy``.

    Example:
        >>> import torch
        >>> MajorityVoteAccuracy(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 1]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.majority_vote_accuracy_from_table


class HungarianAccuracy(ContingencyTable):
    """Accuracy of the best one-to-one matching; see ``functional.hungarian_accuracy``.

    Example:
        >>> import torch
        >>> HungarianAccuracy(k=2, n_classes=2)(torch.tensor([0, 1]), torch.tensor([1, 1]))
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True
    score: ClassVar[Score] = scores.hungarian_accuracy_from_table


class Inertia(Metric):
    """The sum of squared distances, in float64; see ``functional.inertia``.

    Example:
        >>> import torch
        >>> metric = Inertia()
        >>> metric.update(torch.tensor([1.0, 2.0]))
        >>> metric.compute()
        tensor(3., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", default=zero, dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, sq_distances: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add a batch of ``sq_distances (n,)``.

        Raises:
            TypeError: as ``functional.inertia``.
            ValueError: as ``functional.inertia``; the total stays as it was.
        """
        self.total = self.total + inertia(sq_distances, sample_weight)

    def compute(self) -> Tensor:
        """Return the inertia of all rows so far."""
        return self.total

    def _apply(self, *args: Any, **kwargs: Any) -> Inertia:
        """Move to another device, but never to a narrower dtype."""
        total = self.total
        cast("Any", super())._apply(*args, **kwargs)
        self.total = total.to(self.total.device)
        self._defaults["total"] = torch.zeros_like(self.total)
        return self
