"""What becomes of an empty cluster: it is given the row that its own centroid serves worst.

The row leaves its cluster and enters the empty one inside the ``ClusterStats``, so the update
stays the only place where a centroid is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.assignment import Assignment, exactly
from torchkm.functional.geometry import sq_movements, unit
from torchkm.functional.problem import Problem
from torchkm.functional.stats import ClusterStats

# A cluster that holds hardly more than one row has none to give away.
_SOLE_MEMBER = 1 + 1e-6


class FarthestRows(NamedTuple):
    """Rows in falling order of their distance.

    Attributes:
        rows: ``(m, d)``, in the dtype of sums.
        sq_distances: ``(m,)``.
        labels: the cluster that each belongs to now, ``(m,)``.
        weights: ``(m,)``.
    """

    rows: Tensor
    sq_distances: Tensor
    labels: Tensor
    weights: Tensor


def farthest_rows(
    problem: Problem, centroids: Tensor, assignment: Assignment, n_empty: int
) -> FarthestRows:
    """Return rows far from their ``centroids (k, d)``, for ``n_empty`` clusters.

    There are twice as many as clusters, because some cannot be spared by their own. Rows
    without weight count as near: they should not draw a centroid. A row that only rounding holds
    away from its centroid is at distance 0.
    """
    x, weight = problem.x, problem.sample_weight
    labels, sq_distances = exactly(problem, centroids, assignment)
    if weight is not None:
        sq_distances = torch.where(weight > 0, sq_distances, 0)
    sq_distances, index = torch.topk(sq_distances, min(2 * n_empty, len(x)))  # (m,)
    rows = kernels.dense_rows(x, index).to(kernels.sum_dtype(x.device))  # (m, d)
    labels = labels[index]  # (m,)
    rows = unit(rows) if problem.unit_rows else rows
    apart = sq_movements(centroids[labels], rows, problem.origin) > 0
    ones = torch.ones_like(rows[:, 0])
    return FarthestRows(
        rows,
        torch.where(apart, sq_distances, 0),
        labels,
        ones if weight is None else weight[index].to(ones),
    )


def reseed(
    stats: ClusterStats, empty: Tensor, farthest: FarthestRows
) -> tuple[ClusterStats, Tensor]:
    """Move one of the ``farthest`` rows into each ``empty (k,)`` cluster, farthest first.

    A row that sits on its centroid, and the sole row of a cluster, stay where they are; an empty
    cluster for which no row is left stays empty.

    Returns:
        The new stats, and the indices ``(r,)`` of the clusters that got a row.

    Cost:
        ``r d`` operations, one device synchronisation. Called only where a cluster is empty.
    """
    empties = torch.nonzero(empty).squeeze(1).tolist()
    moves = _pair(empties, stats.counts.tolist(), farthest)
    if not moves:
        return stats, torch.empty(0, dtype=torch.int64, device=empty.device)
    pick, into = torch.tensor(moves, device=empty.device).T  # (r,), (r,)
    weights = farthest.weights[pick].to(stats.counts.dtype)
    mass = weights.unsqueeze(1) * farthest.rows[pick]  # (r, d)
    donors = farthest.labels[pick]
    counts = stats.counts.index_add(0, donors, weights, alpha=-1).index_add_(0, into, weights)
    sums = stats.sums.index_add(0, donors, mass, alpha=-1).index_add_(0, into, mass)
    return ClusterStats(counts, sums, stats.inertia), into


def _pair(empties: list[int], counts: list[float], farthest: FarthestRows) -> list[tuple[int, int]]:
    """Pair rows to give away with the clusters that receive them: ``(row, cluster)``."""
    waiting = iter(empties)
    pairs = []
    candidates = zip(
        farthest.sq_distances.tolist(),
        farthest.labels.tolist(),
        farthest.weights.tolist(),
        strict=True,
    )
    for row, (sq_distance, donor, weight) in enumerate(candidates):
        if sq_distance == 0 or counts[donor] <= weight * _SOLE_MEMBER:
            continue
        cluster = next(waiting, None)
        if cluster is None:
            break
        counts[donor] -= weight
        pairs.append((row, cluster))
    return pairs
