"""The rows of a k-means problem and how they are measured, as every step is given them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import as_matrix, as_sample_weight, check_finite
from torchkm.functional.csr import as_csr, is_sparse
from torchkm.functional.geometry import check_directions, uses_unit_rows


@dataclass(frozen=True)
class Problem:
    """Rows, checked, and how they are measured.

    Attributes:
        x: ``(n, d)``, dense or sparse.
        sample_weight: ``(n,)`` or None.
        metric: name of the geometry.
        given_origin: the ``origin``, where one is known.
    """

    x: kernels.Rows
    sample_weight: Tensor | None
    metric: str
    given_origin: Tensor | None = None

    @cached_property
    def origin(self) -> Tensor:
        """A point amid the rows, ``(d,)``; zero for sparse rows, which it would make dense.

        Rows and centroids are shifted by it before they are multiplied, which is where a common
        offset would cost digits.
        """
        if self.given_origin is not None:
            return self.given_origin
        return kernels.origin_of(self.x, self.unit_rows)

    @property
    def unit_rows(self) -> bool:
        """Whether rows are scaled to unit length before they are measured."""
        return uses_unit_rows(self.metric)

    @property
    def measured(self) -> kernels.Rows:
        """The rows as they are measured, in the dtype to compute in: under cosine unit rows."""
        if isinstance(self.x, kernels.CsrRows):
            return self.x.unit if self.unit_rows else self.x
        return rows_as_centroids(self)

    def take(self, index: Tensor | None) -> Problem:
        """Return the rows of ``index (b,)``, or all of them."""
        if index is None:
            return self
        index = index.to(self.x.device)
        weight = None if self.sample_weight is None else self.sample_weight.index_select(0, index)
        rows = kernels.take_rows(self.x, index)
        return replace(self, x=rows, sample_weight=weight, given_origin=self.origin)

    def batch(self, index: Tensor) -> Problem:
        """Return the rows of ``index (b,)``, all alike, until the next batch is asked for."""
        rows = kernels.take_batch(self.x, index.to(self.x.device))
        return replace(self, x=rows, sample_weight=None, given_origin=self.origin)

    def from_origin(self, origin: Tensor) -> Problem:
        """Return the same rows, measured from ``origin (d,)`` unless they are sparse."""
        return self if isinstance(self.x, kernels.CsrRows) else replace(self, given_origin=origin)


def rows_as_centroids(problem: Problem, index: Tensor | None = None) -> Tensor:
    """Return all rows, or those of ``index (m,)``, as centroids ``(m, d)`` to start from."""
    rows = kernels.dense_rows(problem.x, index)
    rows = rows.to(kernels.compute_dtype(rows.dtype))
    return kernels.unit(rows) if problem.unit_rows else rows


def as_rows_under(x: Any, metric: str) -> kernels.Rows:
    """Return rows ``x (n, d)`` checked for all that distances under ``metric`` will not tell.

    Raises:
        TypeError: as ``as_problem``.
        ValueError: as ``as_problem``.
    """
    rows = as_csr(x) if is_sparse(x) else as_matrix(x)
    if uses_unit_rows(metric):
        check_finite(rows)
        check_directions(rows, metric)
    return rows


def as_problem(x: Any, sample_weight: Any, metric: str) -> Problem:
    """Return the problem of rows ``x (n, d)``, checked for all that distances will not tell.

    That a row is NaN or infinite shows in its distance, and ``check_measured`` finds it there
    without a second read of the rows. Scaled to unit length it no longer does.

    Raises:
        TypeError: rows or weights of a wrong dtype.
        ValueError: wrong shapes, empty, bad weights, an unknown metric; under ``"cosine"`` also
            rows that are not finite or have no direction.
    """
    rows = as_rows_under(x, metric)
    weight = as_sample_weight(sample_weight, rows)
    return Problem(rows, weight, metric)
