"""Narrow rows that are all scored in each pass, in one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, get_num_threads

from torchkm.kernels.compact import Array, Compact
from torchkm.kernels.compiled import descent, kept
from torchkm.kernels.compiled.columns import RUN, room
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.descending import Descended, Descending, Pace
from torchkm.kernels.rows import OrderedRows, parts
from torchkm.kernels.tracker import Followed

Loop = Callable[..., Any]

# Rows that are shifted at once, and numbers multiplied in a pass that are worth several threads.
_ROWS, _MANY = 2**12, 2**18

# Numbers multiplied in one call, about a tenth of a second's: no key ends it before.
_AT_ONCE = 2**31


class CompactLoops(Compact, Descending):
    """Rows kept in runs, side by side."""

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        super().__init__(rows, sample_weight, k)
        n, d = rows.x.shape
        n_runs = -(-n // RUN)
        self._columns = room(n_runs * d, self._against_array[0]).reshape(n_runs, d, RUN)
        self._of_rows = self._columns[:0]
        self._weight_of = self._weights.numpy()

    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """See ``Compact``."""
        self._aim_at(centroids)
        out = torch.zeros_like(self.counts)
        rows, labels = (self._of_rows, self._against_array), self._labels[self._turn][:n_rows]
        self._run(kept.losses, kept.losses_on_threads, *rows, self._weight_of, labels, out.numpy())
        return out

    def descend(self, centroids: Tensor, means: Tensor, pace: Pace, most: int) -> Descended:
        """See ``Descending``."""
        # Rounding decides the ties of Lloyd's passes, for scikit-learn's and so for these.
        aimed = pace.most_momentum == 0
        if aimed:
            self._aim_at(centroids)
        self._at = None  # passes aim anew
        figures = np.empty((max(1, min(most, _AT_ONCE // self._n_products)), 3))
        centroids, means = centroids.clone(), means.clone()
        rows = self._of_rows, self._weight_of, self._origin_array, self._n_rows, self.sq_norms
        args = (
            rows,
            (self._named_array, self._turn, self._all_totals, self._anew),
            (self._aim, self._against_array, aimed),
            centroids.numpy(),
            means.numpy(),
            (pace.most_momentum, pace.n_steps, pace.inertia),
            (pace.still or 0.0, pace.still is None, *pace.rounding),
            figures,
        )
        loops = (partial(descent.descend, *args, threads) for threads in (None, get_num_threads()))
        one, several = loops
        made, n_empty, n_steps = self._run(one, several)
        self._turn, self._anew = (self._turn + made + (n_empty > 0)) % 2, False
        unfinished = None
        if n_empty:
            unfinished = Followed(int(figures[made, 2]), self._n_rows, 0, n_empty, None)
        return Descended(centroids, means, n_steps, figures[:made].tolist(), unfinished)

    def _keep(self, new: slice) -> tuple[float, float]:
        of_all = weighted = 0.0
        for first, rows, origin in self._rows_of(new):
            found = kept.keep(rows, origin, first, self._weight_of, self._columns)
            of_all, weighted = of_all + found[0], weighted + found[1]
        self._of_rows = self._columns[: -(-self._n_rows // RUN)]
        return of_all, weighted

    def _rows_of(self, new: slice) -> Iterator[tuple[int, Array, Array]]:
        """Yield new rows from a place on, and what is still to be taken from them."""
        origin, as_they_lie = self._ordered.origin, self._ordered.as_they_lie(new)
        if as_they_lie is not None:
            yield new.start, as_they_lie.numpy(), origin.numpy()
            return
        buffer, zero = self._ordered.buffer(_ROWS), np.zeros_like(origin.numpy())
        for places in parts(new, _ROWS):
            yield places.start, self._ordered.shifted(places, buffer).numpy(), zero

    def _find_labels(self) -> None:
        args = self._of_rows, self._against_array, self._labels[self._turn]
        self._run(kept.label_runs, kept.label_runs_on_threads, *args)

    def _run(self, loop: Loop, on_threads: Loop, *args: Any) -> Any:
        """Run a loop over all rows and centroids, on threads where that pays."""
        return run(loop, on_threads, *args) if self._n_products >= _MANY else loop(*args)

    @property
    def _n_products(self) -> int:
        return self._of_rows.size * len(self._aim)

    def _add_up(self, anew: bool) -> int:
        before, now = self._labels[1 - self._turn], self._labels[self._turn]
        rows = self._of_rows, self._weight_of
        return kept.add_up(*rows, before, now, anew, self._all_totals, None)

    def _count_all(self) -> None:
        self._add_up(anew=True)
