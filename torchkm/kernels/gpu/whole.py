"""Whole numbers: what sums are made of, so that they come out the same in any order."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def whole(x):
    """Round to the nearest whole number, below 2^51: what it leaves of 1.5 * 2^52 in the sum."""
    return (x + 6755399441055744.0).to(tl.int64, bitcast=True) - 4843621399236968448
