"""Labels of narrow rows that are seen once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.compiled import narrow, pays_for
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.layout import sq_norms_of_centroids
from torchkm.kernels.rows import parts
from torchkm.kernels.scratch import room_for

# Numbers multiplied in a loop that are worth more than one thread.
_MANY = 2**19

# Rows whose scores are one product: those stay in cache until the best are found.
_ROWS = 2**12


def labels(x: Tensor, centroids: Tensor, origin: Tensor) -> Tensor | None:
    """Return ``labels (n,)`` of the nearest centroids, or None where rows are not finite.

    Or so large that their squares might not be.
    """
    shift = origin.to(centroids.dtype)
    centred = centroids - shift
    bias = sq_norms_of_centroids(centred).div_(-2)
    found = np.empty(len(x), np.int64)
    label = _in_a_loop if pays_for(*centroids.shape) else _by_products
    squares = label(x, shift, centred, bias.numpy(), found)
    most = torch.finfo(centroids.dtype).max / (32 * x.shape[1])
    return torch.from_numpy(found) if squares < most else None


def _in_a_loop(
    x: Tensor, shift: Tensor, centred: Tensor, bias: NDArray[Any], found: NDArray[Any]
) -> float:
    aims = np.column_stack([centred.numpy(), bias])  # (k, d + 1)
    args = x.numpy(), shift.numpy(), aims, found
    if x.numel() * len(centred) <= _MANY:
        return float(narrow.label(*args))
    return float(run(narrow.label, narrow.label_on_threads, *args))


def _by_products(
    x: Tensor, shift: Tensor, centred: Tensor, bias: NDArray[Any], found: NDArray[Any]
) -> float:
    (k, d), size = centred.shape, min(len(x), _ROWS)
    buffer = room_for("rows of a block", size, d, centred)
    scores = room_for("scores", k, size, centred).view(-1)
    best, whose = np.empty(size, bias.dtype), np.empty(size, np.int32)
    squares = 0.0
    for at in parts(slice(0, len(x)), size):
        b = at.stop - at.start
        rows = torch.sub(x[at], shift, out=buffer[:b])
        squares += torch.linalg.vector_norm(rows).item() ** 2
        product = torch.mm(centred, rows.T, out=scores[: k * b].view(k, b))
        narrow.take_best(product.numpy(), bias, best[:b], whose[:b], found[at])
    return squares
