"""Passes over rows that stay on the host: while a block is scored, the next one is on its way.

Of each row only the label is kept on the device. Every pass reads all rows through the link, which
is what takes the time; labels are those of float32 in every pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchkm.kernels.gpu import launch
from torchkm.kernels.gpu.formats import TENSOR_FLOAT
from torchkm.kernels.gpu.state import Block, State


@dataclass
class _Buffer:
    """Room for a block on the device, and where rows wait on the host if they are not pinned."""

    block: Block
    room: Tensor
    waiting: Tensor | None
    arrived: torch.cuda.Event | None = None
    free: torch.cuda.Event | None = None


class Streamed:
    """One problem whose rows ``x (n, d)`` lie on the host.

    Args:
        x: rows. Pinned ones are copied from where they are, others by way of pinned memory.
        starts: centroids ``(k, d)`` on the device.
        sample_weight: ``(n,)`` on the device, or None.
        origin: ``(d,)`` on the device, amid the rows.
        block_rows: rows to a block.
        max_iter: passes at most.
    """

    def __init__(
        self,
        x: Tensor,
        starts: Tensor,
        sample_weight: Tensor | None,
        origin: Tensor,
        block_rows: int,
        max_iter: int,
    ) -> None:
        n, d = x.shape
        size, device = min(block_rows, n), starts.device
        self._x, self.device = x, device
        self._weight = None if sample_weight is None else sample_weight.contiguous()
        self._on_gpu = device.type == "cuda"
        self.state = State(starts.unsqueeze(0), origin, TENSOR_FLOAT, max_iter)
        self.state.restart(starts.unsqueeze(0))
        self.state.reopen()
        self.labels = torch.full((1, n), -1, dtype=torch.int32, device=device)
        self._blocks = [(i, min(i + size, n)) for i in range(0, n, size)]
        self._buffers = [self._buffer(size, d) for _ in range(min(2, len(self._blocks)))]
        self._copies = torch.cuda.Stream(device) if self._on_gpu else None

    @launch.on_its_device
    def measure(self) -> Tensor:
        """Read all rows once; return how far ``()`` they reach from the origin."""
        largest = torch.zeros(self.state.d, device=self.device)
        for block in self._read():
            launch.extents(self.state, block.x, largest)
            launch.prepare(self.state, block)
        launch.fix_units(self.state, len(self._x), largest, self._weight)
        return largest.max()

    @launch.on_its_device
    def advance(self) -> None:
        """Make a pass."""
        launch.step(self.state, unit_rows=False, from_means=False)
        for block in self._assigned():
            last = block
        launch.reseed(self.state, last)  # from the rows that are there
        launch.means(self.state, unit_rows=False)
        launch.decide(self.state, 0.0)

    @launch.on_its_device
    def look(self) -> Tensor:
        """Bring labels and sums up to the means of the last pass; return the inertia ``()``."""
        launch.step(self.state, unit_rows=False, from_means=False)
        self.state.done.zero_()
        for _ in self._assigned():
            pass
        launch.means(self.state, unit_rows=False)
        return self.state.sq_norms[0] + self.state.partial[0, :, 0].sum()

    def _assigned(self) -> Iterator[Block]:
        """Read all rows, label them and let the sums follow; yield each block after it."""
        for block in self._read():
            launch.assign(self.state, block, prove=True, measure=True)
            launch.move(self.state, block)
            launch.tally(self.state)
            yield block

    def _read(self) -> Iterator[Block]:
        """Yield the blocks, in order, each with the next one under way."""
        n_buffers = len(self._buffers)
        if self._copies is not None:  # what reads the buffers now may have been started since
            self._copies.wait_stream(torch.cuda.current_stream(self.device))
        self._fetch(0)
        for number in range(len(self._blocks)):
            if number + 1 < len(self._blocks):
                self._fetch(number + 1)
            buffer = self._buffers[number % n_buffers]
            if buffer.arrived is not None:
                torch.cuda.current_stream(self.device).wait_event(buffer.arrived)
            yield buffer.block
            if self._on_gpu:
                buffer.free = torch.cuda.Event()
                buffer.free.record(torch.cuda.current_stream(self.device))

    def _fetch(self, number: int) -> None:
        """Send a block on its way into the buffer that is its turn."""
        start, stop = self._blocks[number]
        buffer = self._buffers[number % len(self._buffers)]
        rows, size = self._x[start:stop], stop - start
        block, room = buffer.block, buffer.room[:size]
        block.n, block.x, block.low = size, room.unsqueeze(0), room.unsqueeze(0)
        block.labels = self.labels[:, start:stop]
        if self._weight is not None:
            block.weight = self._weight[start:stop].unsqueeze(0)
        if self._copies is None:
            room.copy_(rows)
            return
        if buffer.waiting is not None:
            if buffer.arrived is not None:
                buffer.arrived.synchronize()  # the rows that waited there have left
            rows = buffer.waiting[:size].copy_(rows)
        with torch.cuda.stream(self._copies):
            if buffer.free is not None:
                self._copies.wait_event(buffer.free)
            room.copy_(rows, non_blocking=True)
            buffer.arrived = torch.cuda.Event()
            buffer.arrived.record(self._copies)

    def _buffer(self, size: int, d: int) -> _Buffer:
        room = torch.empty(size, d, dtype=self._x.dtype, device=self.device)
        block = Block(room.unsqueeze(0), None, 1, self.state.width, TENSOR_FLOAT)
        block.spreads = block.norms  # both of the rows less the origin
        waits = self._on_gpu and not self._x.is_pinned()
        waiting = torch.empty(size, d, dtype=self._x.dtype, pin_memory=True) if waits else None
        return _Buffer(block, room, waiting)
