"""The one place that chooses a kernel.

Rows reach a kernel already checked. What is asked for in float32 is computed in float32: autocast
is off inside, and so are fast products. Nothing here records gradients.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from torchkm.kernels import all_pairs, blocked, layout, proof, reference, rough, sparse
from torchkm.kernels.compact import Compact
from torchkm.kernels.csr import CsrRows, Rows
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.sparse_tracker import SparseTracker
from torchkm.kernels.tracker import Tracker

# Rows so narrow, or so few numbers in all, are scored in every pass: to find out which of them to
# score takes longer. They are kept once more, and in float64, up to so many numbers.
_NARROW, _FEW, _KEPT = 64, 2**19, 2**23


def _in_blocks(x: Rows) -> ModuleType:
    return sparse if isinstance(x, CsrRows) else blocked


def _backend(x: Rows) -> ModuleType:
    return reference if torch.compiler.is_compiling() else _in_blocks(x)


def origin_of(x: Rows, unit_rows: bool) -> Tensor:
    """Return a point ``(d,)`` amid the rows to measure them from; zero for sparse rows."""
    if isinstance(x, CsrRows):
        return x.values.new_zeros(x.width)
    return layout.origin_of(x, unit_rows)


def is_compact(x: Rows, precision: str = "auto") -> bool:
    """Return whether rows ``x (n, d)`` are few or narrow enough to be kept and scored each time."""
    if isinstance(x, CsrRows) or x.device.type != "cpu" or precision == "bfloat16":
        return False
    narrow = x.shape[1] <= _NARROW and x.numel() <= _KEPT
    return narrow or x.numel() <= _FEW


@in_full_precision
def nearest(x: Rows, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids.

    Rows and centroids are shifted by ``origin (d,)``, a point amid the rows.
    """
    labels, sq_distances = _backend(x).nearest(x, centroids, unit_rows, origin)
    return labels, sq_distances


@in_full_precision
def nearest_and_sums(
    x: Rows,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, squared distances, ``counts (k,)`` and ``sums (k, d)`` from one read."""
    return _in_blocks(x).nearest_and_sums(x, centroids, sample_weight, unit_rows, origin)


@in_full_precision
def labels(x: Rows, centroids: Tensor, unit_rows: bool) -> tuple[Tensor, Tensor | None]:
    """Return ``labels (n,)`` and squared distances ``(m,)`` of the rows that had to be measured.

    None of them where the labels of all were proven without.
    """
    if unit_rows or isinstance(x, CsrRows) or not proof.pays(x):
        return nearest(x, centroids, unit_rows, origin_of(x, unit_rows))
    found, doubtful = proof.labels(x, centroids)
    if not len(doubtful):
        return found, None
    rows, origin = x.index_select(0, doubtful), origin_of(x, False)
    again, sq_distances = nearest(rows, centroids, False, origin)
    return found.index_copy_(0, doubtful, again), sq_distances


@in_full_precision
def rough_sums(
    x: Rows, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``counts (k,)``, ``sums (k, d)`` and ``inertia ()`` by labels that may be guesses."""
    if isinstance(x, Tensor) and rough.guesses(x, len(centroids)):
        return rough.sums(x, centroids, unit_rows, origin)
    _, sq_distances, counts, sums = nearest_and_sums(x, centroids, None, unit_rows, origin)
    return counts, sums, sq_distances.sum(dtype=counts.dtype)


@in_full_precision
def inertia_and_sums_of_each(
    x: Rows,
    starts: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``inertia (r,)``, ``counts (r, k)``, ``sums (r, k, d)`` for ``starts (r, k, d)``."""
    return _in_blocks(x).inertia_and_sums_of_each(x, starts, sample_weight, unit_rows, origin)


@in_full_precision
def segment_sums(
    x: Rows, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)`` of the rows with each label."""
    return _in_blocks(x).segment_sums(x, labels, k, sample_weight, unit_rows)


@in_full_precision
def distances(x: Rows, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``."""
    out: Tensor = _backend(x).distances(x, centroids, unit_rows)
    return out


@in_full_precision
def sq_differences(
    x: Rows, centroids: Tensor, labels: Tensor, index: Tensor, unit_rows: bool
) -> Tensor:
    """Return squared distances ``(m,)`` of rows ``index`` to the centroids of ``labels (n,)``.

    As sums of squared differences, to all digits.
    """
    return _in_blocks(x).sq_differences(x, centroids, labels, index, unit_rows)


@in_full_precision
def sides(x: Tensor, labels: Tensor, pairs: Tensor, unit_rows: bool, origin: Tensor) -> Tensor:
    """Return which of the two centroids ``pairs (k, 2, d)`` of its label is nearer each row."""
    return blocked.sides(x, labels, pairs, unit_rows, origin)


@in_full_precision
def mean_distances(
    x: Rows, labels: Tensor, counts: list[Tensor], unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean distances to the own cluster and the nearest other, of each of ``(r, n)``."""
    return all_pairs.mean_distances(x, labels, counts, unit_rows, origin)


def track(
    x: Rows,
    order: Tensor | None,
    sample_weight: Tensor | None,
    origin: Tensor,
    unit_rows: bool,
    k: int,
    precision: str,
) -> Compact | SparseTracker | Tracker:
    """Return what lets rows in by ``order (n,)``, or as they lie, and follows their labels.

    Sparse rows come in at once.
    """
    if isinstance(x, CsrRows):
        return SparseTracker(x.unit if unit_rows else x, sample_weight, k)
    rows = OrderedRows(x, order, origin, unit_rows)
    if is_compact(x, precision):
        return Compact(rows, sample_weight, k)
    return Tracker(rows, sample_weight, k, precision)
