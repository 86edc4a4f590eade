"""Converged hard k-means as a layer, with its exact gradient almost everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.functional import Ranks
from torchkm.functional.energy import nearest_labels
from torchkm.functional.means import lloyd_step, means_of
from torchkm.functional.soft_problem import as_soft_problem
from torchkm.nn.layer import ClusteringLayer
from torchkm.solvers.soft import settle


class HardAssignment(NamedTuple):
    """What a hard k-means layer finds.

    Attributes:
        centroids: the means of the labelled rows ``(*batch, k, d)``, with their gradient.
        labels: of the rows ``(*batch, n)``, int64.
        n_iter: steps made ``(*batch,)``.
        converged: whether the last one moved the centroids by no more than ``tol`` ``(*batch,)``.
        residual: by how much it did, in shares of the spread of the rows ``(*batch,)``.
    """

    centroids: Tensor
    labels: Tensor
    n_iter: Tensor
    converged: Tensor
    residual: Tensor


class HardKMeans(ClusteringLayer):
    """Clusters the rows that come in by Lloyd's steps, and differentiates the centroids.

    A centroid is the mean of its rows, and labels are constant wherever no row is equally near to
    two centroids: so ``d c_j / d x_i = [label_i = j] weight_i / R_j``, exactly and almost
    everywhere, after any number of steps. That is what ``SoftKMeans`` tends to as its temperature
    goes to zero. Nothing about a temperature or a solve has a meaning here, which is why this is a
    layer of its own. Labels have no gradient: for losses by them, see ``InertiaLoss``.

    Args:
        k: number of clusters.
        n_features: width of the rows, for a layer that goes on from where the last batch in
            training mode ended, so that clusters keep their place; None starts each time anew.
        metric: ``"euclidean"`` or ``"cosine"``.
        init: how to start where no centroids are known; see ``torchkm.functional.seed``.
        max_iter: steps at most.
        tol: movement to end at, in shares of the spread of the rows. At 0 exactly ``max_iter``
            steps are made and nothing is read back, so that the layer compiles.
        ranks: the processes that the rows are spread over, see ``torchkm.functional.Ranks``.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: numbers out of range, unknown names.

    Example:
        >>> import torch, torchkm
        >>> x = torch.tensor([[0.0], [1.0], [8.0], [9.0]], requires_grad=True)
        >>> out = torchkm.nn.HardKMeans(k=2)(x, torch.tensor([[0.0], [9.0]]))
        >>> out.centroids.flatten().tolist(), out.labels.tolist()
        ([0.5, 8.5], [0, 0, 1, 1])
        >>> out.centroids[0].backward()
        >>> x.grad.flatten()
        tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """

    def __init__(
        self,
        k: int,
        n_features: int | None = None,
        *,
        metric: str = "euclidean",
        init: Any = "k-means++",
        max_iter: int = 100,
        tol: float = 1e-6,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(
            k, n_features, metric=metric, init=init, max_iter=max_iter, tol=tol, ranks=ranks
        )

    def forward(
        self,
        x: Tensor,
        centroids: Tensor | None = None,
        sample_weight: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> HardAssignment:
        """Cluster rows.

        Args:
            x: rows ``(*batch, n, d)`` of any float dtype.
            centroids: where to start ``(*batch, k, d)``; None is where the layer stands, or seeds.
            sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
            generator: of seeds; None draws a fresh seed from the system.

        Returns:
            ``HardAssignment``. A cluster without rows keeps the centroid that it had.

        Raises:
            TypeError: no float tensors.
            ValueError: shapes that do not fit, fewer rows than clusters, rows that are not finite.
        """
        start = self._start(x, sample_weight, generator) if centroids is None else centroids
        problem, start = as_soft_problem(x, start, 1.0, sample_weight, self.metric)
        problem = replace(problem, ranks=self.ranks)
        self._check_k(start)
        with torch.no_grad():
            still = problem.of(problem.x.detach(), problem.weight.detach(), problem.temperature)
            settled = settle(still, start.detach(), self.max_iter, self.tol, lloyd_step)
            labels = nearest_labels(still, settled.centroids)
        if self.tol and not bool(torch.isfinite(settled.residual).all()):
            raise ValueError(
                "x, centroids and sample_weight must be finite, and weights not all zero"
            )
        means = means_of(problem, labels, settled.centroids)
        self._remember(means)
        return HardAssignment(means, labels, settled.n_iter, settled.converged, settled.residual)
