"""Sums by guessed labels: those of a product in fewer digits than the rows have, or of fewer.

In whole numbers of eight bits a guess errs by what the rows and centroids of a batch are rounded
to. Where that is coarse beside their distances, as numbers far off make it, they are multiplied in
bfloat16: there it errs between centroids whose squared distances differ by less than about a
percent, as each score is half a squared distance, rounded to eight bits. Where both are slow, wide
rows are looked at along the few directions that centroids mostly lie along: in loops, if those can
be compiled, which find the labels themselves. Else they are guessed, once what is left of the
centroids is a few percent of such a distance. Elsewhere a guess is float32's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from torchkm.kernels import bfloat16, compiled, int8
from torchkm.kernels.bfloat16 import LARGEST_NORM, SMALLEST_NORM, digits
from torchkm.kernels.layout import compute_dtype, unit
from torchkm.kernels.looks import Centred, fill
from torchkm.kernels.rivals import Found, in_doubt
from torchkm.kernels.rows import parts
from torchkm.kernels.runs import Scores
from torchkm.kernels.scratch import room, room_for
from torchkm.kernels.subspace import Subspace, is_worth_it

# Columns behind the numbers, what the width is rounded up to, and rows at once.
_EXTRA, _TILE, _ROWS_AT_ONCE = 6, 32, 2**10

# Bytes of centroids from which on a guess along directions pays, how many of these, and what may
# lie beyond them: so much of the mean squared distance to the nearest centroid.
_WORTH_A_LOOK, _DIRECTIONS, _BEYOND = 2**18, 64, 1 / 50

# Products that have to be saved for loops to look along directions, and label each row as float32
# does.
_SAVED = 2**26

# In eight bits the error of a score may be this share of the mean squared distance.
_COARSE = 1 / 200


class Directions:
    """Directions that the centroids of one batch after the other mostly lie along.

    They are chosen anew whenever the number of batches has doubled.

    Attributes:
        sq_distance: mean squared distance of the rows of the last batch to their centroids.
        pay: whether it pays to look along them, as far as is known.
    """

    def __init__(self) -> None:
        self._n_batches, self._next = 0, 2
        self.sq_distance, self.pay = 0.0, True
        self._subspace: Subspace | None = None

    def learn(self, sq_distance: float) -> None:
        """Take in the mean squared distance of the rows of a batch to their centroids."""
        self._n_batches += 1
        self.sq_distance = sq_distance

    def of(self, centred: Tensor, m: int, first: Tensor | None = None) -> Subspace | None:
        """Return ``m`` directions that ``centred (k, d)`` lie along, and ``first (d,)`` does.

        None before some batches were learnt from.
        """
        if self._n_batches >= self._next:
            self._next, self.pay = 2 * self._n_batches, True
            self._subspace = Subspace(centred, m, first)
        return self._subspace


def sums(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor, directions: Directions
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return ``counts (k,)``, ``sums (k, d)`` and ``inertia ()`` by guessed labels.

    Nothing where rows are not on a CPU, or too large or too small for the product.
    """
    if x.device.type != "cpu":
        return None
    dtype = compute_dtype(x.dtype, centroids.dtype)
    origin, centroids = origin.to(dtype), centroids.to(dtype)
    found = _in_loops(x, centroids, unit_rows, origin, directions)
    centred = centroids - origin  # (k, d)
    half_norms = centred.square().sum(1) / 2
    if found is None:
        product = _product(x, centred, half_norms, directions)
        found = _in_parts(x, product, unit_rows, origin, len(centroids))
    if found is None:
        return None
    counts, total, sq_norms = found
    across = torch.dot(total.view(-1), centred.view(-1))
    inertia = sq_norms - 2 * across + 2 * counts @ half_norms.double()
    directions.learn(inertia.item() / len(x))
    return counts, total.addcmul_(counts.to(dtype).unsqueeze(1), origin), inertia


def _in_parts(
    x: Tensor, product: _Int8 | _Bfloat16 | _Float32, unit_rows: bool, origin: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return ``counts (k,)``, ``sums (k, d)`` and squares ``()`` of rows less the ``origin``."""
    counts = torch.zeros(k, dtype=torch.float64, device="cpu")
    total = torch.zeros(k, len(origin), dtype=origin.dtype, device="cpu")
    sq_norms = torch.zeros((), dtype=torch.float64, device="cpu")
    buffer = room_for("rows of a block", min(len(x), _ROWS_AT_ONCE), len(origin), origin)
    for part in parts(slice(0, len(x)), _ROWS_AT_ONCE):
        rows = x[part].to(origin.dtype)
        rows = unit(rows) if unit_rows else rows
        rows = torch.sub(rows, origin, out=buffer[: len(rows)])  # (b, d)
        norms = torch.linalg.vector_norm(rows, dim=1)
        if not bool(((norms < LARGEST_NORM) & ((norms > SMALLEST_NORM) | (norms == 0))).all()):
            return None
        sq_norm = norms.square()
        labels = product.labels(rows, sq_norm)
        counts += torch.bincount(labels, minlength=k)
        total.index_add_(0, labels, rows)
        sq_norms += sq_norm.sum(dtype=torch.float64)
    return counts, total, sq_norms


def _in_loops(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor, directions: Directions
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return what ``_in_parts`` does, by labels that are no guesses; nothing where it is in doubt.

    Or where that does not pay.
    """
    k = len(centroids)
    if int8.pays_for(x, k) or bfloat16.pays_for(x, k):
        return None
    if compiled.saves_along_directions(len(x), *centroids.shape) < _SAVED:
        return None
    from torchkm.kernels.compiled import segments
    from torchkm.kernels.compiled.jit import run
    from torchkm.kernels.compiled.look import ProjectedLoops

    mean = centroids.mean(0)
    centred = Centred.about(mean, centroids)
    subspace = directions.of(centred.centroids, compiled.DIRECTIONS, mean)
    if subspace is None or not directions.pay:
        return None
    rows, found = x.to(origin.dtype), Found.room(len(x), origin.dtype)
    rows = (unit(rows) if unit_rows else rows).contiguous()
    n_found = fill(found, 0, rows, ProjectedLoops(centred, subspace))
    if n_found < len(x) or len(in_doubt(found.leads)):
        directions.pay = False
        return None
    total = torch.zeros_like(centroids)
    squares = torch.zeros(-(-len(origin) // segments.NUMBERS), dtype=torch.float64, device="cpu")
    arrays = (part.numpy() for part in (rows, origin, found.labels, total, squares))
    run(segments.add, segments.add_on_threads, *arrays)
    return torch.bincount(found.labels, minlength=k).double(), total, squares.sum()


def _product(
    x: Tensor, centred: Tensor, half_norms: Tensor, directions: Directions
) -> _Int8 | _Bfloat16 | _Float32:
    def otherwise() -> _Bfloat16 | _Float32:
        if bfloat16.pays_for(x, len(centred)):
            return _Bfloat16(centred, half_norms)
        return _Float32(centred, half_norms, _basis(centred, half_norms, directions))

    if not int8.pays_for(x, len(centred)):
        return otherwise()
    return _Int8(centred, half_norms, _COARSE * directions.sq_distance, otherwise)


def _basis(centred: Tensor, half_norms: Tensor, directions: Directions) -> Tensor | None:
    """Return a basis ``(d, m)`` of directions, or none where too much is beyond them."""
    if not is_worth_it(len(centred), centred.shape[1], torch.float32, _WORTH_A_LOOK):
        return None
    subspace = directions.of(centred, _DIRECTIONS)
    if subspace is None:
        return None
    along = centred.float() @ subspace.basis  # (k, m)
    beyond = (2 * half_norms.sum() - along.square().sum()) / len(centred)
    return subspace.basis if beyond.item() <= _BEYOND * directions.sq_distance else None


class _Int8:
    """Scores in eight bits where these are off by no more than some ``error``."""

    def __init__(
        self,
        centred: Tensor,
        half_norms: Tensor,
        error: float,
        otherwise: Callable[[], _Bfloat16 | _Float32],
    ) -> None:
        self._centroids = int8.RoundedCentroids(centred, -half_norms)
        self._rows = int8.RoundedRows(_ROWS_AT_ONCE, centred.shape[1])
        self._product = room("whole product", _ROWS_AT_ONCE, len(centred), torch.int32)
        self._sq_norm = 2 * half_norms.mean().item()
        self._error, self._otherwise = error, cache(otherwise)

    def labels(self, rows: Tensor, sq_norms: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of ``rows (b, d)``."""
        grid = int8.Grid.over(*(end.item() for end in rows.aminmax()))
        error = self._centroids.error(grid, sq_norms.mean().item(), self._sq_norm)
        if error > self._error:
            return self._otherwise().labels(rows, sq_norms)
        marks, product = self._centroids.marks(grid), self._product[: len(rows)]
        self._centroids.multiply(self._rows.round(rows, grid), product)
        marks.write(product)
        return marks.labels(torch.amax(product, 1)).long()


class _Bfloat16:
    def __init__(self, centred: Tensor, half_norms: Tensor) -> None:
        ones = half_norms.new_ones(3, len(half_norms)).float()
        self._right = _operand(centred, torch.stack([*digits(-half_norms.float()), *ones]))

    def labels(self, rows: Tensor, sq_norms: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of ``rows (b, d)``."""
        ones = sq_norms.new_ones(3, len(rows)).float()
        left = _operand(rows, torch.stack([*ones, *digits(sq_norms.float() / -2)]))
        # argmax takes four times as long.
        return (left @ self._right.T).max(1).indices


class _Float32:
    """Scores in float32, along the directions of a ``basis (d, m)`` or none."""

    def __init__(self, centred: Tensor, half_norms: Tensor, basis: Tensor | None) -> None:
        self._basis = basis
        self._against, self._bias = self._seen(centred), -half_norms.float()
        self._scores = Scores(
            room_for("scores in runs", _ROWS_AT_ONCE, len(centred), self._against)
        )

    def labels(self, rows: Tensor, _: Tensor) -> Tensor:
        """Return the labels ``(b,)`` of ``rows (b, d)``."""
        self._scores.fill(self._seen(rows), self._against, self._bias)
        labels = torch.empty(len(rows), dtype=torch.int64, device="cpu")
        self._scores.best(self._bias.new_empty(len(rows)), labels)
        return labels

    def _seen(self, rows: Tensor) -> Tensor:
        return rows.float() if self._basis is None else rows.float() @ self._basis


def _operand(rows: Tensor, behind: Tensor) -> Tensor:
    """Return ``rows (b, d)`` in bfloat16 with the columns ``behind (6, b)`` them."""
    b, d = rows.shape
    width = -(-(d + _EXTRA) // _TILE) * _TILE
    out = torch.empty(b, width, dtype=torch.bfloat16, device="cpu")
    out[:, :d] = rows
    out[:, d : d + _EXTRA] = behind.T
    out[:, d + _EXTRA :] = 0
    return out
