"""Local search: centroids that are hardly missed go where one more would help most.

A descent ends where no small step helps. A swap is a large one: a centroid whose rows have another
nearly as near is taken away, and a cluster that parts well gets it. Whether that was for the better
shows after a few passes; if not, it is taken back. (Swaps as in Fritzke 2020, arXiv:2006.15666,
and Beretta et al. 2023, arXiv:2309.16384.)
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.splitting import halves
from torchkm.solvers.descent import Descent

# The share of the centroids that the first rounds swap; halved when a round does not help.
_FIRST_SHARE = 1 / 16

# Rounds in a row that may fail, one swap each, before the search ends.
_FAILURES = 6

# A trial has settled when the means move less than this, in shares of a row's squared distance.
_SETTLED, _MOST_PASSES = 1e-5, 30

# Rows of each cluster that tell how it would part, well and at a glance; of all at least, and of
# all at most where a glance does with that.
_ROWS_PER_CLUSTER, _ROWS_AT_A_GLANCE, _FEWEST_ROWS, _MANY_ROWS = 64, 16, 2**11, 2**15


class Swap(NamedTuple):
    """One centroid less here, one more there."""

    removed: int
    split: int


def search(descent: Descent, rounds: int, generator: torch.Generator, least: float = 0.0) -> None:
    """Try up to ``rounds`` sets of swaps on the rows that have come in; leave the best centroids.

    Where a set must promise at least the share ``least`` of the inertia, trials settle only as far
    as a part of the rows can tell. Expects a descent that has settled; it is to settle again
    afterwards.
    """
    best, inertia = descent.means, descent.follow_means()
    k = len(best)
    n_swaps, n_failed, failed = _first_swaps(k), 0, set[Swap]()
    for _ in range(rounds if k > 1 else 0):
        prospects = _prospects(descent, best, _ROWS_PER_CLUSTER, generator)
        swaps = _most_promising(prospects, n_swaps, failed)
        promised = prospects.promise(n_swaps) if least else inertia
        if not swaps or promised < least * inertia or n_failed == _FAILURES or descent.stopped:
            break
        descent.restart(_swapped(best, prospects, swaps))
        if least:
            descent.settle_on_part(_MOST_PASSES)
        else:
            descent.settle(_SETTLED * k * inertia / _tracker(descent).weight, _MOST_PASSES)
        if descent.history[-1].inertia < inertia:
            best, inertia = descent.means, descent.follow_means()
            n_failed, failed = 0, set()
            continue
        descent.means = best
        descent.follow_means()
        if n_swaps == 1:
            n_failed += 1
            failed.update(swaps)
        n_swaps = max(1, n_swaps // 2)
    descent.restart(best)


def promise(descent: Descent, generator: torch.Generator) -> float:
    """Return the share of the inertia that a round of swaps might gain, from a look at few rows."""
    k, inertia = len(descent.means), descent.history[-1].inertia
    prospects = _prospects(descent, descent.means, _ROWS_AT_A_GLANCE, generator)
    return prospects.promise(_first_swaps(k)) / max(inertia, 1e-300)


class Prospects(NamedTuple):
    """What each cluster's centroid is worth.

    Attributes:
        losses: by how much the inertia would rise without it, ``(k,)``.
        gains: by how much it would fall with the cluster in two, ``(k,)``.
        parts: centroids of the two, ``(k, 2, d)``.
    """

    losses: Tensor
    gains: Tensor
    parts: Tensor

    def promise(self, n_swaps: int) -> float:
        """Return what the best swaps would gain, if they did not get into each other's way."""
        least = self.losses.topk(n_swaps, largest=False).values
        return float((self.gains.topk(n_swaps).values - least).clamp(min=0).sum())


def _tracker(descent: Descent) -> kernels.Tracker:
    """Return the tracker of dense rows: sparse ones have no swaps."""
    return cast("kernels.Tracker", descent.tracker)


def _first_swaps(k: int) -> int:
    return max(1, int(k * _FIRST_SHARE))


def _prospects(
    descent: Descent, centroids: Tensor, rows_per_cluster: int, generator: torch.Generator
) -> Prospects:
    """Return the prospects of ``centroids (k, d)``, as some of the rows tell."""
    k = len(centroids)
    n_rows = max(_FEWEST_ROWS, min(rows_per_cluster * k, max(_MANY_ROWS, _ROWS_AT_A_GLANCE * k)))
    rows, labels = descent.some_rows(n_rows)
    share = len(labels) / descent.tracker.n_rows
    losses = _tracker(descent).losses(centroids, len(labels)) / share  # (k,)
    parts = halves(rows, k, labels, generator)
    return Prospects(losses, parts.gains / share, parts.centroids)


def _swapped(centroids: Tensor, prospects: Prospects, swaps: list[Swap]) -> Tensor:
    """Return ``centroids (k, d)`` after ``swaps``."""
    swapped = centroids.clone()
    for swap in swaps:
        swapped[swap.split], swapped[swap.removed] = prospects.parts[swap.split]
    return swapped


def _most_promising(prospects: Prospects, n_swaps: int, failed: set[Swap]) -> list[Swap]:
    """Return swaps of different clusters that are not ``failed``, the most promising first."""
    # Each swap takes two clusters away from the rest: more than these need no look.
    n_looked_at = min(len(prospects.losses), 2 * n_swaps + len(failed) + 1)
    rises, removed = prospects.losses.topk(n_looked_at, largest=False)
    falls, split = prospects.gains.topk(n_looked_at)
    rises = rises.unsqueeze(1) - falls  # (m, m)
    rises.masked_fill_(removed.unsqueeze(1) == split, torch.inf)
    for swap in failed:
        rises[(removed == swap.removed).unsqueeze(1) & (split == swap.split)] = torch.inf
    swaps = []
    for _ in range(n_swaps):
        rise, index = rises.flatten().min(0)
        if not bool(torch.isfinite(rise)):
            break
        row, column = divmod(int(index), n_looked_at)
        swap = Swap(int(removed[row]), int(split[column]))
        swaps.append(swap)
        for cluster in swap:
            rises[removed == cluster], rises[:, split == cluster] = torch.inf, torch.inf
    return swaps
