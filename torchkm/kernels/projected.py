"""Scores along a few directions that prove themselves, and whole rows where they cannot.

Rows are projected as they come in, and again when they have grown in number, onto directions that
the centroids lie along by then. A pass reads the projections, and of some rows the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torchkm.kernels import compiled
from torchkm.kernels.direct import DirectScorer, Entered, Scored
from torchkm.kernels.layout import rows_of
from torchkm.kernels.rivals import Fetch, Found, among
from torchkm.kernels.rows import OrderedRows, Places, Standing, length, numbers_of, parts
from torchkm.kernels.subspace import Aim, Subspace, width

if TYPE_CHECKING:
    from torchkm.kernels.compiled.look import KeptLoops

# So many, and so many in loops, where rivals cost less.
_DIRECTIONS, _IN_LOOPS = 96, 40

# Rows that have grown by this factor are projected onto new directions.
_GROWN = 1.5


class ProjectedScorer:
    """Scores rows by their projections; labels, once proven, are those of whole rows."""

    def __init__(self, rows: OrderedRows, k: int) -> None:
        self._rows = rows
        self._exact = DirectScorer(rows, k)
        self.precision = self._exact.precision
        self.norms = self._exact.norms  # (n,)
        self._in_loops = compiled.available()
        self._m = _IN_LOOPS if self._in_loops else _DIRECTIONS
        self._left = torch.empty(len(rows), width(self._m), device="cpu")
        self._buffer = rows.buffer(rows_of(k, self.norms.device))
        self._at_once = len(rows) if self._in_loops and rows.stand else len(self._buffer)
        self._n_projected = 0  # when the directions were chosen
        self._pays = True  # since then

    @property
    def n_rescored(self) -> int:
        """How many rows were scored in full so far."""
        return self._exact.n_scored

    def enter(self, places: slice) -> Iterator[Entered]:
        """Measure, project and label rows that come in, some at a time."""
        if places.stop >= _GROWN * self._n_projected:
            self._choose_directions(places)
        for part in parts(places, len(self._buffer)):
            if not self._pays:
                yield from self._exact.enter(part)
                continue
            rows = self._rows.shifted(part, self._buffer)
            torch.linalg.vector_norm(rows, dim=1, out=self.norms[part])
            found = self._room(part)
            self._subspace.project(rows, found.norms, self._left[part])
            self._look(part, found, rows)
            yield Entered(part, rows, self._in_full(part, _scored(found)))
            self._pays = self._aim.pays

    def aim(self, centred: Tensor) -> None:
        """Take the centroids ``(k, d)``, shifted, that rows are to be scored against."""
        self._exact.aim(centred)
        self._centred = centred
        if self._n_projected:
            self._aim = self._aimed()

    def score(self, places: Places, labels: Tensor, proven: bool = True) -> Scored:
        """Score the rows of ``places``; what ``labels (b,)`` they last had does not matter here.

        All of them are ``proven``, wanted or not.
        """
        if not self._pays:
            return self._exact.score(places, labels)
        found = self._room(places)
        start = 0
        for part in parts(places, self._at_once):
            at = slice(start, start + length(part))
            self._look(part, found.part(at))
            start = at.stop
        self._pays = self._aim.pays
        return self._in_full(places, _scored(found))

    def leads(self, places: Places, labels: Tensor) -> Tensor:
        """Return the leads ``(b,)`` of rows: all in full, as bounds of them can be far off."""
        return self._exact.score(places, labels).leads

    def _choose_directions(self, new: slice) -> None:
        """Project the rows before the ``new`` ones onto directions of the centroids of today."""
        self._subspace = Subspace(self._centred, self._m)
        self._n_projected, self._aim = new.stop, self._aimed()
        self._pays = self._aim.pays
        if not self._pays:
            return
        for part in parts(slice(0, new.start), len(self._buffer)):
            rows = self._rows.shifted(part, self._buffer)
            self._subspace.project(rows, self.norms[part], self._left[part])

    def _aimed(self) -> Aim | KeptLoops:
        centred, bias, rounding = self._centred, -self._exact.half_norms, self._exact.rounding
        if not self._in_loops:
            return Aim(self._subspace, centred, bias, rounding, centred)
        from torchkm.kernels.compiled.look import KeptLoops

        return KeptLoops(self._subspace, centred, bias, rounding)

    def _look(self, places: Places, found: Found, rows: Tensor | None = None) -> None:
        """Look at the projections of rows, and where need be at ``rows (b, d)``: as they are."""
        if isinstance(self._aim, Aim):
            fetch = self._fetching(places) if rows is None else among(rows, rows.dtype)
            self._aim.look(self._left[places], fetch, found)
            return
        if rows is None:
            standing = self._rows.standing(places, self._buffer)
        else:
            standing = Standing.alone(rows)
        into = found._replace(norms=self.norms)
        self._aim.look(self._left, numbers_of(places), standing, into)

    def _fetching(self, places: Places) -> Fetch:
        def fetch(at: Tensor) -> tuple[Tensor, Tensor]:
            rows = self._rows.shifted(_within(places, at), self._buffer)
            return rows, torch.arange(len(rows), device="cpu")

        return fetch

    def _in_full(self, places: Places, scored: Scored) -> Scored:
        """Score rows that are still in doubt."""
        doubtful = torch.nonzero(~(scored.leads > 0)).squeeze(1)  # (m,)
        if not len(doubtful):
            return scored
        exact = self._exact.score(_within(places, doubtful), scored.labels[doubtful])
        return Scored(*(a.index_copy(0, doubtful, b) for a, b in zip(scored, exact, strict=True)))

    def _room(self, places: Places) -> Found:
        found = Found.room(length(places), self.norms.dtype)
        return found._replace(norms=self.norms[places])


def _scored(found: Found) -> Scored:
    labels, best, leads, norms = found
    return Scored(labels, norms.square().sub_(best, alpha=2).clamp_(min=0), leads)


def _within(places: Places, at: Tensor) -> Tensor:
    """Return the places of those ``at (m,)`` among ``places``."""
    return at + places.start if isinstance(places, slice) else places[at]
