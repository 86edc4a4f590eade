"""Ways to pass a gradient through a choice that has none: from a code to the row it stands for.

Each returns the codes, number for number, with a gradient by the rows. Codes are constants.
"""

from __future__ import annotations

import torch
from torch import Tensor


def straight_through(rows: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes (n, d)`` with the gradient copied to ``rows (n, d)``, as if they were these.

    Bengio, Leonard and Courville 2013, arXiv:1308.3432.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0]], requires_grad=True)
        >>> straight_through(rows, torch.tensor([[0.0, 2.0]])).sum().backward()
        >>> rows.grad
        tensor([[1., 1.]])
    """
    return codes.detach() + (rows - rows.detach())


def rotated(rows: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes (n, d)`` as ``rows (n, d)`` turned and scaled by what is held constant.

    The gradient keeps its angle to the row that it had to the code, and its length grows as the
    row does (Fifty et al. 2024, arXiv:2410.06424). A row or a code of no length has no angle: there
    the gradient is copied.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0]], requires_grad=True)
        >>> codes = rotated(rows, torch.tensor([[0.0, 2.0]]))
        >>> codes[0, 1].backward()  # along the code, so along the row
        >>> rows.grad.round(decimals=4)
        tensor([[2., 0.]])
    """
    still, codes = rows.detach(), codes.detach()
    sizes = [torch.linalg.vector_norm(t, dim=-1, keepdim=True) for t in (still, codes)]  # (n, 1)
    least = torch.finfo(rows.dtype).tiny
    turns = (sizes[0] > least) & (sizes[1] > least)
    row_size, code_size = (torch.where(turns, size, 1) for size in sizes)
    row, code = still / row_size, codes / code_size
    between = torch.nn.functional.normalize(row + code, dim=-1)
    along, across = (rows * row).sum(-1, keepdim=True), (rows * between).sum(-1, keepdim=True)
    turned = (rows - 2 * across * between + 2 * along * code) * (code_size / row_size)
    passed = torch.where(turns, turned, rows)
    return codes + (passed - passed.detach())


PASSINGS = {"rotation": rotated, "straight_through": straight_through}
