"""The curvature of the free energy at a fixed point, as a product and as a pullback.

With responsibilities ``r``, weights ``o``, masses ``R_j = sum_i o_i r_ij`` and ``a_ij = x_i - c_j``
a fixed point solves ``G_j = sum_i o_i r_ij a_ij = 0``, and its derivative by the centroids is
``H - R``, half the Hessian of the free energy with a minus:

    (H w)_j = 2 / temperature * sum_i o_i t_ij a_ij
    t_ij = r_ij (s_ij - sum_l r_il s_il),  s_ij = a_ij' w_j

On the unit sphere everything is projected to what is orthogonal to the centroids, and the length
of ``sum_i o_i r_ij x_i`` takes the place of the mass.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from torchkm.functional.soft import NOTHING, blocks, origin_amid, shares_of, soft_sums
from torchkm.functional.soft_problem import SoftProblem

# Responsibilities of up to so many numbers are kept from one product to the next.
_KEPT = 2**25


class Curvature:
    """``R - H`` at ``centroids (*batch, k, d)``.

    Attributes:
        diagonal: ``R``, or its counterpart on the sphere ``(*batch, k, 1)``.
    """

    def __init__(self, problem: SoftProblem, centroids: Tensor, ridge: float = 0.0) -> None:
        self._problem, self._at = problem, centroids
        self._origin = origin_amid(problem, centroids)
        self._centred = centroids - self._origin
        self._runs = list(blocks(problem, centroids.shape[-2]))
        masses, sums = soft_sums(problem, self._origin, self._centred)
        size = torch.linalg.vector_norm(sums, dim=-1) if problem.unit_rows else masses
        # A cluster that nothing belongs to stays where it is: its equation stands alone.
        self.diagonal = torch.where(masses > NOTHING, size, 1).unsqueeze(-1)
        self._ridge = ridge
        n_shares = problem.x.shape[:-1].numel() * centroids.shape[-2]
        self._kept = [self._block(rows) for rows in self._runs] if n_shares <= _KEPT else None

    def product(self, w: Tensor) -> Tensor:
        """Return ``((1 + ridge) R - H) w`` for ``w (*batch, k, d)``: two products with the rows."""
        bent = torch.zeros_like(w)
        for rows, weight, shares in self._blocks():
            change = weight * self._change(rows, shares, w)[1]
            bent = bent + change.mT @ rows - change.sum(-2).unsqueeze(-1) * self._centred
        bent = self._problem.total(bent) * (2 / self._problem.temperature)
        return self.tangent((1 + self._ridge) * self.diagonal * w - bent)

    def pullback(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of ``sum_j w_j' G_j`` by rows, weights and temperature.

        On several ranks, that of the temperature is what the rows of this one add to it.
        """
        temperature = self._problem.temperature
        by_x, by_weight, by_temperature = [], [], []
        for rows, weight, shares in self._blocks():
            s, change = self._change(rows, shares, w)  # (*batch, b, k)
            by_x.append(weight * (shares @ w + change @ self._centred * (2 / temperature)))
            by_weight.append((shares * s).sum(-1))
            half = rows @ self._centred.mT - self._centred.square().sum(-1).unsqueeze(-2) / 2
            by_temperature.append((weight * change * half).sum((-2, -1), keepdim=True))
        total = torch.stack(by_temperature).sum(0) * (-2 / temperature.square())
        return torch.cat(by_x, -2), torch.cat(by_weight, -1), total

    def tangent(self, w: Tensor) -> Tensor:
        """Take from ``w (*batch, k, d)`` what points off the sphere."""
        if not self._problem.unit_rows:
            return w
        return w - (w * self._at).sum(-1, keepdim=True) * self._at

    def _change(self, rows: Tensor, shares: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``t``, both ``(*batch, b, k)``."""
        s = rows @ w.mT - (self._centred * w).sum(-1).unsqueeze(-2)
        return s, shares * (s - (shares * s).sum(-1, keepdim=True))

    def _blocks(self) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        return self._kept if self._kept is not None else map(self._block, self._runs)

    def _block(self, run: slice) -> tuple[Tensor, Tensor, Tensor]:
        problem = self._problem
        rows = problem.x[..., run, :] - self._origin
        weight = problem.weight[..., run].unsqueeze(-1)
        return rows, weight, shares_of(rows, self._centred, problem.temperature)
