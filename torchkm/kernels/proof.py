"""Labels proven without distances: by products whose rounding is too small to matter.

Of the products that prove them (``kernels/looks.py``) the fastest is tried first; where it leaves
more in doubt than it saves, the next one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from torchkm.kernels import bfloat16, compiled, int8
from torchkm.kernels.layout import compute_dtype
from torchkm.kernels.looks import InBfloat16, InInt8, Plain, Product, Projected, fill
from torchkm.kernels.rivals import Found, in_doubt
from torchkm.kernels.subspace import is_worth_it

# Narrower rows, and fewer numbers of them, are measured as fast as their labels are proven.
_WIDE, _ENOUGH_NUMBERS = 128, 2**20

# Bytes of centroids from which on a first look pays, along a few directions or in few digits before
# distances are taken; and how many rows pay for making ready.
_WORTH_A_LOOK, _ENOUGH_ROWS = 2**19, 2**12

# In loops: products that a look along directions has to save; centroids up to which rows are scored
# as they are, where they can be rounded to eight bits and where not; and from which on they are
# rounded, which takes longer for fewer.
_SAVED, _FEW, _SEVERAL = 2**27, {True: 48, False: 256}, 48


def pays(x: Tensor) -> bool:
    """Return whether to look for proofs: of wide rows, where to ask for doubts is not to wait."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":  # first: sizes may be unknown then
        return False
    return x.shape[1] >= _WIDE and x.numel() >= _ENOUGH_NUMBERS


def pays_before_distances(x: Tensor, centroids: Tensor) -> bool:
    """Return whether to prove labels first even if distances are wanted: those to one centroid."""
    (k, d), dtype = centroids.shape, compute_dtype(x.dtype, centroids.dtype)
    if not pays(x):
        return False
    if _are_seen_in_loops(len(x), k, d):
        return True
    worth_it = len(x) >= _ENOUGH_ROWS and is_worth_it(k, d, dtype, _WORTH_A_LOOK)
    return worth_it and (_in_eight_bits(x, k) is not None or bfloat16.pays_for(x, k))


def labels(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and the rows ``(m,)``, rising, whose label is in doubt."""
    centroids = centroids.to(compute_dtype(x.dtype, centroids.dtype))
    found, start = Found.room(len(x), centroids.dtype), 0
    for product in _products(x, centroids):
        start = fill(found, start, x, product)
        if start == len(x):
            break
    return found.labels, in_doubt(found.leads)


def _products(x: Tensor, centroids: Tensor) -> Iterator[Product]:
    """Yield what may score rows, the fastest first."""
    (k, d), n = centroids.shape, len(x)
    eight_bits = _in_eight_bits(x, k)
    if eight_bits is not None:
        yield eight_bits(centroids, n)
    if _are_seen_in_loops(n, k, d):
        from torchkm.kernels.compiled.look import ProjectedLoops

        yield ProjectedLoops.about(centroids)
    if compiled.available() and k <= _FEW[int8.is_fast()]:
        from torchkm.kernels.compiled.look import FewLoops

        yield FewLoops(centroids)
    if k > 1 and bfloat16.pays_for(x, k):
        yield InBfloat16(centroids, n)
    elif n >= _ENOUGH_ROWS and is_worth_it(k, d, centroids.dtype, _WORTH_A_LOOK):
        yield Projected(centroids, n)
    yield Plain(centroids, n)


def _are_seen_in_loops(n: int, k: int, d: int) -> bool:
    """Return whether rows are best looked at along directions, in loops."""
    return compiled.saves_along_directions(n, k, d) >= _SAVED


def _in_eight_bits(x: Tensor, k: int) -> Callable[[Tensor, int], Product] | None:
    """Return what multiplies rows in eight bits, or None where that does not pay."""
    if compiled.available() and int8.pays_in_loops_for(x, k, _SEVERAL):
        from torchkm.kernels.compiled.look import InInt8Loops

        return InInt8Loops
    return InInt8 if int8.pays_for(x, k) else None
