"""Narrow rows that are all scored in each pass, in one loop."""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.compact import ANEW, Compact
from torchkm.kernels.compiled import kept
from torchkm.kernels.compiled.jit import run
from torchkm.kernels.layout import RUN
from torchkm.kernels.rows import OrderedRows, parts
from torchkm.kernels.runs import count

# Rows that are shifted at once, and runs that are worth more than one thread.
_ROWS, _MANY = 2**12, 2**5


class CompactLoops(Compact):
    """Rows kept in runs, side by side."""

    def __init__(self, rows: OrderedRows, sample_weight: Tensor | None, k: int) -> None:
        super().__init__(rows, sample_weight, k)
        n, d = rows.x.shape
        self._columns = torch.zeros(count(n), d, RUN, dtype=rows.origin.dtype).numpy()
        self._of_rows = self._columns[:0]
        self._weight_of = self._weights.numpy()

    def losses(self, centroids: Tensor, n_rows: int) -> Tensor:
        """See ``Compact``."""
        self._aim_at(centroids)
        out = torch.zeros_like(self.counts)
        labels = self._labels[self._turn][:n_rows]
        kept.losses(self._columns, self._against_array, self._weight_of, labels, out.numpy())
        return out

    def _keep(self, new: slice) -> tuple[float, float]:
        buffer = self._ordered.buffer(_ROWS)
        of_all = weighted = 0.0
        for places in parts(new, _ROWS):
            rows = self._ordered.shifted(places, buffer).numpy()
            found = kept.keep(rows, places.start, self._weight_of, self._columns)
            of_all, weighted = of_all + found[0], weighted + found[1]
        self._of_rows = self._columns[: count(self._n_rows)]
        return of_all, weighted

    def _find_labels(self) -> None:
        args = self._of_rows, self._against_array, self._labels[self._turn]
        if len(self._of_rows) < _MANY:
            kept.label_runs(*args)
        else:
            run(kept.label_runs, kept.label_runs_on_threads, *args)

    def _add_up(self, anew: bool) -> int:
        before, now = self._labels[1 - self._turn], self._labels[self._turn]
        share = -1.0 if anew else ANEW
        return kept.add_up(self._of_rows, self._weight_of, before, now, share, self._all_totals)

    def _count_all(self) -> None:
        now = self._labels[self._turn]
        kept.add_up(self._of_rows, self._weight_of, now, now, -1.0, self._all_totals)
