"""HOW k-means runs on hardware: the plain reference and the blocked path behind one dispatcher.

Device tricks, block sizes and memory live here and nowhere else.
No state, no checks of user input and no choice of algorithm may live here.
"""

from torchkm.kernels.dispatch import distances, nearest, nearest_and_sums, segment_sums
from torchkm.kernels.layout import compute_dtype, origin_of, rows_per_block, sum_dtype, unit

__all__ = [
    "compute_dtype",
    "distances",
    "nearest",
    "nearest_and_sums",
    "origin_of",
    "rows_per_block",
    "segment_sums",
    "sum_dtype",
    "unit",
]
