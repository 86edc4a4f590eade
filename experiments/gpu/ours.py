"""Our passes that ``benchmark.py --device cuda`` times: all that it calls of ``Passes`` is here."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from gpu.contenders import Loop

# Where a pass is in ``history``: rows whose label changed, and those that were scored again.
_MOVED, _RESCORED = 2, 4


class Runs:
    """Our passes over the same rows from the same starts, made ready once for each precision."""

    def __init__(self, x: Tensor, starts: Tensor) -> None:
        self.x, self.starts = x, starts
        self._runs: dict[str, Any] = {}

    def __call__(self, precision: str) -> Any:
        """Return the run in ``precision``."""
        if precision not in self._runs:
            # By name, as a machine without a GPU may have no Triton.
            kernels = importlib.import_module("torchkm.kernels.gpu.passes")
            run = kernels.Passes(self.x, self.starts, precision=precision, max_iter=1000)
            run.begin()
            self._runs[precision] = run
        return self._runs[precision]


class Ours(Loop):
    """torchkm's passes: after the first, only rows whose label changed are moved.

    Args:
        runs: of the rows.
        precision: of the product.
        options: of ``Passes.advance``: ``anew``, all rows are added up in every pass; ``proven``,
            labels are those of float32.
    """

    ours = True

    def __init__(self, runs: Runs, precision: str = "auto", **options: bool) -> None:
        self._run, self._starts, self._options = runs(precision), runs.starts, options
        self._n = runs.x.shape[1]
        exact = precision == "float32"
        self.certain = exact or options.get("proven", False)
        self.itemsize = 4 if exact else min(2, runs.x.element_size())
        self.rate, self.products = ("tf32", 3) if exact else ("fp16", 1)

    def restart(self) -> None:
        """Go back to the starts; the next pass adds all rows up."""
        self._run.restart(self._starts)

    def advance(self, count: int) -> None:
        """Enqueue passes."""
        self._run.advance(count, **self._options)

    def found(self) -> tuple[Tensor, Tensor]:
        """Return copies of labels and means."""
        return self._run.labels.clone(), self._run.centroids.clone()

    def details(self, warm: int, count: int) -> dict[str, Any]:
        """Return shares of the rows that were moved and looked at again, in a pass on average.

        Raises:
            RuntimeError: a problem was done before the last pass, which then took no time.
        """
        state = self._run.state
        made = int(state.n_passes.min())
        if made < warm + count:
            raise RuntimeError(f"stood still after {made} of {warm + count} passes")
        figures = state.history[:, warm : warm + count].mean((0, 1)) / self._n
        return {"moved": float(figures[_MOVED]), "rescored": float(figures[_RESCORED])}
