"""The first step: which centroid is nearest to each row, and how far it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from torchkm import kernels
from torchkm.functional.arrays import as_centroids, check_finite
from torchkm.functional.geometry import check_directions, unit, uses_unit_rows
from torchkm.functional.problem import Problem, as_problem, as_rows_under

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


@torch.no_grad()
def assign(x: Any, centroids: Any, *, metric: str = "euclidean") -> Assignment:
    """Assign each row to its nearest centroid.

    No gradient is recorded.

    Args:
        x: rows ``(n, d)``: float32, float64, bfloat16, float16 or uint8; dense or CSR.
        centroids: ``(k, d)``; scores are computed in float32, or float64 where either is.
        metric: ``"euclidean"``, or ``"cosine"``, where both are scaled to unit length and the
            squared distance is ``2 - 2 cos``.

    Returns:
        ``Assignment(labels (n,), sq_distances (n,))``. A row equal to the centroid of
        its label is at distance 0 exactly.

    Raises:
        TypeError: rows or centroids of a dtype that is not listed, or sparse but not CSR.
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
    problem = as_problem(x, None, metric)
    centroids = as_centroids_for(problem.x, centroids, metric)
    found = nearest(problem, centroids)
    check_measured(problem, found)
    return exactly(problem, centroids, found)


@torch.no_grad()
def distances(x: Any, centroids: Any, *, metric: str = "euclidean") -> Tensor:
    """Return the distance of every row to every centroid, ``(n, k)`` (not squared).

    Args:
        x: rows ``(n, d)``, dense or CSR.
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
    problem = as_problem(x, None, metric)
    check_finite(problem.x)
    centroids = as_centroids_for(problem.x, centroids, metric)
    return kernels.distances(problem.x, centroids, problem.unit_rows).sqrt_()


def nearest(problem: Problem, centroids: Tensor) -> Assignment:
    """Assign the rows of a problem, with distances as the expanded form gives them."""
    return Assignment(*kernels.nearest(problem.x, centroids, problem.unit_rows, problem.origin))


@torch.no_grad()
def labels_of(x: Any, centroids: Any, metric: str) -> Tensor:
    """Return the labels ``(n,)`` that ``assign`` gives rows ``x``, without distances.

    Of rows whose label a product proves nothing else is computed.

    Raises:
        TypeError: as ``assign``.
        ValueError: as ``assign``.
    """
    rows = as_rows_under(x, metric)
    centroids = as_centroids_for(rows, centroids, metric)
    labels, measured = kernels.labels(rows, centroids, uses_unit_rows(metric))
    if measured is not None:
        check_norms(rows, measured)
    return labels


def as_centroids_for(x: kernels.Rows, centroids: Any, metric: str) -> Tensor:
    """Return ``centroids (k, d)`` checked against the rows ``x`` they are to serve.

    Raises:
        TypeError: as ``as_centroids``.
        ValueError: as ``as_centroids``; under ``"cosine"`` also one without a direction.
    """
    centroids = as_centroids(centroids, x)
    check_directions(centroids, metric, "centroids")
    return unit(centroids) if uses_unit_rows(metric) else centroids


def check_measured(problem: Problem, assignment: Assignment) -> None:
    """Raise where a row was not finite, as its distance tells without a second read of it.

    NaN and infinity in a row, and a square that overflows, all come out in its norm.

    Raises:
        ValueError: as ``check_finite``, or distances too large for their dtype.
    """
    check_norms(problem.x, assignment.sq_distances)


def check_norms(x: kernels.Rows, found: Tensor) -> None:
    """Raise where what was ``found (m,)`` of rows ``x``, norms or squares of them, is not finite.

    Raises:
        ValueError: as ``check_measured``.
    """
    if found.max().item() < kernels.most_square(found.dtype, x.shape[1]):
        return
    check_finite(x)
    if bool(torch.isfinite(found).all()):
        return
    raise ValueError(
        "x must be near enough to the centroids to square the distance in "
        f"{str(found.dtype).removeprefix('torch.')}"
    )


def check_largest(x: kernels.Rows, norm: float, dtype: torch.dtype) -> None:
    """Raise where the largest ``norm`` of rows ``x``, or a bound of it, is not finite in ``dtype``.

    Raises:
        ValueError: as ``check_measured``.
    """
    if not norm * norm < kernels.most_square(dtype, x.shape[1]):
        check_norms(x, torch.tensor(norm, dtype=dtype, device="cpu").square())


def exactly(problem: Problem, centroids: Tensor, assignment: Assignment) -> Assignment:
    """Take again the distances that cancellation has spoilt, as sums of squared differences."""
    labels, sq_distances = assignment
    limits = _CANCELLED * _subtracted(problem, centroids)  # (k,)
    if not sq_distances.min().item() < limits.max().item():  # without a look at each row's own
        return assignment
    spoilt = sq_distances < limits[labels]
    index = torch.nonzero(spoilt).squeeze(1)  # (m,)
    if len(index):
        again = kernels.sq_differences(problem.x, centroids, labels, index, problem.unit_rows)
        sq_distances = sq_distances.index_copy(0, index, again.to(sq_distances.dtype))
    return Assignment(labels, sq_distances)


def sq_distances_to(problem: Problem, centroids: Tensor, labels: Tensor) -> Tensor:
    """Return the squared distances ``(n,)`` of rows to the centroids of their ``labels (n,)``."""
    return kernels.sq_differences(problem.x, centroids, labels, None, problem.unit_rows)


def _subtracted(problem: Problem, centroids: Tensor) -> Tensor:
    """Return the size ``(k,)`` of what the expanded form subtracts for a row near its centroid."""
    if problem.unit_rows:
        return torch.ones_like(centroids[:, 0])
    return (centroids - problem.origin.to(centroids.dtype)).square().sum(1)
