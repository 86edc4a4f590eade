"""What several processes have to say to each other, by collectives that the caller gives.

Nothing here knows ``torch.distributed``: whoever runs several processes hands in how they talk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from torchkm.functional.reseeding import FarthestRows
from torchkm.functional.stats import ClusterStats

Farthest = Callable[[int], FarthestRows]


class Ranks(Protocol):
    """The processes that rows are spread over. Every one is to make the same calls.

    With ``torch.distributed``::

        from torch.distributed.nn.functional import all_gather, all_reduce

        class Processes:
            def sum(self, value):
                return all_reduce(value)

            def gather(self, value):
                return torch.stack(all_gather(value))
    """

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of the ``value`` of all ranks, the same to the bit on each.

        Where gradients are to flow, each rank's is the sum of those of all.
        """

    def gather(self, value: Tensor) -> Tensor:
        """Return the ``value`` of each rank, all of one shape: ``(n_ranks, *shape)``."""


def sum_stats(stats: ClusterStats, ranks: Ranks | None) -> ClusterStats:
    """Return the stats of all ranks together."""
    if ranks is None:
        return stats
    return ClusterStats(*(ranks.sum(part) for part in (stats.counts, stats.sums, stats.inertia)))


def gather_farthest(farthest: Farthest, ranks: Ranks | None) -> Farthest:
    """Return a function that finds the farthest rows of all ranks, the same on each."""
    if ranks is None:
        return farthest

    def of_all_ranks(n_empty: int) -> FarthestRows:
        # Ranks may have fewer rows than asked for; rows at distance 0 fill up and are ignored.
        padded = (_pad(part, 2 * n_empty) for part in farthest(n_empty))
        every = FarthestRows(*(ranks.gather(part).flatten(0, 1) for part in padded))
        order = torch.argsort(every.sq_distances, descending=True, stable=True)
        return FarthestRows(*(part[order] for part in every))

    return of_all_ranks


def gather_rows(rows: Tensor, ranks: Ranks | None) -> Tensor:
    """Return the rows ``(m, d)`` of all ranks, which may have different numbers of them."""
    if ranks is None:
        return rows
    sizes = ranks.gather(torch.tensor(len(rows), device=rows.device)).tolist()
    each = ranks.gather(_pad(rows, max(sizes)))  # (n_ranks, most, d)
    return torch.cat([part[:size] for part, size in zip(each, sizes, strict=True)])


def of_first_rank(value: Tensor, ranks: Ranks | None) -> Tensor:
    """Return what the first rank has, where each may have drawn something else."""
    return value if ranks is None else ranks.gather(value)[0]


def _pad(part: Tensor, m: int) -> Tensor:
    padded = part.new_zeros(m, *part.shape[1:])
    padded[: len(part)] = part
    return padded
