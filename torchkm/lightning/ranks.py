"""What several processes have to say to each other: sums of stats, and far rows."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from torchkm.functional import ClusterStats
from torchkm.functional.reseeding import FarthestRows
from torchkm.nn.kmeans import Farthest


class Anchor(nn.Module):
    """One parameter that nothing reads: DDP refuses a module without any.

    It never enters a ``state_dict``, so checkpoints are the same on one process and on many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass


def sum_stats(stats: ClusterStats, trainer: pl.Trainer) -> ClusterStats:
    """Return the stats of all ranks together."""
    if trainer.world_size == 1:
        return stats
    counts, sums, inertia = (
        trainer.strategy.reduce(part, reduce_op="sum")
        for part in (stats.counts, stats.sums, stats.inertia)
    )
    return ClusterStats(counts, sums, inertia)


def gather_farthest(farthest: Farthest, trainer: pl.Trainer) -> Farthest:
    """Return a function that finds the farthest rows of all ranks, the same on each."""
    if trainer.world_size == 1:
        return farthest

    def of_all_ranks(n_empty: int) -> FarthestRows:
        # Ranks may have fewer rows than asked for; rows at distance 0 fill up and are ignored.
        padded = [_pad(part, 2 * n_empty) for part in farthest(n_empty)]
        rows, *others = (trainer.strategy.all_gather(part).flatten(0, 1) for part in padded)
        every = FarthestRows(rows, *others)
        order = torch.argsort(every.sq_distances, descending=True, stable=True)
        return FarthestRows(*(part[order] for part in every))

    return of_all_ranks


def _pad(part: Tensor, m: int) -> Tensor:
    padded = part.new_zeros(m, *part.shape[1:])
    padded[: len(part)] = part
    return padded
