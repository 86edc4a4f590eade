"""Batches as slices of one tensor: no worker, no item by item, nothing repeated or dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Rows as they are stored, and how they are handed out.

    Attributes:
        x: ``(n, d)``.
        targets: class of each row, ``(n,)`` int64, or None.
        dtype: of the rows handed out.
        divisor: what stored numbers are divided by, after conversion.
    """

    x: Tensor
    targets: Tensor | None = None
    dtype: torch.dtype = torch.float32
    divisor: float = 1.0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.x)

    def to(self, device: torch.device) -> Rows:
        """Return the same rows on ``device``."""
        targets = None if self.targets is None else self.targets.to(device)
        return Rows(self.x.to(device), targets, self.dtype, self.divisor)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return rows ``(b, d)``, converted and divided, and their targets ``(b,)``."""
        index = index.to(self.x.device)
        rows = self.x.index_select(0, index).to(self.dtype)
        targets = None if self.targets is None else self.targets.index_select(0, index)
        return rows if self.divisor == 1 else rows.div_(self.divisor), targets


class EpochOrder:
    """The order of rows in an epoch: a function of the seed and the epoch alone.

    A run resumed from a checkpoint therefore sees the rows as an uninterrupted one does.

    Args:
        n: number of rows.
        seed: of the shuffle; None keeps the rows in their stored order.
    """

    def __init__(self, n: int, seed: int | None) -> None:
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def order(self) -> Tensor:
        """Return the indices ``(n,)`` of all rows in this epoch's order."""
        if self.seed is None:
            return torch.arange(self.n, device="cpu")
        entropy = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0] >> np.uint64(1)))
        return torch.randperm(self.n, generator=generator, device="cpu")


class Batches:
    """An iterable of ``(rows, targets)`` batches, of ``rows`` alone where there are no targets.

    There are ``ceil(n / batch_size)`` of them, as equal as can be. With several ranks each gets
    its share of every batch, so all make the same number of steps and no row is seen twice.
    Shuffled batches have a ``sampler``, where Lightning looks for ``set_epoch``.

    Args:
        rows: what to hand out.
        batch_size: rows to a batch over all ranks, at most.
        seed: of the shuffle; None keeps the stored order.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ValueError: fewer rows in a batch than there are processes.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = rows
        self.n_batches = math.ceil(len(rows) / batch_size)
        self._order = EpochOrder(len(rows), seed)
        if seed is not None:
            self.sampler = self._order
        self.rank, self.world_size = rank, world_size
        smallest = len(rows) // self.n_batches
        if smallest < world_size:
            raise ValueError(
                f"every batch must have a row for each of the {world_size} processes: "
                f"{len(rows)} rows in batches of at most {batch_size} leave one with {smallest}"
            )

    @property
    def n_rows(self) -> int:
        """Rows in an epoch, over all ranks."""
        return len(self.rows)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.n_batches

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        """Hand out this rank's share of each batch."""
        for batch in torch.tensor_split(self._order.order(), self.n_batches):
            # Held by no name of ours: a batch is freed before the next one is made.
            yield self._take(batch[self.rank :: self.world_size])

    def _take(self, index: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rows, targets = self.rows.take(index)
        return rows if targets is None else (rows, targets)
