"""Optimal transport between rows and centroids: soft assignment with a say in the sizes.

Sinkhorn's iteration, in logarithms (Cuturi 2013, arXiv:1306.0895), for given masses of rows and of
centroids; and for masses that may be missed at a price (Chizat et al. 2018,
doi:10.1090/mcom/3303). Balanced clusters by it: Genevay et al. 2019, arXiv:1910.09036.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.functional.checks import check_integer, check_number
from torchkm.functional.soft import in_own_precision
from torchkm.functional.soft_problem import as_floats, as_temperature
from torchkm.kernels import compute_dtype

# Masses below this have the logarithm of it: a row or centroid without mass takes no part.
_NO_MASS = 1e-30


class Plan(NamedTuple):
    """A plan of transport.

    Attributes:
        plan: mass that goes from each row to each centroid ``(*batch, n, k)``.
        row_potentials: ``(*batch, n)``.
        column_potentials: ``(*batch, k)``.
        cost: of the plan, with its entropy: what it minimises ``(*batch,)``.
        n_iter: updates made.
        residual: how far the masses of the rows are missed, summed, in shares of all mass
            ``(*batch,)``; those of the columns are met. With penalties it is the same of masses
            that the last update would still have moved.
    """

    plan: Tensor
    row_potentials: Tensor
    column_potentials: Tensor
    cost: Tensor
    n_iter: int
    residual: Tensor


def sinkhorn(
    cost: Tensor,
    temperature: Any,
    row_mass: Tensor | None = None,
    column_mass: Tensor | None = None,
    *,
    row_penalty: float | None = None,
    column_penalty: float | None = None,
    max_iter: int = 100,
    tol: float = 1e-6,
) -> Plan:
    """Return the plan of least cost, less ``temperature`` times its entropy.

    Gradients flow through every update: to stop them there, and have that of the cost alone, use
    ``transport_cost``.

    Args:
        cost: of each row at each centroid ``(*batch, n, k)``, such as a squared distance.
        temperature: above 0, in units of ``cost``; a number, or a tensor for each problem.
        row_mass: ``(*batch, n)``, non-negative; None is ``1 / n`` each.
        column_mass: ``(*batch, k)``, non-negative, in sum what the rows have; None is ``1 / k``
            each: clusters of one size, which is an assumption about the rows.
        row_penalty: what it costs to miss the masses of the rows, per unit of relative entropy;
            None holds them.
        column_penalty: the same for the columns.
        max_iter: updates at most.
        tol: ``residual`` to end at. At 0 exactly ``max_iter`` updates are made and nothing is read
            back.

    Returns:
        ``Plan``.

    Raises:
        TypeError: no float tensors.
        ValueError: shapes that do not fit, or numbers out of range.

    Cost:
        ``4 n k`` exponentials an update; with gradients all of them are kept.

    Example:
        >>> import torch
        >>> cost = torch.tensor([[0.0, 9.0], [0.0, 9.0], [1.0, 4.0], [9.0, 0.0]])
        >>> (4 * sinkhorn(cost, 1.0).plan).round(decimals=1)
        tensor([[1.0000, 0.0000],
                [1.0000, 0.0000],
                [0.1000, 0.9000],
                [0.0000, 1.0000]])
    """
    cost, scale, logs = _checked(cost, temperature, row_mass, column_mass)
    max_iter, tol = check_integer("max_iter", max_iter, 1), check_number("tol", tol, 0)
    by_row = _damping("row_penalty", row_penalty, scale)
    by_column = _damping("column_penalty", column_penalty, scale)
    with in_own_precision(cost):
        scaled, damping = cost / scale, (by_row, by_column)
        f, g, n_iter, residual = _iterate(scaled, logs, damping, max_iter, tol)
        plan = (f + g - scaled + logs[0] + logs[1]).exp()
        free = plan * (f + g) - plan + (logs[0] + logs[1]).exp()
        value = scale.squeeze(-1).squeeze(-1) * free.sum((-2, -1))
        if row_penalty is not None:
            value = value + row_penalty * _divergence(plan.sum(-1, keepdim=True), logs[0])
        if column_penalty is not None:
            value = value + column_penalty * _divergence(plan.sum(-2, keepdim=True), logs[1])
    potentials = (scale * f).squeeze(-1), (scale * g).squeeze(-2)
    return Plan(plan, *potentials, value, n_iter, residual)


def transport_cost(
    cost: Tensor,
    temperature: Any,
    row_mass: Tensor | None = None,
    column_mass: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Return what transport costs ``(*batch,)``, with the envelope's gradient: the plan itself.

    As the plan minimises it, no gradient needs to flow through the updates.

    Args:
        cost: as ``sinkhorn``.
        temperature: as ``sinkhorn``; a number, held constant.
        row_mass: as ``sinkhorn``; held constant.
        column_mass: as ``sinkhorn``; held constant.
        **options: of ``sinkhorn``.

    Raises:
        TypeError: as ``sinkhorn``.
        ValueError: as ``sinkhorn``.

    Example:
        >>> import torch
        >>> cost = torch.tensor([[0.0, 9.0], [9.0, 0.0]], requires_grad=True)
        >>> transport_cost(cost, 0.1).backward()
        >>> cost.grad.round(decimals=4)
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    cost = as_floats(cost, "cost", "(*batch, n, k)", 2)
    with torch.no_grad():
        found = sinkhorn(cost.detach(), temperature, row_mass, column_mass, **options)
    # Its value is that of the plan with entropy, and its gradient the plan.
    linear = (found.plan * (cost - cost.detach())).sum((-2, -1))
    return found.cost + linear


def _iterate(
    scaled: Tensor,
    logs: tuple[Tensor, Tensor],
    damping: tuple[Any, Any],
    max_iter: int,
    tol: float,
) -> tuple[Tensor, Tensor, int, Tensor]:
    """Update potentials, in units of the temperature, until those of the rows rest.

    Returns them, ``(*batch, n, 1)`` and ``(*batch, 1, k)``, with the updates and what was missed.
    """
    by_row, by_column = logs  # (*batch, n, 1), (*batch, 1, k)
    share = (by_row - by_row.logsumexp(-2, keepdim=True)).exp()

    def columns(f: Tensor) -> Tensor:
        return -damping[1] * (f - scaled + by_row).logsumexp(-2, keepdim=True)

    f, n_iter, residual = torch.zeros_like(by_row), 0, scaled.new_zeros(())
    for _ in range(max_iter):
        moved = -damping[0] * (columns(f) - scaled + by_column).logsumexp(-1, keepdim=True)
        # A row has exp(f - moved) times its mass, where that is held.
        residual = (share * ((f - moved).exp() - 1).abs()).sum((-2, -1))
        n_iter += 1
        if tol and bool((residual <= tol).all()):
            break
        f = moved
    return f, columns(f), n_iter, residual


def _checked(
    cost: Any, temperature: Any, row_mass: Any, column_mass: Any
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return cost and temperature in one dtype, and logarithms of the masses."""
    cost = as_floats(cost, "cost", "(*batch, n, k)", 2)
    cost = cost.to(compute_dtype(cost.dtype))
    *_, n, k = cost.shape
    by_row = _log_mass(row_mass, "row_mass", cost, n).unsqueeze(-1)
    by_column = _log_mass(column_mass, "column_mass", cost, k).unsqueeze(-2)
    return cost, as_temperature(temperature, cost), (by_row, by_column)


def _log_mass(mass: Any, name: str, cost: Tensor, size: int) -> Tensor:
    if mass is None:
        return cost.new_full((*cost.shape[:-2], size), -math.log(size))
    mass = as_floats(mass, name, f"(*batch, {size})", 1).to(cost)
    if mass.shape[-1] != size:
        raise ValueError(f"{name} must have shape (*batch, {size}), got {tuple(mass.shape)}")
    return mass.expand(*cost.shape[:-2], size).clamp_min(_NO_MASS).log()


def _damping(name: str, penalty: Any, scale: Tensor) -> Any:
    """Return by how much an update is held back where masses may be missed."""
    if penalty is None:
        return 1.0
    penalty = check_number(name, penalty, 0, above=True)
    return penalty / (penalty + scale)


def _divergence(mass: Tensor, logs: Tensor) -> Tensor:
    """Return the relative entropy of masses to those that were given, ``(*batch,)``."""
    given = logs.exp()
    return (torch.xlogy(mass, mass) - mass * logs - mass + given).sum((-2, -1))
