"""What layers that cluster the rows of a batch share: where they start, and what they keep."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchkm import functional
from torchkm.functional import Ranks
from torchkm.functional.checks import as_generator, check_integer, check_number
from torchkm.functional.geometry import uses_unit_rows
from torchkm.functional.ranks import of_first_rank
from torchkm.functional.soft_problem import as_floats, as_weights
from torchkm.kernels import compute_dtype


class ClusteringLayer(nn.Module):
    """Clusters the rows that come in, from seeds or from where the last batch ended.

    Args:
        k: number of clusters.
        n_features: width of the rows, for a layer that goes on from where the last batch in
            training mode ended; None starts each time anew.
        metric: ``"euclidean"`` or ``"cosine"``.
        init: how to start where no centroids are known; see ``torchkm.functional.seed``.
        max_iter: steps at most.
        tol: movement to end at, in shares of the spread of the rows.
        ranks: the processes that the rows are spread over, or None.

    Attributes:
        centroids: where the last batch ended, ``(k, n_features)``; with ``n_features`` alone.
        seeded: whether there was one.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: numbers out of range, unknown names.
    """

    centroids: Tensor
    seeded: Tensor

    def __init__(
        self,
        k: int,
        n_features: int | None,
        *,
        metric: str,
        init: Any,
        max_iter: int,
        tol: float,
        ranks: Ranks | None,
    ) -> None:
        super().__init__()
        self.k = check_integer("k", k, 1)
        self.n_features = None
        if n_features is not None:
            self.n_features = check_integer("n_features", n_features, 1)
            self.register_buffer("centroids", torch.zeros(k, n_features))
            self.register_buffer("seeded", torch.tensor(False))
        uses_unit_rows(metric)
        self.metric, self.init = metric, init
        self.max_iter = check_integer("max_iter", max_iter, 1)
        self.tol = check_number("tol", tol, 0)
        self.ranks = ranks

    def extra_repr(self) -> str:
        """Name the sizes and the choices."""
        width = "" if self.n_features is None else f"n_features={self.n_features}, "
        return (
            f"k={self.k}, {width}metric={self.metric!r}, max_iter={self.max_iter}, tol={self.tol:g}"
        )

    def _check_k(self, start: Tensor) -> None:
        if start.shape[-2] != self.k:
            raise ValueError(
                f"centroids must have shape (*batch, {self.k}, d), got {tuple(start.shape)}"
            )

    @torch.no_grad()
    def _start(self, x: Any, sample_weight: Any, generator: torch.Generator | None) -> Tensor:
        """Return where to start: where the layer stands, or seeds for each problem."""
        if self.n_features is not None and bool(self.seeded):
            return self.centroids
        x = as_floats(x, "x", "(*batch, n, d)", 2).detach()
        if self.n_features not in (None, x.shape[-1]):
            raise ValueError(
                f"x must have n_features={self.n_features} columns, got shape {tuple(x.shape)}"
            )
        given = as_weights(sample_weight, x[..., :1].to(compute_dtype(x.dtype)))
        generator = as_generator(generator)
        problems = x.reshape(-1, *x.shape[-2:])
        weights: Any = [None] * len(problems)
        if given is not None:
            weights = given.detach().reshape(-1, x.shape[-2])
        seed = partial(functional.seed, metric=self.metric, generator=generator)
        seeds = [
            seed(rows, self.k, self.init, sample_weight=weight)
            for rows, weight in zip(problems, weights, strict=True)
        ]
        start = torch.stack(seeds).view(*x.shape[:-2], self.k, x.shape[-1])
        return of_first_rank(start, self.ranks)

    @torch.no_grad()
    def _remember(self, centroids: Tensor) -> None:
        """Keep the centroids of a training batch to start from."""
        if self.n_features is None or not self.training:
            return
        if centroids.ndim != 2 or centroids.shape[1] != self.n_features:
            raise ValueError(
                f"a layer with n_features={self.n_features} takes rows (n, {self.n_features}), "
                f"one problem at a time; got centroids {tuple(centroids.shape)}"
            )
        self.centroids.copy_(centroids)
        self.seeded.fill_(True)
