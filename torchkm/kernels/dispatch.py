"""The one place that chooses a kernel.

Rows reach a kernel already checked. What is asked for in float32 is computed in float32: autocast
is off inside, and so are fast products. Nothing here records gradients.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from torchkm.kernels import blocked, reference
from torchkm.kernels.compact import Compact
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.tracker import Tracker

# Rows so narrow, or so few numbers in all, are scored in every pass: to find out which of them to
# score takes longer. They are kept once more, and in float64, up to so many numbers.
_NARROW, _FEW, _KEPT = 64, 2**19, 2**23


def _backend() -> ModuleType:
    return reference if torch.compiler.is_compiling() else blocked


def is_compact(x: Tensor, precision: str = "auto") -> bool:
    """Return whether rows ``x (n, d)`` are few or narrow enough to be kept and scored each time."""
    narrow = x.shape[1] <= _NARROW and x.numel() <= _KEPT
    fits = narrow or x.numel() <= _FEW
    return fits and x.device.type == "cpu" and precision != "bfloat16"


def tracker(
    rows: OrderedRows, sample_weight: Tensor | None, k: int, precision: str
) -> Tracker | Compact:
    """Return what follows centroids with the labels and sums of rows."""
    if is_compact(rows.x, precision):
        return Compact(rows, sample_weight, k)
    return Tracker(rows, sample_weight, k, precision)


@in_full_precision
def nearest(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids.

    Rows and centroids are shifted by ``origin (d,)``, a point amid the rows.
    """
    labels, sq_distances = _backend().nearest(x, centroids, unit_rows, origin)
    return labels, sq_distances


@in_full_precision
def nearest_and_sums(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, squared distances, ``counts (k,)`` and ``sums (k, d)`` from one read."""
    return blocked.nearest_and_sums(x, centroids, sample_weight, unit_rows, origin)


@in_full_precision
def inertia_and_sums_of_each(
    x: Tensor,
    starts: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``inertia (r,)``, ``counts (r, k)``, ``sums (r, k, d)`` for ``starts (r, k, d)``."""
    return blocked.inertia_and_sums_of_each(x, starts, sample_weight, unit_rows, origin)


@in_full_precision
def segment_sums(
    x: Tensor, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)`` of the rows with each label."""
    return blocked.segment_sums(x, labels, k, sample_weight, unit_rows)


@in_full_precision
def distances(x: Tensor, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``."""
    out: Tensor = _backend().distances(x, centroids, unit_rows)
    return out


@in_full_precision
def sides(x: Tensor, labels: Tensor, pairs: Tensor, unit_rows: bool, origin: Tensor) -> Tensor:
    """Return which of the two centroids ``pairs (k, 2, d)`` of its label is nearer each row."""
    return blocked.sides(x, labels, pairs, unit_rows, origin)
