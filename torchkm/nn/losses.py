"""What a clustering costs, as losses: for networks that are to make rows cluster well.

Each takes rows and centroids, wherever these come from: a layer, a parameter, an exponential mean.
Gradients flow to both. Centroids that minimise a loss need none: the gradient by the rows is the
same without, which is what ``gradient="envelope"`` of a layer saves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from torchkm.functional import transport_cost
from torchkm.functional.checks import check_integer, check_known, check_number
from torchkm.functional.energy import free_energies, least_sq_distances, mean_sq_distances
from torchkm.functional.geometry import uses_unit_rows
from torchkm.functional.soft import in_own_precision, sq_distances
from torchkm.functional.soft_problem import SoftProblem, as_soft_problem
from torchkm.functional.soft_problem import as_temperature as as_problem_temperature
from torchkm.nn.temperature import as_temperature_module

REDUCTIONS = ("mean", "none", "sum")


class ClusteringLoss(nn.Module):
    """A number for each row, weighed and reduced; which number is for subclasses to say.

    Args:
        metric: ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"`` over all rows by their weights, ``"sum"``, or ``"none"``.

    Raises:
        ValueError: unknown names.
    """

    def __init__(self, *, metric: str = "euclidean", reduction: str = "mean") -> None:
        super().__init__()
        uses_unit_rows(metric)
        self.metric = metric
        self.reduction = check_known("reduction", reduction, REDUCTIONS)

    def forward(self, x: Tensor, centroids: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of rows by centroids.

        Args:
            x: rows ``(*batch, n, d)`` of any float dtype.
            centroids: ``(*batch, k, d)``.
            sample_weight: ``(*batch, n)``, non-negative; None counts each row once.

        Returns:
            ``()``, or the weighted loss of each row ``(*batch, n)`` by ``reduction="none"``. In
            float32, or float64 where anything is.

        Raises:
            TypeError: no float tensors.
            ValueError: shapes that do not fit.
        """
        problem, centroids = as_soft_problem(x, centroids, 1.0, sample_weight, self.metric)
        with in_own_precision(problem.x):
            loss = problem.weight * self._of_rows(problem, centroids)
            if self.reduction == "none":
                return loss
            return loss.sum() / (problem.weight.sum() if self.reduction == "mean" else 1)

    def extra_repr(self) -> str:
        """Name the choices."""
        return f"metric={self.metric!r}, reduction={self.reduction!r}"

    def _of_rows(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        """Return the loss of each row ``(*batch, n)``."""
        raise NotImplementedError


class InertiaLoss(ClusteringLoss):
    """Squared distance to the nearest centroid: what k-means minimises.

    Its gradient by a row is ``2 weight_i (x_i - c_label)``, exact almost everywhere, and also of
    the inertia of converged k-means as a function of the rows, whatever the centroids pass on.

    Args:
        metric: ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"`` over all rows by their weights, ``"sum"``, or ``"none"``.

    Example:
        >>> import torch, torchkm
        >>> x = torch.tensor([[0.0], [1.0], [5.0]])
        >>> torchkm.nn.InertiaLoss(reduction="none")(x, torch.tensor([[0.0], [3.0]]))
        tensor([0., 1., 4.])
    """

    def _of_rows(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        return least_sq_distances(problem, centroids)


class _SoftLoss(ClusteringLoss):
    """A loss by shares, which have a temperature."""

    def __init__(
        self,
        temperature: Any = "auto",
        *,
        metric: str = "euclidean",
        reduction: str = "mean",
    ) -> None:
        super().__init__(metric=metric, reduction=reduction)
        self.temperature = as_temperature_module(temperature)

    def _heated(self, problem: SoftProblem, centroids: Tensor) -> SoftProblem:
        temperature = self.temperature(problem, centroids)
        return replace(problem, temperature=as_problem_temperature(temperature, problem.x))


class KMeansLoss(_SoftLoss):
    """Squared distances weighed by the shares: the loss of deep k-means.

    Fard, Thonet and Gaussier 2020, arXiv:1806.10069; see ``torchkm.functional.soft_inertia``. No
    fixed point of soft Lloyd steps minimises it, so that what centroids pass on counts.

    Args:
        temperature: a number above 0, ``"auto"``, or a module of ``torchkm.nn.temperature``.
        metric: ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"`` over all rows by their weights, ``"sum"``, or ``"none"``.

    Example:
        >>> import torch, torchkm
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> torchkm.nn.KMeansLoss(1e-3, reduction="sum")(x, x[::2])
        tensor(1.)
    """

    def _of_rows(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        return mean_sq_distances(self._heated(problem, centroids), centroids)


class FreeEnergyLoss(_SoftLoss):
    """The free energy: what soft Lloyd steps lower, and the likelihood of a mixture.

    See ``torchkm.functional.free_energy``. Its gradient by a row is ``2 weight_i sum_j r_ij (x_i -
    c_j)``, and the same where the centroids that minimise it follow the rows.

    Args:
        temperature: a number above 0, ``"auto"``, or a module of ``torchkm.nn.temperature``.
        metric: ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"`` over all rows by their weights, ``"sum"``, or ``"none"``.

    Example:
        >>> import torch, torchkm
        >>> x, centroids = torch.tensor([[1.0]]), torch.tensor([[0.0], [2.0]])
        >>> torchkm.nn.FreeEnergyLoss(0.5)(x, centroids)  # 1 - 0.5 log 2
        tensor(0.6534)
    """

    def _of_rows(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        return free_energies(self._heated(problem, centroids), centroids)


class TransportLoss(_SoftLoss):
    """What it costs to carry the rows to clusters of given sizes: entropic optimal transport.

    The squared distances under the plan that is least of all with its entropy, as a mean over the
    rows. Its gradient is the envelope's: the plan is held constant
    (``torchkm.functional.transport_cost``), and so is the temperature. Genevay et al. 2019,
    arXiv:1910.09036.

    Args:
        temperature: a number above 0, ``"auto"``, or a module of ``torchkm.nn.temperature``.
        column_mass: share of the rows that each cluster is to have ``(k,)``, in sum 1; None is as
            much for each, which is an assumption about the rows.
        column_penalty: what it costs to miss them, see ``torchkm.functional.sinkhorn``; None holds
            them.
        max_iter: updates of the plan at most.
        tol: mass of the rows that may be missed, see ``torchkm.functional.sinkhorn``.
        metric: ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"`` over the problems of a batch, ``"sum"``, or ``"none"``: a number for
            each problem, as a plan is one of all of its rows.

    Example:
        >>> import torch, torchkm
        >>> x = torch.tensor([[0.0], [0.0], [0.0], [3.0]], requires_grad=True)
        >>> torchkm.nn.TransportLoss(0.01)(x, torch.tensor([[0.0], [3.0]])).backward()
        >>> x.grad[3]
        tensor([0.])
    """

    column_mass: Tensor | None

    def __init__(
        self,
        temperature: Any = "auto",
        column_mass: Tensor | None = None,
        *,
        column_penalty: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-4,
        metric: str = "euclidean",
        reduction: str = "mean",
    ) -> None:
        super().__init__(temperature, metric=metric, reduction=reduction)
        self.register_buffer("column_mass", column_mass)
        if column_penalty is not None:
            check_number("column_penalty", column_penalty, 0, above=True)
        check_integer("max_iter", max_iter, 1)
        check_number("tol", tol, 0)
        self.options = {"column_penalty": column_penalty, "max_iter": max_iter, "tol": tol}

    def forward(self, x: Tensor, centroids: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of rows by centroids.

        Args:
            x: rows ``(*batch, n, d)`` of any float dtype.
            centroids: ``(*batch, k, d)``.
            sample_weight: ``(*batch, n)``, non-negative: the mass that each row has of all.

        Returns:
            ``()``, or ``(*batch,)`` by ``reduction="none"``. In float32, or float64 where anything
            is.

        Raises:
            TypeError: no float tensors.
            ValueError: shapes that do not fit, or masses of another number of clusters.
        """
        problem, centroids = as_soft_problem(x, centroids, 1.0, sample_weight, self.metric)
        problem = self._heated(problem, centroids)
        with in_own_precision(problem.x):
            cost = sq_distances(problem.x, centroids)  # (*batch, n, k)
            mass = problem.weight / problem.weight.sum(-1, keepdim=True)
            heat = problem.temperature.squeeze(-1).squeeze(-1)
            loss = transport_cost(cost, heat, mass, self.column_mass, **self.options)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()
