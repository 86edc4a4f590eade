"""Narrow rows that are seen once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.compiled import narrow
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.layout import most_square, sq_norms_of

# Numbers multiplied in a loop that are worth more than one thread; and as how many it counts to
# bring one of a row to its column.
_MANY, _PER_NUMBER = 2**19, 16


class _Aims(NamedTuple):
    """What rows are scored by.

    Attributes:
        origin: a point amid them ``(d,)``.
        numbers: centroids less that, and what makes a score of a product, ``(k, d + 1)``.
    """

    origin: Tensor
    numbers: NDArray[Any]

    @classmethod
    def at(cls, centroids: Tensor, origin: Tensor) -> _Aims:
        k, d = centroids.shape
        origin, given = origin.to(centroids.dtype), centroids.detach().numpy()
        numbers = np.empty((k, d + 1), given.dtype)
        np.subtract(given, origin.numpy(), out=numbers[:, :d])
        numbers[:, d] = sq_norms_of(numbers[:, :d]) / -2
        return cls(origin, numbers)


def labels(x: Tensor, centroids: Tensor, origin: Tensor) -> Tensor | None:
    """Return ``labels (n,)`` of the nearest centroids, or None where rows are not finite.

    Or so large that their squares might not be.
    """
    aims, found = _Aims.at(centroids, origin), np.empty(len(x), np.int64)
    args = x.numpy(), aims.origin.numpy(), aims.numbers, found
    squares = _run(narrow.label, narrow.label_on_threads, *args)
    finite = squares < most_square(centroids.dtype, x.shape[1])
    return torch.from_numpy(found) if finite else None


def nearest(x: Tensor, centroids: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids."""
    return _read(x, centroids, None, origin, (np.empty(0), np.empty((0, 0))))


def nearest_and_sums(
    x: Tensor, centroids: Tensor, sample_weight: Tensor | None, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return these, and ``counts (k,)`` and ``sums (k, d)``."""
    counts, sums = np.zeros(len(centroids)), np.zeros(centroids.shape)
    found = _read(x, centroids, sample_weight, origin, (counts, sums))
    return *found, torch.from_numpy(counts), torch.from_numpy(sums)


def sq_differences(x: Tensor, centroids: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
    """Return squared distances ``(m,)`` of rows ``index`` to the centroids of ``labels (n,)``."""
    places = np.arange(len(x)) if index is None else index.numpy()
    out = x.new_empty(len(places))
    args = x.numpy(), centroids.detach().numpy(), labels.numpy(), places, out.numpy()
    if len(places) * x.shape[1] <= _MANY:
        narrow.measure_from(*args)
    else:
        run(narrow.measure_from, narrow.measure_from_on_threads, *args)
    return out


def _read(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None,
    origin: Tensor,
    totals: tuple[NDArray[Any], NDArray[Any]],
) -> tuple[Tensor, Tensor]:
    """Return labels and squared distances; add up what counts and sums there are."""
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    sq_distances = x.new_empty(len(x))
    weights = np.empty(0) if sample_weight is None else sample_weight.double().numpy()
    aims, into = _Aims.at(centroids, origin), (found.numpy(), sq_distances.numpy())
    args = x.numpy(), aims.origin.numpy(), aims.numbers, weights, *into, *totals
    _run(narrow.read, partial(narrow.read_on_threads, torch.get_num_threads()), *args)
    return found, sq_distances


def _run(loop: Callable[..., Any], on_threads: Callable[..., Any], *args: Any) -> Any:
    """Run a loop over rows, centroids and others, on threads where that pays."""
    rows, _, aims, *_ = args
    few = rows.size * (len(aims) + _PER_NUMBER) <= _MANY
    return loop(*args) if few else run(loop, on_threads, *args)
