"""How rows enter the product that scores them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# What a fit may be told to score rows in; "auto" takes the fastest that can be proven.
PRECISIONS = ("auto", "bfloat16", "float16", "float32", "tf32")

# What a number loses that is rounded to TF32, which has 10 bits, or split into two of them. A split
# loses the rest of its smaller part, and the product that of both smaller parts.
_TF32, _SPLIT = 2.0**-10, 2.0**-19


@dataclass(frozen=True)
class Format:
    """How rows enter the product.

    Attributes:
        dtype: of both sides.
        kept: whether rows are written once more: shifted, scaled and rounded.
        shifted: whether they are less the origin.
        dot: what Triton calls the precision of the product.
        lost: share of a number, at most, that the product drops.
    """

    dtype: torch.dtype
    kept: bool
    shifted: bool
    dot: str
    lost: float = 0.0

    @property
    def is_float32(self) -> bool:
        """Whether a product is as good as one of float32."""
        return self.dot == "tf32x3"

    @property
    def name(self) -> str:
        """What results call it."""
        return "tf32" if self.dot == "tf32" and self.dtype == torch.float32 else _name(self.dtype)


SPLIT = Format(torch.float32, kept=False, shifted=True, dot="tf32x3", lost=_SPLIT)
TENSOR_FLOAT = Format(torch.float32, kept=False, shifted=True, dot="tf32", lost=_TF32)


def format_of(rows: torch.dtype, precision: str) -> Format:
    """Return how rows of a dtype are scored in ``precision``.

    Float32 is the sum of three TF32 products, which keeps 22 bits or so of every number. Rows of
    16 bits or fewer are exact as they are, and need no copy; only centroids are rounded.
    """
    if precision == "float32":
        return SPLIT
    if precision == "tf32":
        return TENSOR_FLOAT
    low = torch.bfloat16 if precision == "bfloat16" else torch.float16
    if precision == "auto" and rows == torch.bfloat16:
        low = torch.bfloat16
    kept = rows == torch.float32 or (rows.itemsize == 2 and rows != low)
    return Format(low, kept=kept, shifted=kept, dot="tf32")


def format_at_once(rows: torch.dtype) -> Format:
    """Return how rows are scored that are looked at only once."""
    return TENSOR_FLOAT if rows == torch.float32 else format_of(rows, "auto")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
