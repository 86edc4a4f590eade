"""Products that give the best centroid of each row, and how far it leads.

The score of a row and a centroid is ``x'c - |c|^2 / 2``, with centroids less a point amid them,
which moves all scores of a row alike. By Cauchy and Schwarz, rounding changes a score by no more
than a share of the norms of both. Where the best score of a row leads by more than that, its label
is right. All other rows are in doubt, among them those that are not finite, or too far off to tell.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from torchkm.kernels import int8
from torchkm.kernels.bfloat16 import SUM_UNIT, UNIT, above, digits
from torchkm.kernels.keys import Bounds, FloatKeys, IntegerKeys
from torchkm.kernels.rivals import Found, Rivals, among
from torchkm.kernels.rows import parts
from torchkm.kernels.runs import Scores
from torchkm.kernels.scratch import room
from torchkm.kernels.subspace import Aim, Subspace, vanished

# Columns behind the numbers of a row in bfloat16, and what the width is rounded up to.
_EXTRA, _TILE = 4, 32

# Directions that are looked along, and bounds of a block that is.
_DIRECTIONS, _BOUNDS = 64, 2**20

# Numbers in a block of rows or of scores, and the most rows of it: each block prepares the product
# anew, so it has more rows than would stay in cache. As many as do are rounded at once.
_NUMBERS, _MOST_ROWS, _IN_CACHE = 2**23, 2**14, 2**20


class Product(Protocol):
    """Finds labels of some rows at a time; made of centroids ``(k, d)`` for so many rows."""

    size: int

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, ``size`` at most, if that pays.

        Returns:
            Whether it does; if not, nothing is found, and another product is better.
        """


def fill(found: Found, start: int, rows: Tensor, product: Product) -> int:
    """Fill in what is ``found`` of ``rows (n, d)``, from the ``start`` on, while that pays.

    Returns:
        How many rows that has come to.
    """
    while start < len(rows):
        part = slice(start, start + product.size)
        if not product.score(rows[part], found.part(part)):
            return start
        start = min(part.stop, len(rows))
    return start


class Centred(NamedTuple):
    """Centroids as a product takes them.

    Attributes:
        centroids: less a point amid them ``(k, d)``.
        bias: what makes a score of a product ``(k,)``.
        norms: of the ``centroids (k,)``.
        given: the centroids as they were ``(k, d)``.
        sq_norm: the largest of those ``()``, float64.
    """

    centroids: Tensor
    bias: Tensor
    norms: Tensor
    given: Tensor
    sq_norm: Tensor

    @classmethod
    def about(cls, middle: Tensor, given: Tensor) -> Centred:
        """Return centroids as ``given (k, d)`` less a ``middle (d,)``."""
        k, d = given.shape
        sq_norms = torch.linalg.vector_norm(given, dim=1, dtype=torch.float64).square()  # (k,)
        bias = (middle.double().square().sum() - sq_norms) / 2
        centred = torch.sub(given, middle, out=room("centred", k, d, given.dtype))
        norms = torch.linalg.vector_norm(centred, dim=1)
        return cls(centred, bias.to(centred.dtype), norms, given, sq_norms.max())

    def lost(self, width: int, unit: float) -> Tensor:
        """Return what rounding takes of a lead ``()``, whatever the row."""
        sums = 2 * width * unit * self.bias.abs().max()
        # A bias is the difference of squares in float64.
        squares = width * torch.finfo(torch.float64).eps * self.sq_norm
        return sums + squares.to(sums.dtype) + vanished(width, self.norms)

    def rounding(self) -> tuple[Tensor, Tensor]:
        """Return what rounding takes of a lead in the dtype of the centroids.

        Returns:
            That for each unit of a row's norm ``()``, and that of any row ``()``.
        """
        width, unit = self.centroids.shape[1] + 2, torch.finfo(self.norms.dtype).eps
        return 2 * width * unit * self.norms.max(), self.lost(width, unit)


class Plain:
    """Scores in the dtype of the centroids."""

    def __init__(self, given: Tensor, n: int) -> None:
        centred = Centred.about(given.mean(0), given)
        self._centroids, self._bias, self._dtype = centred.centroids, centred.bias, given.dtype
        self.size = min(n, _rows_at_once(*given.shape))
        self._scores = Scores(room("scores in runs", self.size, len(given), given.dtype))
        self._per_norm, self._lost = centred.rounding()

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``."""
        rows = rows.to(self._dtype)
        self._scores.fill(rows, self._centroids, self._bias)
        self._scores.best(found.best, found.labels)
        self._scores.best_but(found.labels, found.leads)
        torch.sub(found.best, found.leads, out=found.leads)
        torch.linalg.vector_norm(rows, dim=1, out=found.norms)
        found.leads.sub_(found.norms * self._per_norm + self._lost)
        return True


class Projected:
    """Bounds of scores along a few directions."""

    def __init__(self, given: Tensor, n: int) -> None:
        # Rows are not centred: what they share lies along the mean.
        mean = given.mean(0)
        centred = Centred.about(mean, given)
        self._subspace = Subspace(centred.centroids, _DIRECTIONS, mean)
        rounding = centred.rounding()
        self._aim = Aim(self._subspace, centred.centroids, centred.bias, rounding, given)
        self._dtype = given.dtype
        self.size = max(1, min(n, _rows_at_once(*given.shape), _BOUNDS // len(given)))

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, if that pays."""
        if not self._aim.pays:
            return False
        rows = rows.to(self._dtype)
        torch.linalg.vector_norm(rows, dim=1, out=found.norms)
        left = room("left", len(rows), self._subspace.width, torch.float32)
        self._subspace.project(rows, found.norms, left)
        self._aim.look(left, among(rows, self._dtype), found)
        return True


class InInt8:
    """Upper bounds of scores, from products of whole numbers of eight bits."""

    def __init__(self, given: Tensor, n: int) -> None:
        k, d = given.shape
        centred = Centred.about(int8.middle(given), given)
        rounding = centred.rounding()
        self._dtype, self.size = given.dtype, min(n, _rows_at_once(k, d))
        self._centroids = int8.BoundedCentroids(centred.centroids, centred.bias, rounding[1])
        self._rivals = Rivals(centred.centroids, centred.bias, rounding, given, guess_first=False)
        self._n_in_cache = max(1, _IN_CACHE // max(k, d))
        self._left = int8.RoundedRows(min(self.size, self._n_in_cache), d)
        self._product = room("whole product", self.size, k, torch.int32)

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, if that pays."""
        grid, keys, start = None, None, 0  # what rows are on now, and the first of them
        for part in parts(slice(0, len(rows)), self._n_in_cache):
            some, product = rows[part].to(self._dtype), self._product[part]
            low, high = (end.item() for end in some.aminmax())
            if not math.isfinite(high - low):
                return False
            wider = grid.reaching(low, high) if grid else int8.Grid.over(low, high)
            if keys is None or wider is not grid:
                if keys is not None:
                    self._settle(rows, slice(start, part.start), keys, found)
                grid, keys, start = wider, self._centroids.keys(wider), part.start
            norms = torch.linalg.vector_norm(some, dim=1, out=found.norms[part]).float()
            self._centroids.multiply(self._left.round(some, wider), product)
            if not part.start and not self._rivals.promise_few(product, keys, norms):
                return False
        if keys is not None:
            self._settle(rows, slice(start, len(rows)), keys, found)
        return True

    def _settle(self, rows: Tensor, at: slice, keys: IntegerKeys, found: Found) -> None:
        """Find the best for rows that were multiplied on the same grid."""
        into, fetch = found.part(at), among(rows[at], self._dtype)
        self._rivals.settle(self._product[at], keys, into.norms.float(), fetch, into)


class InBfloat16:
    """Upper bounds of scores, from one product in bfloat16.

    Behind the numbers of rows and centroids stand columns that make a score of the product, and
    more than a score by what rounding can have taken of it::

        row       x rounded  1 1 1                 |x|
        centroid  c rounded  its bias in 3 digits  what rounding takes per |x|
    """

    def __init__(self, given: Tensor, n: int) -> None:
        k, d = given.shape
        centred = Centred.about(given.mean(0), given)
        centroids, bias, norms, *_ = centred
        width = -(-(d + _EXTRA) // _TILE) * _TILE
        self._dtype, self.size = given.dtype, min(n, _rows_at_once(k, width))
        self._left = room("rounded rows", self.size, width, torch.bfloat16)
        self._left[:, d:] = (torch.arange(width - d, device="cpu") < 3).bfloat16()
        self._numbers, self._norms = self._left[:, :d], self._left[:, d + 3]
        rounded = centroids.to(torch.bfloat16)
        residuals = torch.linalg.vector_norm(centroids - rounded.to(centroids.dtype), dim=1)
        shares = above((1 + 4 * UNIT) * (residuals + (UNIT + 2 * width * SUM_UNIT) * norms))
        behind = torch.stack([*digits(bias.float()), shares], dim=1)  # (k, 4)
        blank = behind.new_zeros(k, width - d - _EXTRA)
        self._right = torch.cat([rounded, behind, blank], dim=1)
        shares, lost = shares.float(), centred.lost(width, SUM_UNIT).float()
        self._keys = FloatKeys(Bounds(2 * shares, lost, UNIT, torch.zeros_like(shares)))
        self._rivals = Rivals(centroids, bias, centred.rounding(), given, guess_first=True)
        self._product = room("product", self.size, k, torch.bfloat16)
        self._uppers = room("uppers", self.size, k, torch.float32)

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, if that pays."""
        b = len(rows)
        self._numbers[:b] = rows
        # In bfloat16, so made larger by more than all roundings on the way.
        norms = torch.linalg.vector_norm(self._numbers[:b], dim=1).mul_(1 + 6 * UNIT)
        self._norms[:b] = norms
        found.norms.copy_(norms)
        torch.mm(self._left[:b], self._right.T, out=self._product[:b])
        uppers = self._uppers[:b].copy_(self._product[:b])
        self._rivals.settle(uppers, self._keys, found.norms, among(rows, self._dtype), found)
        return True


def _rows_at_once(k: int, width: int) -> int:
    return max(1, min(_NUMBERS // max(k, width), _MOST_ROWS))
