"""The second step: what a block of rows says about the centroids, as numbers that add."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import as_labels, check_finite
from torchkm.functional.assignment import (
    Assignment,
    as_centroids_for,
    check_measured,
    exactly,
    nearest,
)
from torchkm.functional.checks import check_k
from torchkm.functional.problem import Problem, as_problem, rows_as_centroids

# Numbers that NumPy is given to find the mean of, with room for as many.
_FEW = 2**23


@dataclass(frozen=True)
class ClusterStats:
    """What an update needs to know of the rows; blocks, batches and ranks merge with ``+``.

    Attributes:
        counts: summed weight of each cluster, ``(k,)`` float64 (exact past 2^24 rows).
        sums: weighted sum of its rows, ``(k, d)`` float64.
        inertia: weighted sum of squared distances, ``()`` float64.

    On a device without float64 all three are float32.

    Example:
        >>> import torch
        >>> one = ClusterStats(torch.ones(2), torch.ones(2, 3), torch.tensor(0.5))
        >>> (one + one).inertia
        tensor(1.)
    """

    counts: Tensor
    sums: Tensor
    inertia: Tensor

    def __add__(self, other: ClusterStats) -> ClusterStats:
        """Return the stats of both sets of rows together.

        Raises:
            ValueError: stats of other clusters.
        """
        if self.sums.shape != other.sums.shape:
            raise ValueError(
                f"stats of clusters {tuple(self.sums.shape)} cannot be added to stats of "
                f"{tuple(other.sums.shape)}"
            )
        return ClusterStats(
            self.counts + other.counts, self.sums + other.sums, self.inertia + other.inertia
        )

    @property
    def means(self) -> Tensor:
        """Weighted mean of each cluster, ``(k, d)``; zero where a cluster is empty."""
        counts = torch.where(self.counts > 0, self.counts, 1).unsqueeze(1)  # (k, 1)
        return self.sums / counts.to(self.sums.dtype)

    @staticmethod
    def weighed(sq_distances: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Return the inertia ``()`` of ``sq_distances (n,)``, added up in float64."""
        dtype = kernels.sum_dtype(sq_distances.device)
        if sample_weight is None:
            return sq_distances.sum(dtype=dtype)
        return sq_distances.to(dtype) @ sample_weight.to(dtype)

    @staticmethod
    def counted(labels: Tensor, sample_weight: Tensor | None, k: int) -> Tensor:
        """Return the counts ``(k,)`` of ``labels (n,)``; None counts each row once."""
        dtype = kernels.sum_dtype(labels.device)
        if sample_weight is None:
            return torch.bincount(labels, minlength=k).to(dtype)
        counts = torch.zeros(k, dtype=dtype, device=labels.device)
        return counts.index_add_(0, labels, sample_weight.to(dtype))


def accumulate(
    x: Any,
    assignment: Assignment,
    k: int,
    sample_weight: Any = None,
    *,
    metric: str = "euclidean",
) -> ClusterStats:
    """Add up the rows of each cluster.

    Args:
        x: rows ``(n, d)``, dense or CSR.
        assignment: labels ``(n,)`` and squared distances ``(n,)`` of those rows.
        k: number of clusters.
        sample_weight: ``(n,)``, non-negative; None counts each row once.
        metric: under ``"cosine"`` unit rows are added.

    Raises:
        TypeError: a dtype that rows, labels or weights may not have.
        ValueError: wrong shapes or devices, labels outside ``[0, k)``, bad weights.

    Cost:
        ``n d`` additions, one read of ``x``.

    Example:
        >>> import torch
        >>> from torchkm.functional import assign
        >>> x = torch.tensor([[0.0], [1.0], [9.0]])
        >>> accumulate(x, assign(x, torch.tensor([[0.0], [8.0]])), k=2).sums
        tensor([[1.],
                [9.]], dtype=torch.float64)
    """
    problem = as_problem(x, sample_weight, metric)
    rows, weight = problem.x, problem.sample_weight
    check_finite(rows)
    if not isinstance(assignment, Assignment):
        raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
    labels = as_labels(assignment.labels, rows, check_k(k))
    if assignment.sq_distances.shape != labels.shape:
        raise ValueError(
            f"sq_distances must have shape ({len(rows)},), one per row of x, "
            f"got {tuple(assignment.sq_distances.shape)}"
        )
    counts, sums = kernels.segment_sums(rows, labels, k, weight, problem.unit_rows)
    return ClusterStats(counts, sums, ClusterStats.weighed(assignment.sq_distances, weight))


def assign_and_accumulate(
    x: Any, centroids: Any, sample_weight: Any = None, *, metric: str = "euclidean"
) -> tuple[Assignment, ClusterStats]:
    """Assign each row and add up its cluster, in one read of the rows.

    Same as ``assign`` then ``accumulate``, except that distances much smaller than the row's
    norm carry the rounding of the expanded form.

    Args:
        x: rows ``(n, d)``, dense or CSR.
        centroids: ``(k, d)``.
        sample_weight: ``(n,)``, non-negative; None counts each row once.
        metric: ``"euclidean"`` or ``"cosine"``.

    Returns:
        The assignment and its ``ClusterStats``.

    Raises:
        TypeError: as ``assign``.
        ValueError: as ``assign``, and for weights that are negative, not finite or all zero.

    Cost:
        ``2 n k d + n d`` operations, one read of ``x``.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0]])
        >>> _, stats = assign_and_accumulate(x, torch.tensor([[0.0], [8.0]]))
        >>> stats.counts
        tensor([2., 1.], dtype=torch.float64)
    """
    problem = as_problem(x, sample_weight, metric)
    found, stats = one_read(problem, as_centroids_for(problem.x, centroids, metric))
    check_measured(problem, found)
    return found, stats


def one_read(problem: Problem, centroids: Tensor) -> tuple[Assignment, ClusterStats]:
    """Assign and accumulate the rows of a problem."""
    x, weight = problem.x, problem.sample_weight
    labels, sq_distances, counts, sums = kernels.nearest_and_sums(
        x, centroids, weight, problem.unit_rows, problem.origin
    )
    inertia = ClusterStats.weighed(sq_distances, weight)
    return Assignment(labels, sq_distances), ClusterStats(counts, sums, inertia)


def labels_and_inertia(
    problem: Problem, centroids: Tensor, found: Assignment | None = None
) -> tuple[Tensor, float]:
    """Return the labels ``(n,)`` of the rows and their inertia; looks at them if not ``found``."""
    labels, sq_distances = exactly(problem, centroids, found or nearest(problem, centroids))
    return labels, ClusterStats.weighed(sq_distances, problem.sample_weight).item()


def rough_read(problem: Problem, centroids: Tensor, directions: kernels.Directions) -> ClusterStats:
    """Accumulate by labels that are guessed: in fewer digits, or along few ``directions``.

    For batches, whose choice of rows moves the centroids more than a label in doubt does. Weights
    are left out.
    """
    return ClusterStats(
        *kernels.rough_sums(problem.x, centroids, problem.unit_rows, problem.origin, directions)
    )


def read_of_each(problem: Problem, starts: Tensor) -> list[ClusterStats]:
    """Accumulate for each of ``starts (r, k, d)``, in one read of the rows."""
    each = kernels.inertia_and_sums_of_each(
        problem.x, starts, problem.sample_weight, problem.unit_rows, problem.origin
    )
    return [
        ClusterStats(counts, sums, inertia) for inertia, counts, sums in zip(*each, strict=True)
    ]


def mean_and_variance(problem: Problem) -> tuple[Tensor, float]:
    """Return the mean ``(d,)`` of the rows and the mean variance of a feature.

    The variance is their inertia as one cluster, per number: what tolerances are scaled by, as
    in scikit-learn. Weights are left out of both, as there.
    """
    x = problem.x
    if not isinstance(x, kernels.CsrRows) and x.device.type == "cpu" and x.numel() <= _FEW:
        rows = rows_as_centroids(problem)  # (n, d)
        # NumPy's, and so rounded as scikit-learn's.
        mean = torch.from_numpy(rows.numpy().mean(0, dtype=np.float64))
        apart = torch.linalg.vector_norm(rows - mean.to(rows.dtype), dtype=mean.dtype)
        return mean, apart.square().item() / rows.numel()
    dtype = kernels.compute_dtype(x.dtype)
    zero = torch.zeros_like(problem.origin, dtype=dtype).unsqueeze(0)  # (1, d)
    # From zero, so that whole numbers add up without rounding.
    plain = replace(problem, sample_weight=None, given_origin=zero[0])
    centre = one_read(plain, zero)[1].means  # (1, d)
    inertia = one_read(plain.from_origin(centre[0]), centre.to(zero))[1].inertia
    return centre[0], inertia.item() / x.shape.numel()
