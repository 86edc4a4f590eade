"""HOW k-means runs on hardware: plain reference, blocked, sparse and GPU path, one dispatcher.

Device tricks, block sizes and memory live here and nowhere else: also what labels and copies of
the rows are kept from one pass to the next. No checks of user input and no choice of algorithm.
"""

from torchkm.kernels.csr import CsrRows, Rows, dense_rows, take_batch, take_rows
from torchkm.kernels.descending import Descending, Pace
from torchkm.kernels.dispatch import (
    distances,
    has_gpu_kernels,
    inertia_and_sums_of_each,
    is_compact,
    labels,
    mean_distances,
    nearest,
    nearest_and_sums,
    origin_of,
    passes,
    plusplus,
    precisions,
    rough_sums,
    segment_sums,
    sides,
    sq_differences,
    streamed,
    track,
)
from torchkm.kernels.layout import (
    compute_dtype,
    most_square,
    rows_of,
    rows_per_block,
    sum_dtype,
    unit,
)
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rough import Directions
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.scorer import PRECISIONS
from torchkm.kernels.sparse_tracker import SparseTracker
from torchkm.kernels.tracker import Followed, Tracker

__all__ = [
    "PRECISIONS",
    "CsrRows",
    "Descending",
    "Directions",
    "Followed",
    "OrderedRows",
    "Pace",
    "Rows",
    "SparseTracker",
    "Tracker",
    "compute_dtype",
    "dense_rows",
    "distances",
    "has_gpu_kernels",
    "in_full_precision",
    "inertia_and_sums_of_each",
    "is_compact",
    "labels",
    "mean_distances",
    "most_square",
    "nearest",
    "nearest_and_sums",
    "origin_of",
    "passes",
    "plusplus",
    "precisions",
    "rough_sums",
    "rows_of",
    "rows_per_block",
    "segment_sums",
    "sides",
    "sq_differences",
    "streamed",
    "sum_dtype",
    "take_batch",
    "take_rows",
    "track",
    "unit",
]
