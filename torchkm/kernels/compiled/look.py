"""Products whose scores are looked through, and whose rivals are told apart, in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels import int8
from torchkm.kernels.compiled import DIRECTIONS, eight_bits, few, projected
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.compiled.wide_tile import aims_of
from torchkm.kernels.looks import Centred
from torchkm.kernels.rivals import Found
from torchkm.kernels.rows import Standing
from torchkm.kernels.scratch import room
from torchkm.kernels.subspace import Subspace, vanished

# Numbers of rows, or of their products, at once: with fewer, Numba's threads and torch's wait for
# each other more often. And rows that are tried first.
_NUMBERS, _SAMPLE = 2**23, 2**6

# Of all scores this share may be multiplied out singly; with more, other products cost less.
_SHARE = 1 / 16


class InInt8Loops:
    """Bounds of scores, from products of whole numbers of eight bits.

    Attributes:
        size: rows that are scored at a time.
        n_scored: scores that were multiplied out singly so far.
    """

    def __init__(self, given: Tensor, n: int) -> None:
        k, d = given.shape
        centred = Centred.about(int8.middle(given), given)
        self._dtype, self.size = given.dtype, min(n, _SAMPLE)
        self.n_scored = 0
        self._centroids = int8.BoundedCentroids(
            centred.centroids, centred.bias, centred.rounding()[1]
        )
        self._rounded = self._centroids.as_arrays()
        self._exact, self._rounding = _exact(centred), _rounding(centred)
        self._most = min(n, _rows_at_once(k, d))
        self._left = room("whole rows", self._most, d, torch.int8)
        self._grids = room("grids", self._most, 3, torch.float32).numpy()
        self._product = room("whole product", self._most, k, torch.int32)

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, if that pays: labels and leads."""
        rows = rows.to(self._dtype).contiguous()
        single, b = rows.float(), len(rows)
        left, grids, product = self._left[:b], self._grids[:b], self._product[:b]
        bits = single.view(torch.int32).numpy()
        loops = eight_bits.round_rows, eight_bits.round_rows_on_threads
        run(*loops, single.numpy(), bits, left.numpy(), grids)
        self._centroids.multiply(left, product)
        n_scored = run(
            eight_bits.settle,
            eight_bits.settle_on_threads,
            rows.numpy(),
            product.numpy(),
            grids,
            self._rounded,
            self._exact,
            self._rounding,
            found.labels.numpy(),
            found.leads.numpy(),
        )
        self.size, self.n_scored = self._most, self.n_scored + n_scored
        return bool(n_scored <= _SHARE * product.numel())


class FewLoops:
    """Scores in the dtype of the centroids, of which there are few."""

    def __init__(self, given: Tensor) -> None:
        (k, d), centred = given.shape, Centred.about(given.mean(0), given)
        self._dtype, self.size = given.dtype, _rows_at_once(k, d)
        self._rounding, self._given = _rounding(centred), given.contiguous().numpy()
        self._aims = aims_of(centred.centroids.numpy(), centred.bias.numpy())

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``: labels and leads."""
        numbers = rows.to(self._dtype).contiguous().numpy(), self._aims, self._given
        into = found.labels.numpy(), found.leads.numpy()
        run(few.label, few.label_on_threads, *numbers, self._rounding, *into)
        return True


class ProjectedLoops:
    """Bounds of scores along a few directions, and scores in full where they leave a doubt.

    Args:
        centred: at least two centroids.
        subspace: the directions.

    Attributes:
        size: rows that are scored at a time.
        n_scored: scores that were multiplied out singly so far.
    """

    def __init__(self, centred: Centred, subspace: Subspace) -> None:
        (k, d), m, dtype = centred.given.shape, subspace.basis.shape[1], centred.given.dtype
        self._dtype, self.size, self.n_scored = dtype, _rows_at_once(k, d), 0
        self._directions = aims_of(subspace.basis.T.to(dtype).numpy(), np.zeros(m))
        aims = torch.empty(k, m + 1, dtype=dtype, device="cpu")
        rests, of_squares = torch.empty_like(centred.norms), 2 * subspace.rounding
        numbers = centred.centroids.numpy(), centred.bias.numpy(), self._directions
        projected.see(*numbers, of_squares, aims.numpy(), rests.numpy())
        self._sees = subspace.holds(rests, centred.norms)
        lost = subspace.rounding * centred.bias.abs().max() + vanished(d, centred.norms)
        self._seen = aims.numpy(), rests.numpy(), of_squares, lost.item()
        self._exact, self._rounding = _exact(centred), _rounding(centred)

    @classmethod
    def about(cls, given: Tensor) -> ProjectedLoops:
        """Return what scores by ``given`` centroids ``(k, d)`` along directions of theirs."""
        mean = given.mean(0)  # rows are not centred: what they share lies along it
        centred = Centred.about(mean, given)
        product = cls(centred, Subspace(centred.centroids, DIRECTIONS, mean))
        product.size = _SAMPLE
        return product

    def score(self, rows: Tensor, found: Found) -> bool:
        """Fill in what is ``found`` of ``rows (b, d)``, if that pays: labels and leads."""
        if not self._sees:
            return False
        n_scored = run(
            projected.label,
            projected.label_on_threads,
            rows.to(self._dtype).contiguous().numpy(),
            self._directions,
            self._seen,
            self._exact,
            self._rounding,
            found.labels.numpy(),
            found.leads.numpy(),
        )
        (k, d), self.n_scored = self._exact[0].shape, self.n_scored + n_scored
        self.size = _rows_at_once(k, d)
        return bool(n_scored <= _SHARE * len(rows) * k)


class KeptLoops:
    """Bounds of scores of rows whose projections are kept, and scores in full where need be.

    Args:
        subspace: the directions of the projections.
        centroids: ``(k, d)``, at least two, shifted as rows are.
        bias: what makes a score of a product ``(k,)``.
        rounding: what the difference of two scores loses, for each unit of a row's norm ``()`` and
            whatever the row ``()``.
    """

    def __init__(
        self, subspace: Subspace, centroids: Tensor, bias: Tensor, rounding: tuple[Tensor, Tensor]
    ) -> None:
        (k, d), norms = centroids.shape, torch.linalg.vector_norm(centroids, dim=1)
        along, rests = subspace.show(centroids)
        aims = torch.cat([along, bias.unsqueeze(1)], dim=1).float()  # (k, m + 1)
        lost = subspace.rounding * bias.abs().max() + vanished(d, norms)
        self._seen = aims.numpy(), rests.float().numpy(), lost.item()
        self._exact = centroids.numpy(), bias.numpy(), centroids.numpy()
        self._rounding = _as_floats(rounding, d, centroids.dtype)
        self._k, self._n_rows, self._n_scored = k, 0, 0
        self._sees = subspace.holds(rests, norms)

    @property
    def pays(self) -> bool:
        """Whether looking promises to be better than to multiply all rows out, and so far was."""
        return self._sees and self._n_scored <= _SHARE * self._n_rows * self._k

    def look(self, kept: Tensor, places: Tensor, rows: Standing, into: Found) -> None:
        """Find the best centroid of each row.

        Args:
            kept: all rows as ``Subspace.project`` writes them ``(n, m + 2)``.
            places: of those to look at ``(b,)``.
            rows: where these stand.
            into: where the norms of all rows stand ``(n,)``, and what is found goes.
        """
        self._n_rows += len(places)
        self._n_scored += run(
            projected.look,
            projected.look_on_threads,
            kept.numpy(),
            places.numpy(),
            rows.matrix.numpy(),
            rows.which.numpy(),
            rows.origin.numpy(),
            into.norms.numpy(),
            self._seen,
            self._exact,
            self._rounding,
            (into.labels.numpy(), into.best.numpy(), into.leads.numpy()),
        )


def _rows_at_once(k: int, d: int) -> int:
    return max(1, _NUMBERS // max(k, d))


def _exact(centred: Centred) -> tuple[Any, ...]:
    """Return centroids, bias and the centroids as they were: see ``compiled/rivals.py``."""
    numbers = centred.centroids, centred.bias, centred.given.contiguous()
    return tuple(part.numpy() for part in numbers)


def _rounding(centred: Centred) -> tuple[float, float, float]:
    return _as_floats(centred.rounding(), centred.given.shape[1], centred.given.dtype)


def _as_floats(
    rounding: tuple[Tensor, Tensor], d: int, dtype: torch.dtype
) -> tuple[float, float, float]:
    """Return what the lead of a score loses: see ``compiled/rivals.py``."""
    per_norm, lost = rounding
    # Squares of differences are added up in float64, whose rounding is all of theirs there.
    per_sq_distance = torch.finfo(dtype).eps * (4 if dtype == torch.float32 else d + 4)
    return per_norm.item(), lost.item(), per_sq_distance
