"""The one place that chooses a kernel.

Rows reach a kernel already checked. What is asked for in float32 is computed in float32: autocast
is off inside, and so are fast products. Nothing here records gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from torchkm.kernels import blocked, reference
from torchkm.kernels.precision import full_float32

P = ParamSpec("P")
T = TypeVar("T")


def _in_full_precision(kernel: Callable[P, T]) -> Callable[P, T]:
    @wraps(kernel)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        device = next(a.device for a in args if isinstance(a, Tensor))
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            if torch.compiler.is_compiling():  # a switch cannot be traced
                return kernel(*args, **kwargs)
            with full_float32(device):
                return kernel(*args, **kwargs)

    return run


def _backend() -> ModuleType:
    return reference if torch.compiler.is_compiling() else blocked


@_in_full_precision
def nearest(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids.

    Rows and centroids are shifted by ``origin (d,)``, a point amid the rows.
    """
    labels, sq_distances = _backend().nearest(x, centroids, unit_rows, origin)
    return labels, sq_distances


@_in_full_precision
def nearest_and_sums(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, squared distances, ``counts (k,)`` and ``sums (k, d)`` from one read."""
    return blocked.nearest_and_sums(x, centroids, sample_weight, unit_rows, origin)


@_in_full_precision
def segment_sums(
    x: Tensor, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)`` of the rows with each label."""
    return blocked.segment_sums(x, labels, k, sample_weight, unit_rows)


@_in_full_precision
def distances(x: Tensor, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``."""
    out: Tensor = _backend().distances(x, centroids, unit_rows)
    return out
