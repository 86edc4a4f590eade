"""Greedy k-means++ and k-means||: seeds drawn in proportion to their squared distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.assignment import nearest
from torchkm.functional.geometry import unit, uses_unit_rows
from torchkm.functional.sampling import (
    draw_with_replacement,
    draw_without_replacement,
    uniform,
)
from torchkm.functional.stats import one_read

_PARALLEL_ROUNDS = 5
_OVERSAMPLING = 2


def plusplus_rows(k: int) -> int:
    """Return how many rows k-means++ looks at: 16 for each centroid, at least 4096."""
    return max(4096, 16 * k)


def kmeans_plusplus(
    x: Tensor, k: int, sample_weight: Tensor | None, generator: torch.Generator, metric: str
) -> Tensor:
    """Greedy k-means++ on at most ``plusplus_rows(k)`` random rows; returns ``(k, d)``.

    Each centroid is the best of ``2 + ln k`` candidates drawn in proportion to weight times
    squared distance (Arthur and Vassilvitskii 2007, doi:10.5555/1283383.1283494). Rows beyond
    the limit are sampled without replacement in proportion to their weight, and a row that
    stands for others carries their weight.
    """
    rows, weight = _subsample(x, plusplus_rows(k), sample_weight, generator)
    rows = rows.to(kernels.compute_dtype(x.dtype))
    rows = unit(rows) if uses_unit_rows(metric) else rows
    chosen = _greedy(rows - rows.mean(0), k, weight, generator)  # (k,)
    return rows[chosen]


def kmeans_parallel(
    x: Tensor, k: int, sample_weight: Tensor | None, generator: torch.Generator, metric: str
) -> Tensor:
    """k-means||: a few rounds that draw many candidates at once from all rows; ``(k, d)``.

    Five rounds of about ``2 k`` candidates, each weighed by the rows nearest to it, then greedy
    k-means++ among them (Bahmani et al. 2012, arXiv:1203.6402). For large k.
    """
    n = len(x)
    first = draw_without_replacement(n, 1, sample_weight, generator, x.device)
    picked = [first]
    sq_distances = nearest(x, _as_seeds(x[first], metric), metric).sq_distances  # (n,)
    for _ in range(_PARALLEL_ROUNDS):
        mass = sq_distances if sample_weight is None else sq_distances * sample_weight
        chance = _OVERSAMPLING * k * mass / mass.sum(dtype=torch.float64).clamp_min(1e-300)
        new = torch.nonzero(uniform((n,), generator, x.device) < chance).squeeze(1)
        if len(new):
            picked.append(new)
            to_new = nearest(x, _as_seeds(x[new], metric), metric).sq_distances
            sq_distances = torch.minimum(sq_distances, to_new)
    index = torch.unique(torch.cat(picked))
    if len(index) < k:
        spare = torch.ones(n, device=x.device).index_fill_(0, index, 0)
        extra = draw_without_replacement(n, k - len(index), spare, generator, x.device)
        index = torch.cat([index, extra])
    candidates = _as_seeds(x[index], metric)  # (c, d)
    weight = one_read(x, candidates, sample_weight, metric)[1].counts
    chosen = _greedy(candidates - candidates.mean(0), k, weight, generator)
    return candidates[chosen]


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
    x: Tensor, m: int, sample_weight: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return at most ``m`` rows and the weights ``(m,)`` with which they stand for all."""
    dtype = kernels.compute_dtype(x.dtype)
    weight = x.new_ones(len(x), dtype=dtype) if sample_weight is None else sample_weight
    if m >= len(x):
        return x, weight.to(dtype)
    index = draw_without_replacement(len(x), m, sample_weight, generator, x.device)
    # Drawn with chance min(1, m w / sum w), a row stands for w / chance of the whole.
    return x[index], weight[index].clamp(min=weight.sum() / m).to(dtype)


def _as_seeds(rows: Tensor, metric: str) -> Tensor:
    seeds = rows.to(kernels.compute_dtype(rows.dtype))
    return unit(seeds) if uses_unit_rows(metric) else seeds
