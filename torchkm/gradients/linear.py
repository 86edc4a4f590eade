"""Linear systems that are known by their products: one for each problem of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# A direction along which a matrix bends by less than this share of its diagonal bends nowhere.
_FLAT = 1e-12


class Solved(NamedTuple):
    """A solution.

    Attributes:
        solution: ``(*batch, k, d)``.
        n_iter: products made.
        residual: what is left, in shares of the right-hand side ``(*batch,)``.
        definite: whether no direction was found along which the matrix bends down ``(*batch,)``.
    """

    solution: Tensor
    n_iter: int
    residual: Tensor
    definite: Tensor


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    tol: float,
    max_iter: int,
) -> Solved:
    """Solve ``A w = right`` for symmetric positive definite ``A``, preconditioned by a diagonal.

    Args:
        product: ``w (*batch, k, d)`` to ``A w``.
        right: ``(*batch, k, d)``.
        diagonal: positive, broadcasts to ``right``.
        tol: residual to end at, in shares of the right-hand side; at 0 ``max_iter`` steps are made
            and nothing is read back.
        max_iter: steps at most.

    Source:
        Hestenes and Stiefel 1952, doi:10.6028/jres.049.044.
    """
    size = _dot(right, right / diagonal)  # (*batch, 1, 1)
    solution, residual = torch.zeros_like(right), right
    direction = steepest = residual / diagonal
    now, n_iter = size, 0
    definite = torch.ones_like(size, dtype=torch.bool)
    for _ in range(max_iter):
        along = product(direction)
        bend = _dot(direction, along)
        upward = bend > _FLAT * _dot(direction, diagonal * direction)
        going = upward & (now > 0)
        definite = definite & (upward | (now <= 0))
        length = torch.where(going, now / torch.where(going, bend, 1), 0)
        solution = solution + length * direction
        residual = residual - length * along
        steepest = residual / diagonal
        last, now = now, _dot(residual, steepest)
        turn = torch.where(going, now / torch.where(last > 0, last, 1), 0)
        direction = steepest + turn * direction
        n_iter += 1
        if tol and not bool((going & (now > tol * tol * size)).any()):
            break
    left = (now / torch.where(size > 0, size, 1)).sqrt().squeeze(-1).squeeze(-1)
    return Solved(solution, n_iter, left, definite.squeeze(-1).squeeze(-1))


def gmres(product: Callable[[Tensor], Tensor], right: Tensor, tol: float, max_iter: int) -> Solved:
    """Solve ``A w = right`` for any ``A``: the problems of a batch as one.

    Source:
        Saad and Schultz 1986, doi:10.1137/0907058.
    """
    size = torch.linalg.vector_norm(right)
    basis = [right / torch.where(size > 0, size, 1)]
    columns: list[Tensor] = []
    weights, residual = right.new_zeros(0), size
    for _ in range(max_iter):
        new = product(basis[-1])
        stacked = torch.stack(basis).flatten(1)  # (m, numbers)
        flat = new.flatten()
        along = stacked @ flat
        flat = flat - along @ stacked
        again = stacked @ flat  # once more, as rounding leaves something of it
        flat, along = flat - again @ stacked, along + again
        length = torch.linalg.vector_norm(flat)
        columns.append(torch.cat([along, length.unsqueeze(0)]))
        m = len(columns)
        hessenberg = right.new_zeros(m + 1, m)
        for column, numbers in enumerate(columns):
            hessenberg[: len(numbers), column] = numbers
        wanted = right.new_zeros(m + 1)
        wanted[0] = size
        weights = torch.linalg.lstsq(hessenberg, wanted.unsqueeze(1)).solution.squeeze(1)
        residual = torch.linalg.vector_norm(hessenberg @ weights - wanted)
        if bool(residual <= tol * size) or bool(length <= _FLAT * torch.linalg.vector_norm(along)):
            break
        basis.append((flat / length).view_as(right))
    solution = sum((w * v for w, v in zip(weights, basis, strict=False)), torch.zeros_like(right))
    batch = right.shape[:-2]
    left = (residual / torch.where(size > 0, size, 1)).expand(batch)
    definite = torch.ones(batch, dtype=torch.bool, device=right.device)  # it is not asked
    return Solved(solution, len(columns), left, definite)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1), keepdim=True)
