"""Converged soft k-means as a layer, with the gradient that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.functional import Ranks
from torchkm.functional.soft_problem import SoftProblem, as_soft_problem
from torchkm.functional.soft_problem import as_temperature as as_problem_temperature
from torchkm.gradients import Adjoint, as_gradient
from torchkm.gradients.fixed_point import differentiated
from torchkm.nn.assignments import as_assignment
from torchkm.nn.layer import ClusteringLayer
from torchkm.nn.temperature import as_temperature_module


class SoftAssignment(NamedTuple):
    """What a soft k-means layer finds.

    Attributes:
        centroids: ``(*batch, k, d)``, with the layer's gradient.
        responsibilities: shares of each row ``(*batch, n, k)``.
        n_iter: steps made ``(*batch,)``.
        converged: whether the last one moved the centroids by no more than ``tol`` ``(*batch,)``.
        residual: by how much it did, in shares of the spread of the rows ``(*batch,)``.
        contraction: the factor by which steps shrank in the end ``(*batch,)``.
        temperature: that was used ``(*batch,)``.
        adjoint: what an implicit backward pass told of its linear system.
    """

    centroids: Tensor
    responsibilities: Tensor
    n_iter: Tensor
    converged: Tensor
    residual: Tensor
    contraction: Tensor
    temperature: Tensor
    adjoint: Adjoint


class SoftKMeans(ClusteringLayer):
    """Clusters the rows that come in, until the centroids rest, and differentiates that.

    Args:
        k: number of clusters.
        n_features: width of the rows, for a layer that goes on from where the last batch in
            training mode ended, so that clusters keep their place; None starts each time anew.
        temperature: a number above 0, ``"auto"`` (by the scale of the rows), or a module of
            ``torchkm.nn.temperature``: learnt, or lowered step by step.
        gradient: of the centroids; see ``torchkm.gradients``.
        assignment: ``"soft"``, ``"straight_through"``, ``"gumbel"``, ``"top"``, ``"sinkhorn"``, or
            one of ``torchkm.nn.assignments`` with options.
        metric: ``"euclidean"`` or ``"cosine"``.
        init: how to start where no centroids are known; see ``torchkm.functional.seed``.
        max_iter: soft Lloyd steps at most.
        tol: movement to end at, in shares of the spread of the rows. At 0 exactly ``max_iter``
            steps are made and nothing is read back, so that the layer compiles.
        ranks: the processes that the rows are spread over, see ``torchkm.functional.Ranks``: all
            of them are clustered together, and gradients are those of the sum of all losses. What
            ``assignment="sinkhorn"`` balances are the rows of a rank.

    Attributes:
        centroids: where the last batch ended, ``(k, n_features)``; with ``n_features`` alone.
        seeded: whether there was one.

    Raises:
        TypeError: sizes that are not integers, or what is neither a name nor an object.
        ValueError: numbers out of range, unknown names.

    Example:
        >>> import torch, torchkm
        >>> x = torch.tensor([[0.0], [1.0], [8.0], [9.0]], requires_grad=True)
        >>> layer = torchkm.nn.SoftKMeans(k=2)
        >>> out = layer(x, torch.tensor([[0.0], [9.0]]))
        >>> out.centroids.flatten()
        tensor([0.5034, 8.4966], grad_fn=<ViewBackward0>)
        >>> out.centroids[0].backward()
        >>> x.grad.flatten().round(decimals=3)
        tensor([ 0.5030,  0.5030, -0.0060, -0.0010])
    """

    def __init__(
        self,
        k: int,
        n_features: int | None = None,
        *,
        temperature: Any = "auto",
        gradient: Any = "implicit",
        assignment: Any = "soft",
        metric: str = "euclidean",
        init: Any = "k-means++",
        max_iter: int = 100,
        tol: float = 1e-6,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(
            k, n_features, metric=metric, init=init, max_iter=max_iter, tol=tol, ranks=ranks
        )
        self.temperature = as_temperature_module(temperature)
        self.gradient = as_gradient(gradient)
        self.assignment = as_assignment(assignment)

    def forward(
        self,
        x: Tensor,
        centroids: Tensor | None = None,
        sample_weight: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> SoftAssignment:
        """Cluster rows, and assign them.

        Args:
            x: rows ``(*batch, n, d)`` of any float dtype.
            centroids: where to start ``(*batch, k, d)``; None is where the layer stands, or seeds.
            sample_weight: ``(*batch, n)``, non-negative; None counts each row once.
            generator: of seeds, and of draws where rows are assigned by them; None draws a fresh
                seed from the system.

        Returns:
            ``SoftAssignment``.

        Raises:
            TypeError: no float tensors.
            ValueError: shapes that do not fit, fewer rows than clusters, rows that are not finite.

        Warns:
            torchkm.gradients.UntrustedGradientWarning: as ``torchkm.gradients.fixed_point``.
        """
        start = self._start(x, sample_weight, generator) if centroids is None else centroids
        problem, start = as_soft_problem(x, start, 1.0, sample_weight, self.metric)
        problem = replace(problem, ranks=self.ranks)
        self._check_k(start)
        temperature = self.temperature(problem, start)
        problem = replace(problem, temperature=as_problem_temperature(temperature, problem.x))
        found = differentiated(problem, start, self.gradient, self.max_iter, self.tol)
        self._remember(found.centroids)
        return SoftAssignment(
            found.centroids,
            self._assigned(problem, found.centroids, generator),
            found.n_iter,
            found.converged,
            found.residual,
            found.contraction,
            temperature,
            found.adjoint,
        )

    def extra_repr(self) -> str:
        """Name the sizes and the choices."""
        choices = f"gradient={self.gradient}, assignment={self.assignment}"
        return f"{super().extra_repr()}, {choices}"

    def _assigned(
        self, problem: SoftProblem, centroids: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        with torch.autocast(problem.x.device.type, enabled=False):
            out: Tensor = self.assignment(problem, centroids, generator)
        return out
