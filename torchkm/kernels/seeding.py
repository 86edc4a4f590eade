"""Greedy k-means++ on a CPU.

Each choice waits for the one before, and none takes long, so that calls count: these are NumPy's,
which take half the time of torch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.products import multiply


def one_by_one(rows: Tensor, weight: Tensor, first: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Choose rows beside the ``first (1,)``, each the best of some candidates.

    Args:
        rows: centred, ``(m, d)``.
        weight: ``(m,)``.
        first: the first of them.
        draws: uniform, ``(k - 1, t)`` float64, for the candidates of each further one.

    Returns:
        The rows chosen ``(k,)``, and the potential ``(m,)`` that they leave.
    """
    weighs = weight.to(rows.dtype).numpy()
    left, right = _operands(rows.numpy())
    lowered = np.empty((draws.shape[1], len(rows)), weighs.dtype)  # (t, m)
    chosen = [int(first)]
    potential = np.maximum(left[chosen[0]] @ right, 0)  # (m,)
    potential[chosen[0]] = 0
    for some in draws.numpy():
        drawn = _drawn(potential * weighs, some, weighs)  # (t,)
        multiply(left[drawn], right, out=lowered)
        np.minimum(lowered, potential, out=lowered)
        best = int(np.einsum("tm,m->t", lowered, weighs).argmin())
        np.maximum(lowered[best], 0, out=potential)
        chosen.append(int(drawn[best]))
        potential[chosen[-1]] = 0
    return torch.tensor(chosen, device="cpu"), torch.from_numpy(potential)


def _operands(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two matrices, ``(m, d + 2)`` and ``(d + 2, m)``, whose product is squared distances.

    But for rounding, which can leave them below zero.
    """
    (m, d), norms = rows.shape, np.einsum("ij,ij->i", rows, rows)
    left, right = np.ones((m, d + 2), rows.dtype), np.ones((d + 2, m), rows.dtype)
    np.multiply(rows, -2, out=left[:, :d])
    left[:, d + 1] = norms
    right[:d], right[d] = rows.T, norms
    return left, right


def _drawn(mass: NDArray[Any], draws: NDArray[Any], fallback: NDArray[Any]) -> NDArray[Any]:
    """Return ``(t,)`` rows, with chances as ``mass (m,)`` is large, or ``fallback`` if it is 0."""
    upto = np.cumsum(mass, dtype=np.float64)
    if upto[-1] == 0:
        upto = np.cumsum(fallback, dtype=np.float64)
    return upto.searchsorted(draws * upto[-1])
