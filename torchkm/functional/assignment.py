"""The first step: which centroid is nearest to each row, and how far it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from torchkm import kernels
from torchkm.functional.checks import (
    as_centroids,
    as_matrix,
    check_finite,
)
from torchkm.functional.geometry import check_directions, unit, uses_unit_rows

# Below this share of a row's norm, a distance taken as a difference of large numbers has lost
# digits: it is taken again as a sum of squared differences.
_CANCELLED = 2.0**-8


class Assignment(NamedTuple):
    """The nearest centroid of each row.

    Attributes:
        labels: index of it, ``(n,)`` int64; the lowest index among equals.
        sq_distances: squared distance to it, ``(n,)``, never negative.
    """

    labels: Tensor
    sq_distances: Tensor


# Without a registered name, torch.export.save refuses programs that return one. There is no
# public call for named tuples yet.
_register_namedtuple(Assignment, serialized_type_name="torchkm.functional.Assignment")


def assign(x: Any, centroids: Any, *, metric: str = "euclidean") -> Assignment:
    """Assign each row to its nearest centroid.

    No gradient is recorded.

    Args:
        x: rows ``(n, d)``: float32, float64, bfloat16, float16 or uint8.
        centroids: ``(k, d)``; scores are computed in float32, or float64 where either is.
        metric: ``"euclidean"``, or ``"cosine"``, where both are scaled to unit length and the
            squared distance is ``2 - 2 cos``.

    Returns:
        ``Assignment(labels (n,), sq_distances (n,))``. A row equal to its centroid is at
        distance 0 exactly.

    Raises:
        TypeError: rows or centroids of a dtype that is not listed.
        ValueError: wrong rank or width, empty, not finite, on different devices, an unknown
            metric, or a row without direction under ``"cosine"``.

    Cost:
        ``2 n k d`` operations and one read of ``x``; one block of scores in memory.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0]])
        >>> assign(x, torch.tensor([[0.0], [8.0]]))
        Assignment(labels=tensor([0, 0, 1]), sq_distances=tensor([0., 1., 1.]))
    """
    x, centroids = operands(x, centroids, metric)
    found = nearest(x, centroids, metric)
    check_measured(x, found)
    return exactly(x, centroids, found, metric)


def distances(x: Any, centroids: Any, *, metric: str = "euclidean") -> Tensor:
    """Return the distance of every row to every centroid, ``(n, k)`` (not squared).

    Args:
        x: rows ``(n, d)``.
        centroids: ``(k, d)``.
        metric: ``"euclidean"`` or ``"cosine"``.

    Raises:
        TypeError: as ``assign``.
        ValueError: as ``assign``.

    Cost:
        ``2 n k d`` operations in float64; the ``(n, k)`` result is what it holds.

    Example:
        >>> import torch
        >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[5., 0.]])
    """
    x, centroids = operands(x, centroids, metric)
    check_finite(x)
    return kernels.distances(x, centroids, uses_unit_rows(metric)).sqrt_()


def nearest(x: Tensor, centroids: Tensor, metric: str) -> Assignment:
    """Assign checked rows, distances as the expanded form gives them."""
    return Assignment(*kernels.nearest(x, centroids, uses_unit_rows(metric)))


def as_measurable(x: Any, metric: str) -> Tensor:
    """Return ``x`` as ``(n, d)``, checked for all that ``check_measured`` will not find.

    Raises:
        TypeError: as ``as_matrix``.
        ValueError: as ``as_matrix``; under ``"cosine"``, whose unit rows no longer tell, also
            rows that are not finite or have no direction.
    """
    rows = as_matrix(x)
    if uses_unit_rows(metric):
        check_finite(rows)
        check_directions(rows, metric)
    return rows


def check_measured(x: Tensor, assignment: Assignment) -> None:
    """Raise where ``x (n, d)`` was not finite, as its distances tell without a second read of it.

    NaN and infinity in a row, and a square that overflows, all come out in its norm.

    Raises:
        ValueError: as ``check_finite``.
    """
    if not bool(torch.isfinite(assignment.sq_distances).all()):
        check_finite(x)


def exactly(x: Tensor, centroids: Tensor, assignment: Assignment, metric: str) -> Assignment:
    """Take again the distances that cancellation has spoilt, as sums of squared differences."""
    labels, sq_distances = assignment
    scale = torch.ones_like(sq_distances) if uses_unit_rows(metric) else _spread(centroids, labels)
    spoilt = torch.nonzero(sq_distances < _CANCELLED * scale).squeeze(1)  # (m,)
    if len(spoilt):
        rows = x[spoilt].to(centroids.dtype)  # (m, d)
        rows = unit(rows) if uses_unit_rows(metric) else rows
        apart = rows - centroids[labels[spoilt]]
        sq_distances = sq_distances.index_copy(
            0, spoilt, apart.square().sum(1).to(sq_distances.dtype)
        )
    return Assignment(labels, sq_distances)


def _spread(centroids: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of each row's centroid from the mean of all, ``(n,)``.

    Near its centroid, where it matters, that is the size of what was subtracted.
    """
    centred = centroids - centroids.mean(0)
    return centred.square().sum(1)[labels]


def operands(x: Any, centroids: Any, metric: str) -> tuple[Tensor, Tensor]:
    """Return ``x (n, d)`` and ``centroids (k, d)``, checked and ready to be measured.

    Raises:
        TypeError: as ``assign``.
        ValueError: as ``assign``, but for rows that ``check_measured`` will find.
    """
    rows = as_measurable(x, metric)
    centroids = as_centroids(centroids, rows)
    check_directions(centroids, metric, "centroids")
    return rows, unit(centroids) if uses_unit_rows(metric) else centroids
