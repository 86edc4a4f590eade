"""The one place that chooses a kernel.

Rows reach a kernel already checked. What is asked for in float32 is computed in float32: autocast
is off inside, and so are fast products. Nothing here records gradients.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchkm.kernels import (
    all_pairs,
    blocked,
    compiled,
    layout,
    proof,
    reference,
    rough,
    seeding,
    sparse,
)
from torchkm.kernels.compact import Compact
from torchkm.kernels.compact_products import CompactProducts
from torchkm.kernels.csr import CsrRows, Rows
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.scorer import PRECISIONS
from torchkm.kernels.sparse_tracker import SparseTracker
from torchkm.kernels.tracker import Tracker

if TYPE_CHECKING:
    from torchkm.kernels.gpu.passes import Passes
    from torchkm.kernels.gpu.streaming import Streamed

# Rows so few or so narrow are scored in every pass: to find out which of them to takes longer.
# They are kept once more, up to so many numbers; more of either where loops score them.
_FEW, _NARROW, _KEPT = 2**21, {True: 128, False: 64}, {True: 2**27, False: 2**23}


def _in_blocks(x: Rows) -> ModuleType:
    return sparse if isinstance(x, CsrRows) else blocked


def _backend(x: Rows, *others: Tensor) -> Any:
    if torch.compiler.is_compiling():
        return reference
    if has_gpu_kernels(x) and torch.float64 not in [other.dtype for other in others]:
        from torchkm.kernels.gpu import once

        return once
    return _in_blocks(x)


def has_gpu_kernels(x: Rows) -> bool:
    """Return whether rows ``x`` lie on a GPU that there are kernels for: not in float64."""
    if isinstance(x, CsrRows) or not x.is_cuda or x.dtype == torch.float64:
        return False
    return _runs_triton(x.device)


@cache
def _runs_triton(device: torch.device) -> bool:
    if torch.version.cuda is None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def precisions(x: Rows) -> tuple[str, ...]:
    """Return what rows ``x`` may be asked to be scored in."""
    if not has_gpu_kernels(x):
        return PRECISIONS
    from torchkm.kernels.gpu import formats

    return formats.PRECISIONS


def passes(*args: Any, **settings: Any) -> Passes:
    """Return what makes passes over rows on a GPU; see ``kernels/gpu/passes.py``."""
    from torchkm.kernels.gpu.passes import Passes

    return Passes(*args, **settings)


def streamed(*args: Any, **settings: Any) -> Streamed:
    """Return what makes passes over rows on the host; see ``kernels/gpu/streaming.py``."""
    from torchkm.kernels.gpu.streaming import Streamed

    return Streamed(*args, **settings)


@in_full_precision
def plusplus(
    rows: Tensor, k: int, weight: Tensor, first: Tensor, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose ``k`` of centred ``rows (m, d)`` by greedy k-means++, from given ``draws (k - 1, t)``.

    Returns:
        The rows chosen ``(k,)``, and the potential ``(m,)`` that they leave.
    """
    if has_gpu_kernels(rows):
        from torchkm.kernels.gpu.seeding import one_by_one

        return one_by_one(rows, k, weight.float(), first, draws)
    found = seeding.one_by_one(rows.cpu(), weight.cpu(), first.cpu(), draws.cpu())
    chosen, potential = (part.to(rows.device) for part in found)
    return chosen, potential


def origin_of(x: Rows, unit_rows: bool, mean: Tensor | None = None) -> Tensor:
    """Return a point ``(d,)`` amid the rows to measure them from; zero for sparse rows."""
    if isinstance(x, CsrRows):
        return x.values.new_zeros(x.width)
    return layout.origin_of(x, unit_rows, mean)


def is_compact(x: Rows, precision: str = "auto") -> bool:
    """Return whether rows ``x (n, d)`` are few or narrow enough to be kept and scored each time."""
    if isinstance(x, CsrRows) or x.device.type != "cpu" or precision == "bfloat16":
        return False
    loops = compiled.available()
    return x.numel() <= (_KEPT[loops] if x.shape[1] <= _NARROW[loops] else _FEW)


@in_full_precision
def nearest(x: Rows, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids.

    Rows and centroids are shifted by ``origin (d,)``, a point amid the rows.
    """
    loops: Any = compiled.reader_of(x, centroids, unit_rows)
    if loops is not None:
        return loops.nearest(x, centroids, origin)
    if unit_rows or isinstance(x, CsrRows) or not proof.pays_before_distances(x, centroids):
        return _measured(x, centroids, unit_rows, origin)
    found, _ = _proven(x, centroids)
    centroids = centroids.to(layout.compute_dtype(x.dtype, centroids.dtype))
    return found, blocked.sq_differences(x, centroids, found, None, False)


def _measured(x: Rows, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    labels, sq_distances = _backend(x, centroids).nearest(x, centroids, unit_rows, origin)
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
    return _read(x, centroids, sample_weight, unit_rows, origin)


def _read(
    x: Rows, centroids: Tensor, sample_weight: Tensor | None, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loops: Any = compiled.reader_of(x, centroids, unit_rows)
    if loops is not None:
        return loops.nearest_and_sums(x, centroids, sample_weight, origin)
    backend: Any = _in_blocks(x) if torch.compiler.is_compiling() else _backend(x, centroids)
    return backend.nearest_and_sums(x, centroids, sample_weight, unit_rows, origin)


@in_full_precision
def labels(x: Rows, centroids: Tensor, unit_rows: bool) -> tuple[Tensor, Tensor | None]:
    """Return ``labels (n,)`` and squares ``(m,)`` that are finite only where rows are.

    None of them where the labels of all were proven without.
    """
    if not unit_rows and isinstance(x, Tensor) and proof.pays(x):
        return _proven(x, centroids)
    origin = origin_of(x, unit_rows)
    if isinstance(x, CsrRows) or _backend(x, centroids) is not blocked:
        return _measured(x, centroids, unit_rows, origin)
    loops = compiled.reader_of(x, centroids, unit_rows)
    if loops is not None:
        found = loops.labels(x, centroids, origin)
        if found is not None:
            return found, None
    found, far = blocked.labels(x, centroids, unit_rows, origin)
    if bool(torch.isfinite(far).all()):  # added up, they may not be where rows are
        return found, far
    return _measured(x, centroids, unit_rows, origin)


def _proven(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return ``labels (n,)``, and squared distances ``(m,)`` of rows that had to be measured."""
    found, doubtful = proof.labels(x, centroids)
    if not len(doubtful):
        return found, None
    rows, origin = x.index_select(0, doubtful), origin_of(x, False)
    again, sq_distances = _measured(rows, centroids, False, origin)
    return found.index_copy_(0, doubtful, again), sq_distances


@in_full_precision
def rough_sums(
    x: Rows, centroids: Tensor, unit_rows: bool, origin: Tensor, directions: rough.Directions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``counts (k,)``, ``sums (k, d)`` and ``inertia ()`` by labels that may be guesses.

    What one batch tells of where to look is kept in ``directions`` for the next.
    """
    guessed = None
    if not isinstance(x, CsrRows) and compiled.reader_of(x, centroids, unit_rows) is None:
        guessed = rough.sums(x, centroids, unit_rows, origin, directions)
    if guessed is not None:
        return guessed
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
    backend = reference if torch.compiler.is_compiling() else _in_blocks(x)
    out: Tensor = backend.distances(x, centroids, unit_rows)
    return out


@in_full_precision
def sq_differences(
    x: Rows, centroids: Tensor, labels: Tensor, index: Tensor | None, unit_rows: bool
) -> Tensor:
    """Return squared distances ``(m,)`` of rows ``index`` to the centroids of ``labels (n,)``.

    Of all rows without an ``index``. As sums of squared differences, to all digits.
    """
    loops: Any = compiled.reader_of(x, centroids, unit_rows)
    if loops is not None:
        return loops.sq_differences(x, centroids, labels, index)
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
        if compiled.pays_for(k, x.shape[1]):
            from torchkm.kernels.compiled.compact import CompactLoops

            return CompactLoops(rows, sample_weight, k)
        return CompactProducts(rows, sample_weight, k)
    return Tracker(rows, sample_weight, k, precision)
