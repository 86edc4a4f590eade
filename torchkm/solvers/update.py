"""The third step: centroids from ``ClusterStats``. Nothing else ever computes a centroid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.functional import ClusterStats
from torchkm.functional.geometry import centroids_on, uses_unit_rows
from torchkm.functional.reseeding import FarthestRows, reseed
from torchkm.solvers.rules import UpdateRule


class CentroidState(NamedTuple):
    """Centroids and what they remember.

    Attributes:
        centroids: ``(k, d)``.
        counts: the weight that each has seen and not forgotten, ``(k,)`` float64.
    """

    centroids: Tensor
    counts: Tensor

    def forget(self, clusters: Tensor) -> CentroidState:
        """Return the state without the past of ``clusters (r,)``.

        What is left of a faded past must not hold a re-seeded centroid back.
        """
        return self._replace(counts=self.counts.index_fill(0, clusters, 0))


class Step(NamedTuple):
    """One update.

    Attributes:
        state: the centroids and counts after it.
        empty: which clusters ``(k,)`` it leaves without rows; their centroids did not move.
    """

    state: CentroidState
    empty: Tensor


def update(
    stats: ClusterStats, state: CentroidState, rule: UpdateRule, metric: str = "euclidean"
) -> Step:
    """Apply ``stats`` to the centroids as ``rule`` says.

    Args:
        stats: of a batch or of a full pass.
        state: centroids and counts before it.
        rule: keeps a share of the past counts and moves each centroid part of the way to the
            mean of its rows.
        metric: under ``"cosine"`` centroids return to unit length.

    Returns:
        ``Step(state, empty)``. A cluster without rows keeps its centroid.

    Cost:
        ``3 k d`` operations in float64; no synchronisation.

    Example:
        >>> import torch
        >>> from torchkm.functional import assign_and_accumulate
        >>> from torchkm.solvers import Lloyd
        >>> c = torch.tensor([[0.0], [8.0]])
        >>> _, stats = assign_and_accumulate(torch.tensor([[0.0], [1.0], [9.0]]), c)
        >>> update(stats, CentroidState(c, torch.zeros(2)), Lloyd()).state.centroids
        tensor([[0.5000],
                [9.0000]])
    """
    after = updated(stats, state, rule, metric)
    return Step(after, rule.is_empty(after.counts) & (stats.counts <= 0))


def updated(
    stats: ClusterStats, state: CentroidState, rule: UpdateRule, metric: str
) -> CentroidState:
    """Return the state of ``update``, for whom does not ask which clusters are empty."""
    centroids, past = state
    counts = past * rule.kept(stats.counts.sum()) + stats.counts  # (k,)
    rate = torch.where(stats.counts > 0, rule.rate(stats.counts, counts), 0).unsqueeze(1)  # (k, 1)
    dtype = stats.sums.dtype
    moved = torch.lerp(centroids.to(dtype), stats.means, rate.to(dtype))  # (k, d)
    if uses_unit_rows(metric):
        moved = centroids_on(metric, moved, centroids.to(moved.dtype))
        # A centroid without rows is to stay as it was to the bit, as it does at a rate of 0.
        moved = torch.where(stats.counts.unsqueeze(1) > 0, moved, centroids)
    return CentroidState(moved.to(centroids.dtype), counts)


def reseed_and_update(
    stats: ClusterStats,
    state: CentroidState,
    rule: UpdateRule,
    metric: str,
    empty: Tensor,
    farthest: FarthestRows,
) -> tuple[CentroidState, int]:
    """Apply ``stats`` after moving one of the ``farthest`` rows into each ``empty (k,)`` cluster.

    For an ``update`` that left clusters empty; the state is the one before it.

    Returns:
        The state after, and how many clusters were re-seeded.
    """
    stats, into = reseed(stats, empty, farthest)
    return updated(stats, state.forget(into), rule, metric), len(into)
