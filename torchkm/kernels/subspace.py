"""Bounds of scores along a few directions.

Centroids mostly differ along few directions: of a row ``x`` little is left beyond them, and of a
centroid ``c`` less. With an orthonormal basis ``V (d, m)``, ``y = x - VV'x`` and ``r = c - VV'c``,

    x'c = (V'x)'(V'c) + y'r    and    |y'r| <= |y| |r|

so that one product of width ``m + 2`` gives an upper bound of every score ``x'c - |c|^2 / 2``. What
that leaves open is for ``kernels/rivals.py``. (Bounds of products by Cauchy and Schwarz, part by
part: Bottesch et al. 2016, "Speeding up k-means by approximating Euclidean distances via block
vectors".)
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.keys import Bounds, FloatKeys
from torchkm.kernels.rivals import Fetch, Found, Rivals
from torchkm.kernels.scratch import room

# Narrower rows are multiplied out as fast.
_WIDE = 512

# Columns behind the numbers of a row: the length of what is left, and a one.
_EXTRA = 2

# Of what the centroids are, squared, this much may lie beyond the directions.
_BEYOND = 1 / 4

# Below the first the square of a number vanishes; a product that vanishes is below the other.
_UNSEEN, _VANISHED = 1e-18, 1e-30


def vanished(d: int, norms: Tensor) -> Tensor:
    """Return what products too small for float32 take of a score ``()``, whatever the row."""
    return d * (_VANISHED + _UNSEEN * norms.max())


def is_worth_it(k: int, d: int, dtype: torch.dtype, least_bytes: int) -> bool:
    """Return whether to look along directions at rows of width ``d``, for ``k`` centroids.

    They must be wide, and the centroids of ``least_bytes``.
    """
    return k > 1 and d >= _WIDE and k * d * dtype.itemsize >= least_bytes


def width(m: int) -> int:
    """Return how many numbers stand for a row that is looked at along ``m`` directions."""
    return m + _EXTRA


class Subspace:
    """The ``m`` directions that ``vectors (n, d)`` mostly lie along, and ``first (d,)`` exactly.

    By one round of the randomised range finder (Halko et al. 2011, doi:10.1137/090771806).
    """

    def __init__(self, vectors: Tensor, m: int, first: Tensor | None = None) -> None:
        d = vectors.shape[1]
        vectors, generator = vectors.float(), torch.Generator().manual_seed(0)
        mixed = vectors.T @ torch.randn(
            len(vectors), m, generator=generator, device=generator.device
        )  # (d, m)
        mixed = vectors.T @ (vectors @ mixed)
        if first is not None:
            mixed[:, 0] = first
        mixed /= torch.linalg.vector_norm(mixed, dim=0).clamp_min(torch.finfo(mixed.dtype).tiny)
        self.basis = torch.linalg.qr(mixed.nan_to_num_().double())[0].float()  # (d, m)
        # Of a sum of products, for each unit of the norms of what is multiplied. It counts as if
        # it lay beyond the directions.
        self.rounding = 2 * (d + m + 8) * (m + 1) ** 0.5 * torch.finfo(torch.float32).eps

    @property
    def width(self) -> int:
        """How many numbers stand for a row."""
        return width(self.basis.shape[1])

    def project(self, rows: Tensor, norms: Tensor, out: Tensor) -> None:
        """Write ``rows (b, d)`` of ``norms (b,)`` into ``out (b, m + 2)``.

        Their numbers along the directions, the length of what is left, or more, and a one.
        """
        along = out[:, :-_EXTRA]
        torch.mm(rows.float(), self.basis, out=along)
        squares = norms.float().square()  # (b,)
        left = squares - torch.linalg.vector_norm(along, dim=1).square_()
        out[:, -2] = left.clamp_min_(0).add_(squares, alpha=2 * self.rounding).sqrt_()
        out[:, -1] = 1

    def show(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``centroids (k, d)`` are along the directions, and the rest of each.

        Numbers ``(k, m)``, and the length ``(k,)`` of what is left, or more.
        """
        basis = self.basis.to(centroids.dtype)
        along = centroids @ basis  # (k, m)
        beyond = torch.addmm(centroids, along, basis.T, alpha=-1)  # (k, d)
        squares = torch.linalg.vecdot(centroids, centroids)  # (k,)
        left = torch.linalg.vecdot(beyond, beyond).add_(squares, alpha=self.rounding)
        return along, left.sqrt_()

    def holds(self, rest: Tensor, norms: Tensor) -> bool:
        """Return whether little enough is left of centroids of some ``norms (k,)``."""
        return bool(rest.square().sum() <= _BEYOND * norms.square().sum())


class Aim:
    """Centroids ``(k, d)`` as a subspace shows them.

    Args:
        subspace: to see them in.
        centroids: at least two.
        bias: what makes a score of a product ``(k,)``.
        rounding: what the difference of two scores loses in the dtype of the centroids, for each
            unit of a row's norm ``()`` and whatever the row ``()``.
        given: the centroids that are as near to the rows as scores tell ``(k, d)``.
    """

    def __init__(
        self,
        subspace: Subspace,
        centroids: Tensor,
        bias: Tensor,
        rounding: tuple[Tensor, Tensor],
        given: Tensor,
    ) -> None:
        along, rest = subspace.show(centroids)
        self._right = torch.cat([along, rest.unsqueeze(1), bias.unsqueeze(1)], dim=1).float()
        norms = torch.linalg.vector_norm(centroids, dim=1).float()
        self._sees = subspace.holds(rest, norms)
        lost = subspace.rounding * bias.abs().max().float() + vanished(centroids.shape[1], norms)
        rest = rest.float()
        self._keys = FloatKeys(Bounds(2 * rest, lost, 0, torch.zeros_like(rest)))
        self._rivals = Rivals(centroids, bias, rounding, given, guess_first=True)

    @property
    def pays(self) -> bool:
        """Whether looking promises to be better than to multiply all rows out, and so far was."""
        return self._sees and self._rivals.are_few

    def look(self, left: Tensor, fetch: Fetch, into: Found) -> None:
        """Find the best centroid of each row.

        Args:
            left: the rows as ``Subspace.project`` writes them ``(b, m + 2)``.
            fetch: gives the rows themselves.
            into: where their norms stand, and what is found goes.
        """
        uppers = room("uppers", len(left), len(self._right), torch.float32)
        torch.mm(left, self._right.T, out=uppers)  # (b, k)
        self._rivals.settle(uppers, self._keys, left[:, -2], fetch, into)
