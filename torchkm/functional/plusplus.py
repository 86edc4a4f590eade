"""Greedy k-means++ and k-means||: seeds drawn in proportion to their squared distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.assignment import nearest
from torchkm.functional.problem import Problem, rows_as_centroids
from torchkm.functional.sampling import (
    draw_with_replacement,
    draw_without_replacement,
    uniform,
)
from torchkm.functional.stats import one_read

_PARALLEL_ROUNDS = 5
_OVERSAMPLING = 2

# Dimensions that distances are taken in where rows have many more.
_SKETCH = 64


def plusplus_rows(k: int) -> int:
    """Return how many rows k-means++ looks at: 16 for each centroid, at least 4096."""
    return max(4096, 16 * k)


def kmeans_plusplus(problem: Problem, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ on at most ``plusplus_rows(k)`` random rows; returns ``(k, d)``.

    Each centroid is the best of ``2 + ln k`` candidates drawn in proportion to weight times
    squared distance (Arthur and Vassilvitskii 2007, doi:10.5555/1283383.1283494). Rows beyond
    the limit are sampled without replacement in proportion to their weight, and a row that
    stands for others carries their weight.
    """
    index, weight = _subsample(problem, plusplus_rows(k), generator)
    rows = rows_as_centroids(problem, index)  # (m, d)
    return rows[_greedy(_sketch(rows, generator), k, weight, generator)]


def kmeans_parallel(problem: Problem, k: int, generator: torch.Generator) -> Tensor:
    """k-means||: a few rounds that draw many candidates at once from all rows; ``(k, d)``.

    Five rounds of about ``2 k`` candidates, each weighed by the rows nearest to it, then greedy
    k-means++ among them (Bahmani et al. 2012, arXiv:1203.6402). For large k.
    """
    x, sample_weight, n = problem.x, problem.sample_weight, len(problem.x)
    first = draw_without_replacement(n, 1, sample_weight, generator, x.device)
    picked = [first]
    sq_distances = nearest(problem, rows_as_centroids(problem, first)).sq_distances  # (n,)
    for _ in range(_PARALLEL_ROUNDS):
        mass = sq_distances if sample_weight is None else sq_distances * sample_weight
        chance = _OVERSAMPLING * k * mass / mass.sum(dtype=torch.float64).clamp_min(1e-300)
        new = torch.nonzero(uniform((n,), generator, x.device) < chance).squeeze(1)
        if len(new):
            picked.append(new)
            to_new = nearest(problem, rows_as_centroids(problem, new)).sq_distances
            sq_distances = torch.minimum(sq_distances, to_new)
    index = torch.unique(torch.cat(picked))
    if len(index) < k:
        spare = torch.ones(n, device=x.device).index_fill_(0, index, 0)
        extra = draw_without_replacement(n, k - len(index), spare, generator, x.device)
        index = torch.cat([index, extra])
    candidates = rows_as_centroids(problem, index)  # (c, d)
    weight = one_read(problem, candidates)[1].counts
    return candidates[_greedy(_sketch(candidates, generator), k, weight, generator)]


def _sketch(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return centred ``rows (m, d)`` in few dimensions, with distances about as they were.

    A random projection to 64 dimensions changes a squared distance by 18 % or so (Johnson and
    Lindenstrauss 1984): less than the luck of the draw, and seeding costs that much less.
    """
    rows = rows - rows.mean(0)
    d = rows.shape[1]
    if d < 2 * _SKETCH:
        return rows
    normal = torch.randn(d, _SKETCH, generator=generator, device=generator.device)
    return rows @ (normal / _SKETCH**0.5).to(rows)


def _greedy(rows: Tensor, k: int, weight: Tensor, generator: torch.Generator) -> Tensor:
    """Choose ``k`` of the centred ``rows (m, d)`` by greedy D2 sampling; returns ``(k,)``."""
    trials = 2 + int(math.log(k))
    draws = uniform((k, trials), generator, rows.device)
    norms = rows.square().sum(1)  # (m,)
    chosen = torch.empty(k, dtype=torch.int64, device=rows.device)
    chosen[0] = draw_with_replacement(weight, draws[0, :1], weight)[0]
    potential = _to_candidates(rows, norms, chosen[:1])[0]  # (m,)
    for j in range(1, k):
        candidates = draw_with_replacement(potential * weight, draws[j], weight)  # (t,)
        lowered = torch.minimum(_to_candidates(rows, norms, candidates), potential)  # (t, m)
        best = (lowered.to(weight.dtype) @ weight).argmin()
        potential = lowered[best]
        chosen[j] = candidates[best]
    return chosen


def _to_candidates(rows: Tensor, norms: Tensor, candidates: Tensor) -> Tensor:
    """Squared distances ``(t, m)`` of the candidates to all rows; a candidate is at 0 of itself."""
    products = (rows @ rows[candidates].T).T  # (t, m)
    sq_distances = norms[candidates].unsqueeze(1) + norms - 2 * products
    return sq_distances.clamp_(min=0).scatter_(1, candidates.unsqueeze(1), 0)


def _subsample(
    problem: Problem, m: int, generator: torch.Generator
) -> tuple[Tensor | None, Tensor]:
    """Return at most ``m`` indices, None for all, and the weights with which they stand for all."""
    x, weight = problem.x, problem.sample_weight
    dtype = kernels.compute_dtype(x.dtype)
    full = x.new_ones(len(x), dtype=dtype) if weight is None else weight
    if m >= len(x):
        return None, full.to(dtype)
    index = draw_without_replacement(len(x), m, weight, generator, x.device)
    # Drawn with chance min(1, m w / sum w), a row stands for w / chance of the whole.
    return index, full[index].clamp(min=full.sum() / m).to(dtype)
