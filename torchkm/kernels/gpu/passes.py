"""Passes over rows on a GPU that need nobody to look on.

All that a pass reads and writes is laid out once. Flags on the device tell kernels which problems
go on; several passes are one CUDA graph, and what they found is read when it suits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.gpu import graphs, launch
from torchkm.kernels.gpu.formats import PRECISIONS, format_of
from torchkm.kernels.gpu.state import Block, State

__all__ = ["PRECISIONS", "Passes"]

# Passes in a graph.
_PER_GRAPH = 4


class Answer:
    """What ``done (b,)`` was when it was asked for."""

    def __init__(self, done: Tensor) -> None:
        on_gpu = done.device.type == "cuda"
        self._done = torch.empty(done.shape, dtype=done.dtype, pin_memory=on_gpu)
        self._done.copy_(done, non_blocking=on_gpu)
        self._event = torch.cuda.Event() if on_gpu else None
        if self._event is not None:
            self._event.record()

    def is_done(self) -> bool:
        """Wait for the answer: whether all problems are done."""
        if self._event is not None:
            self._event.synchronize()
        return bool((self._done != 0).all())


class Passes:
    """Problems of one size, each with its centroids on the way.

    Args:
        x: rows ``(n, d)``, which all problems share, or ``(b, n, d)``.
        starts: centroids ``(k, d)`` or ``(b, k, d)``.
        sample_weight: ``(n,)`` or ``(b, n)``, not negative.
        origin: ``(d,)`` or ``(b, d)``, amid the rows of each problem; their mean if not given.
        precision: one of ``PRECISIONS``.
        max_iter: passes at most.
        shift: squared movement that counts as none.
        momentum: how far a step may be extrapolated; 0 makes Lloyd's passes.
        unit_rows: whether rows, and so centroids, have unit length.
    """

    def __init__(
        self,
        x: Tensor,
        starts: Tensor,
        sample_weight: Tensor | None = None,
        *,
        origin: Tensor | None = None,
        precision: str = "auto",
        max_iter: int = 300,
        shift: float = 0.0,
        momentum: float = 0.0,
        unit_rows: bool = False,
    ) -> None:
        x = x if x.ndim == 3 else x.unsqueeze(0)
        starts = starts if starts.ndim == 3 else starts.unsqueeze(0)
        x = x if x.stride(2) == 1 else x.contiguous()
        if origin is None:
            origin = x.mean(1, dtype=torch.float32)  # (m, d)
        self.form = format_of(x.dtype, precision)
        self.state = State(starts, origin, self.form, max_iter)
        self.state.still.fill_(shift)
        weight = None if sample_weight is None else sample_weight.reshape(-1, x.shape[1])
        self.block = Block(x, weight, len(starts), self.state.width, self.form)
        self._momentum, self._unit = momentum, unit_rows
        self._graphs: dict[tuple[bool, bool], torch.cuda.CUDAGraph] = {}
        self._warm: set[tuple[bool, bool]] = set()
        self.restart(starts)

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.block.x.device

    @property
    def centroids(self) -> Tensor:
        """Where the next pass looks, ``(b, k, d)``."""
        return self.state.centroids

    @property
    def labels(self) -> Tensor:
        """Of the last pass, ``(b, n)`` int32."""
        return self.block.labels

    def restart(self, starts: Tensor) -> None:
        """Begin anew from ``starts (b, k, d)``; the next pass adds all rows up."""
        self.state.restart(starts)
        self.block.labels.fill_(-1)
        self._is_first = True
        self.reopen()

    def reopen(self) -> None:
        """Let all problems go on from where they are."""
        self.state.reopen()

    @launch.on_its_device
    def measure(self) -> Tensor:
        """Measure the rows; return how far ``()`` they reach from the origin.

        That is infinite where a row is not finite.
        """
        extent = launch.measure(self.state, self.block)
        launch.prepare(self.state, self.block)
        return extent

    def variance(self) -> Tensor:
        """Return the mean variance of a feature, ``(b,)``; after ``measure``."""
        x, state = self.block.x, self.state
        spread = (self.block.spreads / state.scale).double().square().mean(1)  # (m,)
        if len(x) > 1:
            apart = x.mean(1, dtype=torch.float32) - state.origin  # (m, d)
            spread -= apart.double().square().sum(1)
        return spread.clamp_min(0).expand(state.b) / state.d

    def begin(self, *, proven: bool = False) -> None:
        """Measure the rows and make the first pass."""
        self.measure()
        self.advance(1, proven=proven)

    @launch.on_its_device
    def advance(self, count: int, *, proven: bool = False, anew: bool = False) -> None:
        """Make ``count`` passes; problems that are done stand still. Does not wait.

        Args:
            count: passes.
            proven: labels are those of float32; otherwise those of the product, as it is rounded.
            anew: add all rows up in every pass, rather than move those whose label changed.
        """
        if self._is_first and count:
            launch.step(self.state, self._unit, from_means=False)
            self._pass(proven, True)
            self._is_first, count = False, count - 1
        on_gpu, way = self.device.type == "cuda", (proven, anew)
        while count:
            if on_gpu and count >= _PER_GRAPH and way in self._warm:
                self._graph(way).replay()
                count -= _PER_GRAPH
                continue
            self._pass(*way)
            self._warm.add(way)
            count -= 1

    @launch.on_its_device
    def look(self) -> None:
        """Bring labels and sums up to the centroids, for all problems, without a step."""
        self.state.done.zero_()
        launch.assign(self.state, self.block, prove=True)
        launch.move(self.state, self.block)
        self.state.counters.zero_()

    @launch.on_its_device
    def rest(self) -> None:
        """Go to the means of the last pass, without a step ahead, and look."""
        self.state.done.fill_(1)
        launch.step(self.state, self._unit, from_means=True)
        self.look()

    @launch.on_its_device
    def inertia(self) -> Tensor:
        """Return the inertia ``(b,)`` of the labels about the centroids, from differences."""
        block = self.block
        found = torch.empty_like(block.scores)
        launch.sq_distances(self.state, block, found)
        if block.weight is not None:
            return (found.double() * block.weight).sum(1)
        return found.sum(1, dtype=torch.float64)

    @launch.on_its_device
    def ask(self) -> Answer:
        """Ask which problems are done, without waiting for the answer."""
        return Answer(self.state.done)

    def _graph(self, way: tuple[bool, bool]) -> torch.cuda.CUDAGraph:
        """Return some passes as a graph."""
        if way not in self._graphs:
            self._graphs[way] = graphs.capture(lambda: self._pass(*way), _PER_GRAPH, self.device)
        return self._graphs[way]

    def _pass(self, proven: bool, anew: bool) -> None:
        state, block = self.state, self.block
        # Only of rows without a label can those in doubt be added later as all that move are.
        at_once = self._is_first and launch.can_add_while_scoring(state)
        if at_once:
            state.forget_rows()
        launch.assign(state, block, prove=proven, add=at_once)
        if (self._is_first or anew) and not at_once:
            launch.add_all(state, block)
        else:
            launch.move(state, block)
        launch.reseed(state, block)
        launch.means(state, self._unit)
        launch.decide(state, self._momentum)
        launch.step(state, self._unit, from_means=True)
