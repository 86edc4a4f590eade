"""HOW k-means runs on hardware: the plain reference and the blocked path behind one dispatcher.

Device tricks, block sizes and memory live here and nowhere else: also what labels and copies of
the rows are kept from one pass to the next. No checks of user input and no choice of algorithm.
"""

from torchkm.kernels.dispatch import (
    distances,
    inertia_and_sums_of_each,
    is_compact,
    nearest,
    nearest_and_sums,
    segment_sums,
    sides,
    tracker,
)
from torchkm.kernels.layout import compute_dtype, origin_of, rows_per_block, sum_dtype, unit
from torchkm.kernels.rows import OrderedRows
from torchkm.kernels.tracker import PRECISIONS, Tracker

__all__ = [
    "PRECISIONS",
    "OrderedRows",
    "Tracker",
    "compute_dtype",
    "distances",
    "inertia_and_sums_of_each",
    "is_compact",
    "nearest",
    "nearest_and_sums",
    "origin_of",
    "rows_per_block",
    "segment_sums",
    "sides",
    "sum_dtype",
    "tracker",
    "unit",
]
