"""Whole numbers: what sums are made of, so that they come out the same in any order.

Numbers are rounded one by one, before they are added: a sum is then the same to the last bit
however its rows came together.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def whole(x):
    """Round to the nearest whole number, below 2^51: what it leaves of 1.5 * 2^52 in the sum."""
    return (x + 6755399441055744.0).to(tl.int64, bitcast=True) - 4843621399236968448


@triton.jit
def rounded(x):
    """Round as ``whole`` does, and stay in float64."""
    return (x + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def sums_of_members(member, numbers, BN: tl.constexpr, BD: tl.constexpr):
    """Add up the whole ``numbers (BM, BD)`` of the rows that are a ``member (BM, BN)`` of each.

    Numbers have four digits of 11 bits, which float16 holds as they are, and float32 their sums.
    """
    share = tl.trans(member.to(tl.float16))
    total = tl.zeros((BN, BD), tl.int64)
    for digit in tl.static_range(0, 4):
        part = numbers >> (11 * digit)
        if digit < 3:
            part = part & 2047
        of_digit = tl.dot(share, part.to(tl.int32).to(tl.float16))
        total += of_digit.to(tl.int32).to(tl.int64) << (11 * digit)
    return total
