"""Labels proven along a few directions, and by whole rows where those leave a doubt.

Centroids mostly differ along few directions: of a row ``x`` little is left beyond them, and of a
centroid ``c`` less. With an orthonormal basis ``V (d, m)``, ``y = x - VV'x`` and ``r = c - VV'c``,

    x'c = (V'x)'(V'c) + y'r    and    |y'r| <= |y| |r|

so that one product of width ``m + 2`` gives an upper bound of every score ``x'c - |c|^2 / 2``. A
centroid whose upper bound is below the lower bound of the best one is out. What remains, a few
for each row, is multiplied out. (Bounds of products by Cauchy and Schwarz, part by part: Bottesch
et al. 2016, "Speeding up k-means by approximating Euclidean distances via block vectors".)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels.csr import CsrRows
from torchkm.kernels.rows import take_out
from torchkm.kernels.scratch import room

# Narrower rows are multiplied out as fast.
_WIDE = 512

# Columns behind the numbers of a row: the length of what is left, and a one.
_EXTRA = 2

# A number multiplied for one pair takes this much longer than in a product.
_SINGLY = 8

# Of all pairs this share may be multiplied out singly; with more, whole products cost less.
_SHARE = 1 / 2

# Of what the centroids are, squared, this much may lie beyond the directions.
_BEYOND = 1 / 4

# Below the first the square of a number vanishes; a product that vanishes is below the other.
_UNSEEN, _VANISHED = 1e-18, 1e-30

# Gives, for some rows ``(o,)``, a matrix with these rows in it, and at which of its rows ``(o,)``.
Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]


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


def among(rows: Tensor) -> Fetch:
    """Return what gives ``rows (b, d)`` that are at hand."""
    return lambda at: (rows, at)


class Subspace:
    """The ``m`` directions that ``vectors (n, d)`` mostly lie along, and ``first (d,)`` exactly.

    By one round of the randomised range finder (Halko et al. 2011, doi:10.1137/090771806).
    """

    def __init__(self, vectors: Tensor, m: int, first: Tensor | None = None) -> None:
        d = vectors.shape[1]
        vectors, generator = vectors.float(), torch.Generator().manual_seed(0)
        mixed = vectors.T @ torch.randn(len(vectors), m, generator=generator)  # (d, m)
        mixed = vectors.T @ (vectors @ mixed)
        if first is not None:
            mixed[:, 0] = first
        mixed /= torch.linalg.vector_norm(mixed, dim=0).clamp_min(torch.finfo(mixed.dtype).tiny)
        self.basis = torch.linalg.qr(mixed.nan_to_num_().double())[0].float()  # (d, m)
        # Of a sum of products, for each unit of the norms of what is multiplied.
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
        out[:, -2] = left.clamp_min_(0).add_(squares, alpha=self.rounding).sqrt_()
        out[:, -1] = 1


class Found(NamedTuple):
    """What is known of ``b`` rows, filled in block by block.

    Attributes:
        labels: of the best score ``(b,)``.
        best: that score ``(b,)``, or what it is at least.
        leads: how far it is above all others ``(b,)``, whatever rounding has done: above zero
            where the label is proven.
        norms: of the rows ``(b,)``, or a little more.
    """

    labels: Tensor
    best: Tensor
    leads: Tensor
    norms: Tensor

    @classmethod
    def room(cls, n: int, dtype: torch.dtype) -> Found:
        """Return room for ``n`` rows."""
        labels = torch.empty(n, dtype=torch.int64)
        return cls(labels, *(torch.empty(n, dtype=dtype) for _ in range(3)))

    def part(self, at: slice) -> Found:
        """Return a part of the room."""
        return Found(*(field[at] for field in self))


class Aim:
    """Centroids ``(k, d)`` as a subspace shows them.

    Args:
        subspace: to see them in.
        centroids: at least two.
        bias: what makes a score of a product ``(k,)``.
        rounding: what the difference of two scores loses in the dtype of the centroids, for each
            unit of a row's norm ``()`` and whatever the row ``()``.
    """

    def __init__(
        self, subspace: Subspace, centroids: Tensor, bias: Tensor, rounding: tuple[Tensor, Tensor]
    ) -> None:
        k, d = centroids.shape
        basis = subspace.basis.to(centroids.dtype)
        along = (centroids @ basis).float()  # (k, m)
        beyond = torch.addmm(centroids, along.to(basis.dtype), basis.T, alpha=-1)  # (k, d)
        rest = torch.linalg.vector_norm(beyond, dim=1)  # (k,)
        behind = torch.stack([rest, bias], dim=1).float()  # (k, 2)
        self._right = torch.cat([along, behind], dim=1)  # (k, m + 2)
        self._twice = 2 * behind[:, 0]
        self._centroids, self._bias, self._exactly = centroids, bias, rounding
        norms = torch.linalg.vector_norm(centroids, dim=1).float()
        self._sees = bool(rest.square().sum() <= _BEYOND * norms.square().sum())
        at_least = subspace.rounding * behind[:, 1].abs().max() + vanished(d, norms)
        self._rounding = subspace.rounding * norms.max(), at_least
        self._bits = (k - 1).bit_length()
        self._marks = torch.arange(k, dtype=torch.int32)
        self._n_rows = self._n_pairs = 0

    @property
    def pays(self) -> bool:
        """Whether looking promises to be better than to multiply all rows out, and so far was."""
        return self._sees and _SINGLY * self._n_pairs <= _SHARE * self._n_rows * len(self._marks)

    def look(self, left: Tensor, fetch: Fetch, into: Found) -> None:
        """Find the best centroid of each row.

        Args:
            left: the rows as ``Subspace.project`` writes them ``(b, m + 2)``.
            fetch: gives the rows themselves.
            into: where their norms stand, and what is found goes.
        """
        uppers = room("uppers", len(left), len(self._right), torch.float32)
        torch.mm(left, self._right.T, out=uppers)  # (b, k)
        # A bound brings its label along in its last bits: a maximum that finds its index takes
        # five times as long.
        uppers.view(torch.int32).bitwise_and_(-1 << self._bits).bitwise_or_(self._marks)
        first = torch.amax(uppers, 1)  # (b, k) -> (b,)
        labels = first.view(torch.int32) & ((1 << self._bits) - 1)
        into.labels.copy_(labels.clamp_(max=len(self._marks) - 1))  # of NaN it may be anything
        take_out(uppers, into.labels, -torch.inf)
        second = torch.amax(uppers, 1)
        rounding = self._lost(into.norms, first, second)
        least = first - left[:, -2] * self._twice[into.labels] - rounding
        into.best.copy_(least)
        into.leads.copy_(least - second)
        self._n_rows += len(left)
        doubtful = torch.nonzero(~(into.leads > 0)).squeeze(1)  # (o,)
        if len(doubtful):
            others = room("others", len(doubtful), uppers.shape[1], torch.float32)
            torch.index_select(uppers, 0, doubtful, out=others)
            self._multiply_out(others, doubtful, rounding, fetch, into)

    def _lost(self, norms: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return what rounding, and labels in the last bits, can have given to a lead ``(b,)``."""
        per_norm, at_least = self._rounding
        marked = 2.0 ** (self._bits - 23) * (first.abs() + second.abs())
        return norms.float() * per_norm + at_least + marked

    def _multiply_out(
        self, others: Tensor, at: Tensor, rounding: Tensor, fetch: Fetch, into: Found
    ) -> None:
        """Compare in full what can be nearest to the rows ``at (o,)``.

        That is their label and all of the ``others (o, k)`` whose upper bound is high enough.
        """
        o, k = others.shape
        rivals = others >= into.best[at].to(others.dtype).unsqueeze(1)  # (o, k)
        rivals.view(-1)[into.labels[at] + torch.arange(0, o * k, k)] = True
        pairs = torch.from_numpy(np.flatnonzero(rivals.numpy()))  # (p,)
        self._n_pairs += len(pairs)
        if _SINGLY * len(pairs) > o * k:
            return
        offsets = torch.searchsorted(pairs, torch.arange(0, (o + 1) * k, k))  # (o + 1,)
        columns = pairs % k
        scores = self._scores(columns, offsets, *fetch(at))  # (p,)
        best, second, place = _two_best(scores, offsets)
        others.view(-1)[pairs] = -torch.inf
        rest = torch.amax(others, 1) + rounding[at]
        per_norm, at_least = self._exactly
        exactly = into.norms[at] * per_norm + at_least
        into.labels[at] = columns[place]
        into.best[at] = best - exactly
        into.leads[at] = torch.minimum(best - second, best - rest) - exactly

    def _scores(self, columns: Tensor, offsets: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """Return the scores ``(p,)`` of centroids with some of ``rows (b, d)``.

        Of row ``places[i]`` with those of ``columns[offsets[i]:offsets[i + 1]]``.
        """
        spread = offsets.new_zeros(len(rows) + 1).index_copy_(0, places + 1, offsets.diff())
        pairs = CsrRows(spread.cumsum_(0), columns, self._bias[columns], len(self._marks))
        return torch.sparse.sampled_addmm(pairs.matrix, rows, self._centroids.T).values()


def _two_best(scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest score of each run ``(o,)``, the next one, and where the largest stands."""
    starts = offsets[:-1].numpy()
    best = torch.from_numpy(np.maximum.reduceat(scores.numpy(), starts))
    run = torch.repeat_interleave(offsets.diff())  # (p,)
    at = torch.nonzero(scores == best[run]).squeeze(1)
    place = offsets[:-1].clone().index_copy_(0, run[at], at)
    rest = scores.index_fill(0, place, -torch.inf)
    return best, torch.from_numpy(np.maximum.reduceat(rest.numpy(), starts)), place
