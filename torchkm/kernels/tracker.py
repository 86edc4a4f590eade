"""Labels that follow centroids on the move, and sums that follow the labels.

A row is scored against all centroids once. From then on it keeps its label unscored for as long
as its lead lasts: its own centroid may come no further away, and no other come nearer, than the
difference of the two distances (Hamerly 2010, doi:10.1137/1.9781611972801.12). Sums change by the
rows whose label does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.direct import Scored
from torchkm.kernels.layout import rows_per_part, sum_dtype
from torchkm.kernels.precision import in_full_precision
from torchkm.kernels.rows import OrderedRows, Places, length, parts, split_at
from torchkm.kernels.scorer import scorer

# Gathering rows costs about what scoring them does: where more than this share has to be scored,
# all are.
_DENSE_SHARE = 0.7

# Rows whose scores and bounds are held at once.
_ROWS_AT_ONCE = 2**16

# The inertia from sums loses its digits where it is this much smaller than that about the origin.
CANCELLED = {torch.float32: 0.05, torch.float64: 1e-4}


class Followed(NamedTuple):
    """What one pass did.

    Attributes:
        n_changed: rows whose label changed, new rows among them.
        n_scored: rows that were scored; the others kept their label unseen.
        n_rescored: rows among them that a first look could not decide.
        n_empty: clusters that hold no weight.
        largest_norm: of the rows that came in, or a bound of it; None if none did.
    """

    n_changed: int
    n_scored: int
    n_rescored: int
    n_empty: int
    largest_norm: float | None


class Tracker:
    """Rows that come in, in order, and follow their nearest centroid.

    Attributes:
        counts: summed weight of each cluster, ``(k,)``.
        sq_norms: weighted sum of squared distances of rows from the origin.
        cancelled: share of it below which the inertia has lost digits.
    """

    def __init__(
        self, rows: OrderedRows, sample_weight: Tensor | None, k: int, precision: str = "auto"
    ) -> None:
        n, d = rows.x.shape
        device, dtype = rows.x.device, sum_dtype(rows.x.device)
        self._rows, self._weight, self._k = rows, sample_weight, k
        self.cancelled = CANCELLED[rows.origin.dtype]
        self._scorer = scorer(rows, k, precision)
        self._labels = torch.zeros(n, dtype=torch.int64, device=device)
        self._slack = rows.origin.new_empty(n)  # (n,) by how far centroids may still move
        self._at: Tensor | None = None  # (k, d) the centroids that the labels belong to
        self._n_rows = self._n_labelled = 0
        self._part = rows.buffer(rows_per_part(d, device))
        self._converted = torch.empty_like(self._part, dtype=dtype)
        self._members = torch.zeros(k, dtype=torch.int64, device=device)  # rows with weight
        self.counts = torch.zeros(k, dtype=dtype, device=device)
        self._sums = torch.zeros(k, d, dtype=dtype, device=device)  # of rows less the origin
        self.sq_norms = torch.zeros((), dtype=dtype, device=device)

    @property
    def precision(self) -> str:
        """The dtype that most rows are scored in."""
        return self._scorer.precision

    @property
    def labels(self) -> Tensor:
        """Labels of the rows so far, by place."""
        return self._labels[: self._n_labelled]

    @property
    def n_rows(self) -> int:
        """How many rows have come in."""
        return self._n_rows

    @property
    def sums(self) -> Tensor:
        """Weighted sum of the rows of each cluster, ``(k, d)``."""
        origin = self._rows.origin.to(self._sums.dtype)
        return torch.addcmul(self._sums, self.counts.unsqueeze(1), origin)

    @property
    def means(self) -> Tensor:
        """Weighted mean of the rows of each cluster, ``(k, d)``; not a number where none are."""
        origin = self._rows.origin.to(self._sums.dtype)
        return torch.addcdiv(origin, self._sums, self.counts.unsqueeze(1))

    @property
    def weight(self) -> float:
        """Summed weight of the rows that have a label."""
        return float(self.counts.sum())

    @property
    def variance(self) -> float:
        """Mean variance of a feature over the rows that have a label."""
        mean = self._sums.sum(0) / self.weight  # (d,), less the origin
        return float(self.sq_norms / self.weight - mean.square().sum()) / len(mean)

    def admit(self, n_rows: int) -> None:
        """Let rows in until there are ``n_rows``, when centroids are followed next."""
        self._n_rows = n_rows

    @in_full_precision
    def follow(self, centroids: Tensor, proven: bool = True) -> Followed:
        """Bring labels, counts and sums up to ``centroids (k, d)``.

        Labels that are not ``proven`` may be off by the rounding of bfloat16.
        """
        centred = centroids.to(self._rows.origin.dtype) - self._rows.origin
        self._scorer.aim(centred)
        before, new = self._scorer.n_rescored, slice(self._n_labelled, self._n_rows)
        self._drift(centred)
        self._enter(new)
        places = self._active(new.stop if proven else new.start)
        n_changed = self._score(places, new.start, proven)
        n_rescored = self._scorer.n_rescored - before
        empty = self._clear_empty()
        n_scored = length(split_at(places, new.start)[0]) + length(new)
        largest = float(self._scorer.norms[new].max()) if length(new) else None
        n_changed += length(new)
        return Followed(n_changed, n_scored, n_rescored, int(empty.sum()), largest)

    def recount(self) -> None:
        """Add up all rows anew: what rounding left behind as rows came and went is gone."""
        for total in (self._members, self.counts, self._sums):
            total.zero_()
        self._move(slice(0, self._n_labelled), self.labels, 1)

    @in_full_precision
    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """Return by how much the inertia of the first ``n_rows`` would rise without a centroid.

        For each of ``centroids (k, d)``, near those that were followed last; ``(k,)``. The rows of
        a centroid would go to the second nearest.
        """
        places = slice(0, n_rows)
        self._scorer.aim(centroids.to(self._rows.origin.dtype) - self._rows.origin)
        labels = self._labels[places].clone()
        leads = self._scorer.leads(places, labels).to(self.counts.dtype)
        leads = leads.clamp_(min=0).mul_(2)
        weights = self._weights(places)
        if weights is not None:
            leads *= weights
        return torch.zeros_like(self.counts).index_add_(0, labels, leads)

    def inertia(self, centroids: Tensor) -> float:
        """Return the inertia of the labels about ``centroids (k, d)``."""
        centred = centroids.to(self._sums.dtype) - self._rows.origin
        across = (centred * self._sums).sum()
        return float(self.sq_norms - 2 * across + self.counts @ centred.square().sum(1))

    def by_row(self, by_place: Tensor) -> Tensor:
        """Bring values of the rows so far from their places to where the rows lie, ``(n,)``."""
        out = by_place.new_zeros(len(self._rows))
        out[self._rows.index(slice(0, len(by_place)))] = by_place
        return out

    def _drift(self, centred: Tensor) -> None:
        """Take what the centroids moved off the slack of the rows that have a label."""
        if self._at is not None:
            moved = torch.linalg.vector_norm(centred - self._at, dim=1)  # (k,)
            moved *= 1 + centred.shape[1] * torch.finfo(moved.dtype).eps
            others = torch.full_like(moved, moved.max())
            others[moved.argmax()] = moved.topk(min(2, len(moved))).values[-1]
            self._slack[: self._n_labelled] -= (moved + others)[self.labels]
        self._at = centred

    def _enter(self, new: slice) -> None:
        """Take new rows in, with the labels of a first look."""
        self._n_labelled = new.stop
        for places, rows, scored in self._scorer.enter(new):
            self._labels[places] = scored.labels
            self._slack[places] = self._lasting(places, scored)
            self._add(rows, scored.labels, self._weights(places), 1)
        squares = self._scorer.norms[new].to(self.counts.dtype).square()
        weights = self._weights(new)
        self.sq_norms += squares.sum() if weights is None else squares @ weights

    def _active(self, stop: int) -> Places:
        """Return the places of the rows below ``stop`` that have to be scored."""
        places = torch.nonzero(self._slack[:stop] <= 0).squeeze(1)
        return slice(0, stop) if len(places) > _DENSE_SHARE * stop else places

    def _score(self, places: Places, first_new: int, proven: bool) -> int:
        """Score rows, move the sums of those that change, return how many of the old ones did."""
        some = parts(places, _ROWS_AT_ONCE)
        return sum(self._score_some(part, first_new, proven) for part in some)

    def _score_some(self, places: Places, first_new: int, proven: bool) -> int:
        old = self._labels[places].clone()
        scored = self._scorer.score(places, old, proven)
        self._slack[places] = self._lasting(places, scored)
        self._labels[places] = scored.labels
        changed = torch.nonzero(scored.labels != old).squeeze(1)  # (m,)
        where = changed + places.start if isinstance(places, slice) else places[changed]
        self._move(where, old[changed], -1)
        self._move(where, scored.labels[changed], 1)
        return int(torch.searchsorted(where, first_new))

    def _lasting(self, places: Places, scored: Scored) -> Tensor:
        """Return by how far centroids may move until the labels are in doubt, ``(b,)``."""
        norms = self._scorer.norms[places]
        sq_distances = scored.sq_distances + 4 * torch.finfo(norms.dtype).eps * norms.square()
        leads = 2 * scored.leads.clamp(min=0)
        # The difference of the two distances, without subtracting one from the other.
        return leads / ((sq_distances + leads).sqrt_() + sq_distances.sqrt())

    def _move(self, places: Places, labels: Tensor, sign: int) -> None:
        """Add rows to the clusters of ``labels (b,)``, or take them away."""
        into = parts(labels, len(self._part))
        for part, label in zip(parts(places, len(self._part)), into, strict=True):
            rows = self._rows.shifted(part, self._part)
            self._add(rows, label, self._weights(part), sign)

    def _add(self, rows: Tensor, labels: Tensor, weights: Tensor | None, sign: int) -> None:
        """Add shifted ``rows (b, d)`` to the clusters of ``labels (b,)``, or take them away."""
        if weights is None:
            members = torch.bincount(labels, minlength=self._k)
            self.counts.add_(members, alpha=sign)
        else:
            members = torch.bincount(labels[weights > 0], minlength=self._k)
            self.counts.index_add_(0, labels, weights, alpha=sign)
        self._members.add_(members, alpha=sign)
        for part in parts(slice(0, len(rows)), len(self._converted)):
            converted = self._converted[: length(part)].copy_(rows[part])
            if weights is not None:
                converted.mul_(weights[part].unsqueeze(1))
            self._sums.index_add_(0, labels[part], converted, alpha=sign)

    def _clear_empty(self) -> Tensor:
        """Return which clusters ``(k,)`` are empty, without what rounding left in their totals."""
        empty = self._members == 0
        self.counts.masked_fill_(empty, 0)
        self._sums.masked_fill_(empty.unsqueeze(1), 0)
        return empty

    def _weights(self, places: Places) -> Tensor | None:
        if self._weight is None:
            return None
        return self._weight[self._rows.index(places)].to(self.counts.dtype)
