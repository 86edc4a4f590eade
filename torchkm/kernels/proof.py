"""Labels proven without distances: by products whose rounding is too small to matter.

The score of a row and a centroid is ``x'c - |c|^2 / 2``, with centroids less a point amid them,
which moves all scores of a row alike. By Cauchy and Schwarz, rounding changes a score by no more
than a share of the norms of both. Where the best score of a row leads by more than that, its label
is right. All other rows are in doubt, among them those that are not finite, or too far off to tell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels import bfloat16
from torchkm.kernels.bfloat16 import SUM_UNIT, UNIT, above, digits
from torchkm.kernels.layout import compute_dtype
from torchkm.kernels.rivals import Bounds, Found, Rivals, among, in_doubt
from torchkm.kernels.rows import parts
from torchkm.kernels.runs import Scores
from torchkm.kernels.scratch import room
from torchkm.kernels.subspace import Aim, Subspace, is_worth_it, vanished

# Narrower rows, and fewer numbers of them, are measured as fast as their labels are proven.
_WIDE, _ENOUGH_NUMBERS = 128, 2**20

# Bytes of centroids from which on a first look pays, along so many directions or in few digits
# before distances are taken; and how many rows pay for making ready.
_WORTH_A_LOOK, _DIRECTIONS, _ENOUGH_ROWS = 2**19, 64, 2**12

# Bounds of a block that is looked at.
_BOUNDS = 2**20

# Columns behind the numbers, and what the width is rounded up to.
_EXTRA, _TILE = 4, 32

# Numbers in a block of rows or of scores, and the most rows of it: each block prepares the product
# anew, so it has more rows than would stay in cache.
_NUMBERS, _MOST_ROWS = 2**23, 2**14


class _Centred(NamedTuple):
    """Centroids as a product takes them.

    Attributes:
        centroids: less their mean ``(k, d)``.
        bias: what makes a score of a product ``(k,)``.
        norms: of the ``centroids (k,)``.
        mean: what was taken off them ``(d,)``.
    """

    centroids: Tensor
    bias: Tensor
    norms: Tensor
    mean: Tensor

    @classmethod
    def of(cls, centroids: Tensor) -> _Centred:
        mean = centroids.mean(0)
        sq_norms = torch.linalg.vector_norm(centroids, dim=1, dtype=torch.float64).square()  # (k,)
        bias = (mean.double().square().sum() - sq_norms) / 2
        centred = centroids - mean
        norms = torch.linalg.vector_norm(centred, dim=1)
        return cls(centred, bias.to(centred.dtype), norms, mean)

    def lost(self, width: int, unit: float) -> Tensor:
        """Return what rounding takes of a lead ``()``, whatever the row."""
        sums = 2 * width * unit * self.bias.abs().max()
        return sums + vanished(width, self.norms)

    def rounding(self) -> tuple[Tensor, Tensor]:
        """Return what rounding takes of a lead in the dtype of the centroids.

        Returns:
            That for each unit of a row's norm ``()``, and that of any row ``()``.
        """
        width, unit = self.centroids.shape[1] + 2, torch.finfo(self.norms.dtype).eps
        return 2 * width * unit * self.norms.max(), self.lost(width, unit)


def pays(x: Tensor) -> bool:
    """Return whether to look for proofs: of wide rows, where to ask for doubts is not to wait."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":  # first: sizes may be unknown then
        return False
    return x.shape[1] >= _WIDE and x.numel() >= _ENOUGH_NUMBERS


def pays_before_distances(x: Tensor, centroids: Tensor) -> bool:
    """Return whether to prove labels first even if distances are wanted: those to one centroid."""
    (k, d), dtype = centroids.shape, compute_dtype(x.dtype, centroids.dtype)
    worth_it = pays(x) and len(x) >= _ENOUGH_ROWS and is_worth_it(k, d, dtype, _WORTH_A_LOOK)
    return worth_it and bfloat16.pays_for(x, k)


def labels(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and the rows ``(m,)``, rising, whose label is in doubt."""
    centred = _Centred.of(centroids.to(compute_dtype(x.dtype, centroids.dtype)))
    product = _product(centred, x)
    found = Found.room(len(x), product.dtype)
    for part in parts(slice(0, len(x)), product.size):
        product.score(x[part], found.part(part))
    return found.labels, in_doubt(found.leads)


def _product(centred: _Centred, x: Tensor) -> _Rough | _Projected | _Plain:
    k, d = centred.centroids.shape
    if k > 1 and bfloat16.pays_for(x, k):
        return _Rough(centred, len(x))
    if len(x) >= _ENOUGH_ROWS and is_worth_it(k, d, centred.centroids.dtype, _WORTH_A_LOOK):
        return _Projected(centred, len(x))
    return _Plain(centred, len(x))


class _Plain:
    """Scores in the dtype of the centroids."""

    def __init__(self, centred: _Centred, n: int) -> None:
        self._centroids, self._bias, norms, _ = centred
        self.dtype = norms.dtype
        self.size = min(n, _rows_at_once(*self._centroids.shape))
        self._scores = Scores(room("scores in runs", self.size, len(self._bias), norms.dtype))
        self._per_norm, self._lost = centred.rounding()

    def score(self, rows: Tensor, found: Found) -> None:
        """Fill in what is ``found`` of ``rows (b, d)``."""
        rows = rows.to(self.dtype)
        self._scores.fill(rows, self._centroids, self._bias)
        self._scores.best(found.best, found.labels)
        self._scores.best_but(found.labels, found.leads)
        torch.sub(found.best, found.leads, out=found.leads)
        torch.linalg.vector_norm(rows, dim=1, out=found.norms)
        found.leads.sub_(found.norms * self._per_norm + self._lost)


class _Projected:
    """Scores along a few directions, and whole ones where those leave a doubt, while it pays."""

    def __init__(self, centred: _Centred, n: int) -> None:
        centroids, bias, norms, mean = centred
        # Rows are not centred: what they share lies along the mean.
        self._subspace = Subspace(centroids, _DIRECTIONS, mean)
        self._aim = Aim(self._subspace, centroids, bias, centred.rounding())
        self._plain = _Plain(centred, n)
        self.dtype = norms.dtype
        self.size = max(1, min(self._plain.size, _BOUNDS // len(bias)))

    def score(self, rows: Tensor, found: Found) -> None:
        """Fill in what is ``found`` of ``rows (b, d)``."""
        if not self._aim.pays:
            return self._plain.score(rows, found)
        rows = rows.to(self.dtype)
        torch.linalg.vector_norm(rows, dim=1, out=found.norms)
        left = room("left", len(rows), self._subspace.width, torch.float32)
        self._subspace.project(rows, found.norms, left)
        self._aim.look(left, among(rows, self.dtype), found)
        return None


class _Rough:
    """Upper bounds of scores, from one product in bfloat16.

    Behind the numbers of rows and centroids stand columns that make a score of the product, and
    more than a score by what rounding can have taken of it::

        row       x rounded  1 1 1                 |x|
        centroid  c rounded  its bias in 3 digits  what rounding takes per |x|
    """

    def __init__(self, centred: _Centred, n: int) -> None:
        centroids, bias, norms, _ = centred
        k, d = centroids.shape
        width = -(-(d + _EXTRA) // _TILE) * _TILE
        self.dtype, self.size = norms.dtype, min(n, _rows_at_once(k, width))
        self._left = room("rounded rows", self.size, width, torch.bfloat16)
        self._left[:, d:] = (torch.arange(width - d) < 3).bfloat16()
        self._numbers, self._norms = self._left[:, :d], self._left[:, d + 3]
        rounded = centroids.to(torch.bfloat16)
        residuals = torch.linalg.vector_norm(centroids - rounded.to(centroids.dtype), dim=1)
        shares = above((1 + 4 * UNIT) * (residuals + (UNIT + 2 * width * SUM_UNIT) * norms))
        behind = torch.stack([*digits(bias.float()), shares], dim=1)  # (k, 4)
        blank = behind.new_zeros(k, width - d - _EXTRA)
        self._right = torch.cat([rounded, behind, blank], dim=1)
        lost = centred.lost(width, SUM_UNIT).float()
        bounds = Bounds(2 * shares.float(), lost, UNIT)
        self._rivals = Rivals(centroids, bias, bounds, centred.rounding())
        self._product = room("product", self.size, k, torch.bfloat16)
        self._uppers = room("uppers", self.size, k, torch.float32)

    def score(self, rows: Tensor, found: Found) -> None:
        """Fill in what is ``found`` of ``rows (b, d)``."""
        b = len(rows)
        self._numbers[:b] = rows
        # In bfloat16, so made larger by more than all roundings on the way.
        norms = torch.linalg.vector_norm(self._numbers[:b], dim=1).mul_(1 + 6 * UNIT)
        self._norms[:b] = norms
        found.norms.copy_(norms)
        torch.mm(self._left[:b], self._right.T, out=self._product[:b])
        uppers = self._uppers[:b].copy_(self._product[:b])
        self._rivals.settle(uppers, found.norms, among(rows, self.dtype), found)


def _rows_at_once(k: int, width: int) -> int:
    return max(1, min(_NUMBERS // max(k, width), _MOST_ROWS))
