"""Local search: centroids that are hardly missed go where one more would help most.

A descent ends where no small step helps. A swap is a large one: a centroid whose rows have another
nearly as near is taken away, and a cluster that parts well gets it. Whether that was for the better
shows after a few passes; if not, it is taken back. (Swaps as in Fritzke 2020, arXiv:2006.15666,
and Beretta et al. 2023, arXiv:2309.16384.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.functional.splitting import halves
from torchkm.solvers.descent import Descent

# The share of the centroids that the first rounds swap; halved when a round does not help.
_FIRST_SHARE = 1 / 16

# Rounds in a row that may fail, one swap each, before the search ends.
_FAILURES = 6

# A trial has settled when the means move less than this, in shares of a row's squared distance.
_SETTLED, _MOST_PASSES = 1e-5, 30

# Rows of each cluster that tell how it would part.
_ROWS_PER_CLUSTER, _FEWEST_ROWS = 64, 2**11


class Swap(NamedTuple):
    """One centroid less here, one more there."""

    removed: int
    split: int


def search(descent: Descent, rounds: int, generator: torch.Generator) -> None:
    """Try up to ``rounds`` sets of swaps on the rows that have come in; leave the best centroids.

    Expects a descent that has settled; it is to settle again afterwards.
    """
    best, inertia = descent.means, descent.follow_means()
    k = len(best)
    n_swaps, n_failed, failed = max(1, int(k * _FIRST_SHARE)), 0, set[Swap]()
    for _ in range(rounds if k > 1 else 0):
        trial, swaps = _swapped(descent, best, n_swaps, failed, generator)
        if not swaps or n_failed == _FAILURES or descent.stopped:
            break
        descent.restart(trial)
        descent.settle(_SETTLED * k * inertia / descent.tracker.weight, _MOST_PASSES)
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


def _swapped(
    descent: Descent,
    centroids: Tensor,
    n_swaps: int,
    failed: set[Swap],
    generator: torch.Generator,
) -> tuple[Tensor, list[Swap]]:
    """Return ``centroids (k, d)`` after the most promising swaps, and which they were."""
    losses = descent.tracker.losses(centroids)  # (k,)
    n_rows = max(_FEWEST_ROWS, _ROWS_PER_CLUSTER * len(centroids))
    rows, labels = descent.some_rows(n_rows)
    parts = halves(rows, centroids, labels, generator)
    gains = parts.gains * (descent.tracker.n_rows / len(labels))
    swaps = _most_promising(losses.unsqueeze(1) - gains, n_swaps, failed)
    swapped = centroids.clone()
    for swap in swaps:
        swapped[swap.split], swapped[swap.removed] = parts.centroids[swap.split]
    return swapped, swaps


def _most_promising(rises: Tensor, n_swaps: int, failed: set[Swap]) -> list[Swap]:
    """Return swaps of different clusters by rising ``rises (k, k)`` of the inertia."""
    rises.fill_diagonal_(torch.inf)
    for swap in failed:
        rises[swap.removed, swap.split] = torch.inf
    swaps = []
    for _ in range(n_swaps):
        rise, index = rises.flatten().min(0)
        if not bool(torch.isfinite(rise)):
            break
        swap = Swap(*divmod(int(index), len(rises)))
        swaps.append(swap)
        for cluster in swap:
            rises[cluster, :], rises[:, cluster] = torch.inf, torch.inf
    return swaps
