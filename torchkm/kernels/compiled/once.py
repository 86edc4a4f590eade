"""Narrow rows that are seen once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.kernels.compiled import narrow, pays_for
from torchkm.kernels.compiled.columns import take_best
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.layout import most_square, sq_norms_of
from torchkm.kernels.rows import parts
from torchkm.kernels.scratch import room_for

# Numbers multiplied in a loop that are worth more than one thread.
_MANY = 2**19

# Rows whose scores are one product, at most: those stay in cache until the best are found.
_ROWS = 2**13


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
    if pays_for(*centroids.shape):
        args = x.numpy(), aims.origin.numpy(), aims.numbers, found
        squares = _run(narrow.label, narrow.label_on_threads, *args)
    else:
        squares = sum(
            torch.linalg.vector_norm(rows).item() ** 2
            for _, rows, _ in _label_by_products(x, aims, found)
        )
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
    found, sq_distances = torch.empty(len(x), dtype=torch.int64), x.new_empty(len(x))
    weights = np.empty(0) if sample_weight is None else sample_weight.double().numpy()
    aims, into = _Aims.at(centroids, origin), (found.numpy(), sq_distances.numpy())
    if pays_for(*centroids.shape):
        args = x.numpy(), aims.origin.numpy(), aims.numbers, weights, *into, *totals
        _run(narrow.read, narrow.read_on_threads, *args)
        return found, sq_distances
    for at, rows, best in _label_by_products(x, aims, into[0]):
        narrow.measure(rows.numpy(), best, into[1][at])
        if len(totals[0]):
            narrow.add(x[at].numpy(), weights[at], into[0][at], *totals)
    return found, sq_distances


def _run(loop: Callable[..., Any], on_threads: Callable[..., Any], *args: Any) -> Any:
    """Run a loop over rows, centroids and others, on threads where that pays."""
    rows, _, aims, *_ = args
    few = rows.size * len(aims) <= _MANY
    return loop(*args) if few else run(loop, on_threads, *args)


def _label_by_products(
    x: Tensor, aims: _Aims, found: NDArray[Any]
) -> Iterator[tuple[slice, Tensor, NDArray[Any]]]:
    """Write labels; yield which rows have theirs, these from the origin, and their best scores."""
    (k, d), n_parts = (len(aims.numbers), x.shape[1]), math.ceil(len(x) / _ROWS)
    size = math.ceil(len(x) / n_parts)
    centred = torch.from_numpy(aims.numbers[:, :d])
    bias = np.ascontiguousarray(aims.numbers[:, d])
    buffer = room_for("rows of a block", size, d, centred)
    scores = room_for("scores", k, size, centred).view(-1)
    best, whose = np.empty(size, bias.dtype), np.empty(size, np.int32)
    for at in parts(slice(0, len(x)), size):
        b = at.stop - at.start
        rows = torch.sub(x[at], aims.origin, out=buffer[:b])
        product = torch.mm(centred, rows.T, out=scores[: k * b].view(k, b))
        take_best(product.numpy(), bias, best[:b], whose[:b], found[at])
        yield at, rows, best[:b]
