"""Every kernel in blocks of rows: the path for CPUs, and for any device without its own.

A block is converted, shifted to an origin near the rows and kept in cache while it is multiplied,
reduced and summed, so each pass reads the rows once and never holds more than a block of scores.
Scores need no row norms: ``argmin_j |x - c_j|^2 = argmax_j x'c_j - |c_j|^2 / 2``. The shift
removes the common offset before the product, which is where cancellation would lose digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.layout import (
    compute_dtype,
    origin_of,
    rows_per_block,
    rows_per_part,
    sq_norms_of_centroids,
    sum_dtype,
    unit,
)
from torchkm.kernels.rows import parts
from torchkm.kernels.runs import Scores, find_best
from torchkm.kernels.scratch import room_for

# Numbers of rows and scores that are done at once, and scores that are one product then.
_AT_ONCE, _ONE_PRODUCT = 2**21, 2**17


class _Block(NamedTuple):
    at: slice
    rows: Tensor  # (b, d), converted and shifted; a view of one reused buffer


def nearest(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids."""
    search = _Search(x, centroids, origin)
    for block in _blocks(x, search.shift, rows_per_block(x, len(centroids)), unit_rows):
        search(block)
    return search.labels, search.sq_distances


def labels(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` of the nearest centroids, and how far rows lie off.

    That is squared distances from the origin, added up over each block, ``(m,)``.
    """
    if x.device.type == "cpu" and len(x) * (x.shape[1] + len(centroids)) <= _AT_ONCE:
        return _labels_at_once(x, centroids, unit_rows, origin)
    search, far = _Search(x, centroids, origin), []
    for block in _blocks(x, search.shift, rows_per_block(x, len(centroids)), unit_rows):
        far.append(torch.linalg.vector_norm(block.rows))
        search.label(block)
    return search.labels, torch.stack(far).square_()


def _labels_at_once(
    x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Do what ``labels`` does in fewer calls, which take longer than their work on few numbers."""
    shift = origin.to(compute_dtype(x.dtype, centroids.dtype))
    centred, n, k = centroids - shift, len(x), len(centroids)
    bias = sq_norms_of_centroids(centred).div_(-2)
    best, found = centred.new_empty(n), torch.empty(n, dtype=torch.int64, device="cpu")
    if n * k <= _ONE_PRODUCT:
        rows = x.to(shift.dtype)
        rows = (unit(rows) if unit_rows else rows) - shift
        scores = torch.addmm(bias.unsqueeze(1), centred, rows.T)  # (k, n)
        find_best(scores.unsqueeze(0), best, found)
    else:
        rows = next(_blocks(x, shift, n, unit_rows)).rows
        runs = Scores(room_for("scores in runs", n, k, centred))
        runs.fill(rows, centred, bias)
        runs.best(best, found)
    return found, torch.linalg.vector_norm(rows).square_().unsqueeze(0)


def nearest_and_sums(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``labels (n,)``, ``sq_distances (n,)``, ``counts (k,)`` and ``sums (k, d)``."""
    search = _Search(x, centroids, origin)
    totals = _Totals(search.shift, len(centroids), sample_weight)
    for block in _blocks(x, search.shift, rows_per_block(x, len(centroids)), unit_rows):
        totals.add(block, search(block))
    counts, sums = totals.finish()
    return search.labels, search.sq_distances, counts, sums


def inertia_and_sums_of_each(
    x: Tensor,
    starts: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``inertia (r,)``, ``counts (r, k)`` and ``sums (r, k, d)`` of ``r`` sets of centroids.

    One read of the rows and one product serve all ``starts (r, k, d)``.
    """
    r, k, d = starts.shape
    shift = origin.to(starts.dtype)
    centred = (starts - shift).view(r * k, d)
    bias = sq_norms_of_centroids(centred) / -2
    size = min(rows_per_block(x, r * k), len(x))
    scores = Scores(room_for("scores in runs", size, r * k, centred))
    best = bias.new_empty(size, r)
    labels = torch.empty(size, r, dtype=torch.int64, device=x.device)
    totals = _Totals(shift, r * k, sample_weight)
    inertia = x.new_zeros(r, dtype=sum_dtype(x.device))
    for block in _blocks(x, shift, size, unit_rows):
        b = len(block.rows)
        scores.fill(block.rows, centred, bias)
        scores.best(best[:b], labels[:b])
        sq_distances = (_sq_norms(block.rows).unsqueeze(1) - 2 * best[:b]).clamp_(min=0)  # (b, r)
        weight = 1 if sample_weight is None else sample_weight[block.at].unsqueeze(1)
        inertia += (sq_distances * weight).sum(0, dtype=inertia.dtype)
        totals.add(block, labels[:b])
    counts, sums = totals.finish()
    return inertia, counts.view(r, k), sums.view(r, k, d)


def segment_sums(
    x: Tensor, labels: Tensor, k: int, sample_weight: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Return ``counts (k,)`` and ``sums (k, d)`` of the rows with each label."""
    shift = x.new_zeros(x.shape[1], dtype=compute_dtype(x.dtype))  # (d,)
    totals = _Totals(shift, k, sample_weight)
    for block in _blocks(x, shift, rows_per_block(x, 0), unit_rows):
        totals.add(block, labels[block.at])
    return totals.finish()


def sides(x: Tensor, labels: Tensor, pairs: Tensor, unit_rows: bool, origin: Tensor) -> Tensor:
    """Return which of the two centroids ``pairs (k, 2, d)`` of its label is nearer each row."""
    shift = origin.to(compute_dtype(x.dtype, pairs.dtype))
    first, second = (pairs - shift).unbind(1)  # (k, d)
    normals = second - first
    limits = (second.square().sum(1) - first.square().sum(1)) / 2  # (k,)
    out = torch.empty_like(labels)
    for block in _blocks(x, shift, rows_per_block(x, x.shape[1]), unit_rows):
        label = labels[block.at]
        along = block.rows.mul_(normals[label]).sum(1)  # (b,)
        out[block.at] = along > limits[label]
    return out


def distances(x: Tensor, centroids: Tensor, unit_rows: bool) -> Tensor:
    """Return squared distances ``(n, k)``, exact to the digits of the compute dtype.

    The expanded form is taken in float64 where there is one: a row that sits on a centroid
    comes out near 1e-16 of its norm, and the root of that is still small.
    """
    dtype = sum_dtype(x.device)
    shift = origin_of(x, unit_rows).to(dtype)  # (d,)
    centred = centroids.to(dtype) - shift
    n, k, norms = len(x), len(centroids), _sq_norms(centred)
    size = rows_per_block(x, k)
    out = x.new_empty(n, k, dtype=compute_dtype(x.dtype, centroids.dtype))
    room = out if out.dtype == dtype else room_for("distances", min(size, n), k, centred)
    for block in _blocks(x, shift, size, unit_rows):
        some = room[block.at] if room is out else room[: len(block.rows)]  # (b, k)
        torch.add(_sq_norms(block.rows).unsqueeze(1), norms, out=some)
        some.addmm_(block.rows, centred.T, alpha=-2).clamp_(min=0)
        if room is not out:
            out[block.at] = some
    return out


def sq_differences(
    x: Tensor, centroids: Tensor, labels: Tensor, index: Tensor | None, unit_rows: bool
) -> Tensor:
    """Return squared distances ``(m,)`` of rows ``index`` to the centroids of ``labels (n,)``."""
    m, d = len(labels if index is None else index), x.shape[1]
    out, size = centroids.new_empty(m), rows_per_part(d, x.device)
    buffer = room_for("rows of a block", min(size, m), d, centroids)
    for at in parts(slice(0, m), size):
        some = at if index is None else index[at]
        rows = x[some].to(centroids.dtype)
        apart = torch.index_select(centroids, 0, labels[some], out=buffer[: len(rows)])  # (b, d)
        apart.sub_(unit(rows) if unit_rows else rows)
        out[at] = _sq_norms(apart)
    return out


class _Search:
    """Nearest centroids of one block at a time, into arrays for all rows."""

    def __init__(self, x: Tensor, centroids: Tensor, origin: Tensor) -> None:
        dtype = compute_dtype(x.dtype, centroids.dtype)
        centroids = centroids.to(dtype)
        self.shift = origin.to(dtype)  # (d,)
        self._centred = centroids - self.shift  # (k, d)
        self._bias = sq_norms_of_centroids(self._centred) / -2  # (k,)
        n, k = len(x), len(centroids)
        size = min(rows_per_block(x, k), n)
        self._scores = Scores(room_for("scores in runs", size, k, self._centred))
        self.labels = torch.empty(n, dtype=torch.int64, device=x.device)
        self.sq_distances = x.new_empty(n, dtype=dtype)

    def __call__(self, block: _Block) -> Tensor:
        """Fill in one block and return its ``labels (b,)``."""
        labels, best = self.label(block)
        best.mul_(-2).add_(_sq_norms(block.rows)).clamp_(min=0)
        return labels

    def label(self, block: _Block) -> tuple[Tensor, Tensor]:
        """Return the ``labels (b,)`` of one block, and their scores where distances go."""
        labels, best = self.labels[block.at], self.sq_distances[block.at]
        self._scores.fill(block.rows, self._centred, self._bias)
        self._scores.best(best, labels)
        return labels, best


class _Totals:
    """Counts and sums, added up in float64: the sum of float32 rows loses no digit.

    The rows arrive shifted; ``finish`` puts the shift back.
    """

    def __init__(self, shift: Tensor, k: int, sample_weight: Tensor | None) -> None:
        dtype = sum_dtype(shift.device)
        self._shift = shift.to(dtype)
        self._sample_weight = sample_weight
        self._counts = shift.new_zeros(k, dtype=dtype)
        self._sums = shift.new_zeros(k, len(shift), dtype=dtype)
        size = rows_per_part(len(shift), shift.device)
        self._part = room_for("rows to add", size, len(shift), self._sums)

    def add(self, block: _Block, labels: Tensor) -> None:
        """Add each row to the cluster of its label; of each of them, where there are ``(b, r)``."""
        rows, size, labels = block.rows, len(self._part), labels.view(len(labels), -1)
        if self._sample_weight is None:
            self._counts += torch.bincount(labels.flatten(), minlength=len(self._counts))
        else:
            weight = self._sample_weight[block.at].to(self._counts.dtype)
            for into in labels.T:
                self._counts.index_add_(0, into, weight)
            # A buffer of ours, read for the last time.
            rows = rows.mul_(weight.to(rows.dtype).unsqueeze(1))
        for part, some in zip(torch.split(rows, size), torch.split(labels, size), strict=True):
            copy = self._part[: len(part)].copy_(part)
            for into in some.T:
                self._sums.index_add_(0, into, copy)

    def finish(self) -> tuple[Tensor, Tensor]:
        return self._counts, self._sums.addcmul_(self._counts.unsqueeze(1), self._shift)


def _blocks(x: Tensor, shift: Tensor, size: int, unit_rows: bool) -> Iterator[_Block]:
    """Yield the rows block by block, converted to the dtype of ``shift`` and shifted by it."""
    buffer = room_for("rows of a block", min(size, len(x)), len(shift), shift)
    for start in range(0, len(x), size):
        at = slice(start, min(start + size, len(x)))
        rows = buffer[: at.stop - at.start]
        if unit_rows:
            torch.sub(unit(x[at].to(rows.dtype)), shift, out=rows)
        elif x.dtype == rows.dtype:
            torch.sub(x[at], shift, out=rows)
        else:
            rows.copy_(x[at]).sub_(shift)
        yield _Block(at, rows)


def _sq_norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1).square_()  # (b, d) -> (b,)
