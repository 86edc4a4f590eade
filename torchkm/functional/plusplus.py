"""Greedy k-means++ and k-means||: seeds drawn in proportion to their squared distance."""

from __future__ import annotations

import math
from copy import copy

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
from torchkm.functional.sketch import sketch
from torchkm.functional.stats import one_read

_PARALLEL_ROUNDS = 5
_OVERSAMPLING = 2

# Up to so many centroids each candidate is drawn from what the centroid before it left.
_ONE_BY_ONE = 512

# Rows that judge candidates, evenly spaced among all; centroids chosen between two draws.
_JUDGES, _AT_ONCE = 2**14, 32


def plusplus_rows(k: int) -> int:
    """Return how many rows k-means++ looks at: 16 for each centroid, at least 4096."""
    return max(4096, 16 * k)


def kmeans_plusplus(problem: Problem, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ on at most ``plusplus_rows(k)`` random rows; returns ``(k, d)``.

    Each centroid is the best of ``2 + ln k`` candidates drawn in proportion to weight times
    squared distance (Arthur and Vassilvitskii 2007, doi:10.5555/1283383.1283494). Once there are
    512, candidates of 32 centroids are drawn at once. Rows beyond the limit are sampled without
    replacement in proportion to their weight, and a row that stands for others carries their
    weight.
    """
    return rows_as_centroids(problem, plusplus_index(problem, k, generator))


def plusplus_index(
    problem: Problem, k: int, generator: torch.Generator, trials: int | None = None
) -> Tensor:
    """Return which rows ``(k,)`` ``kmeans_plusplus`` chooses, each the best of ``trials``."""
    index, weight = _subsample(problem, plusplus_rows(k), generator)
    rows = sketch(problem.take(index).measured, generator)
    chosen = _greedy(rows, k, weight, generator, trials)
    return chosen if index is None else index[chosen]


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
    return candidates[_greedy(sketch(candidates, generator), k, weight, generator)]


def _greedy(
    rows: Tensor, k: int, weight: Tensor, generator: torch.Generator, trials: int | None = None
) -> Tensor:
    """Choose ``k`` of the centred ``rows (m, d)`` by greedy D2 sampling; returns ``(k,)``."""
    trials, few = trials or 2 + int(math.log(k)), min(k, _ONE_BY_ONE)
    first = draw_with_replacement(weight, uniform((1,), generator, weight.device), weight)
    draws = uniform((few - 1, trials), generator, weight.device)
    chosen, potential = kernels.plusplus(rows, few, weight, first, draws)
    if len(chosen) == k:
        return chosen
    return _in_blocks(_Space(rows), chosen, potential, k, trials, weight, generator)


def _in_blocks(
    space: _Space,
    chosen: Tensor,
    potential: Tensor,
    k: int,
    trials: int,
    weight: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Choose more rows until there are ``k``; returns ``(k,)``.

    Candidates of several choices are drawn at once, from the ``potential (m,)`` before them; each
    choice is then judged by the potential that the one before it left.
    """
    judges = space.every(max(1, len(weight) // _JUDGES))
    judge_weight = weight[judges.places].to(potential.dtype)
    while len(chosen) < k:
        block = min(_AT_ONCE, k - len(chosen))
        draws = uniform((block * trials,), generator, weight.device)
        drawn = draw_with_replacement(potential * weight, draws, weight)
        best = judges.best(drawn.view(block, trials), potential, judge_weight)
        best = space.without_repeats(best)  # (b,)
        lowered = space.sq_distances(best).amin(0)  # (b, m) -> (m,)
        potential = torch.minimum(potential, lowered).clamp_(min=0).index_fill_(0, best, 0)
        chosen = torch.cat([chosen, best])
    return chosen


class _Space:
    """Rows ``(m, d)``, ready for their squared distances to be one product.

    Attributes:
        places: which of them distances are taken to.
    """

    def __init__(self, rows: Tensor) -> None:
        m, d = rows.shape
        norms = rows.square().sum(1)
        self._rows, self.places = rows, slice(None)
        self._left, self._right = rows.new_ones(m, d + 2), rows.new_ones(d + 2, m)
        torch.mul(rows, -2, out=self._left[:, :d])
        self._left[:, d + 1] = norms
        self._right[:d], self._right[d] = rows.T, norms

    def every(self, step: int) -> _Space:
        """Return the same, with distances to every ``step``-th row only."""
        few = copy(self)
        few.places = slice(None, None, step)
        few._right = self._right[:, few.places].contiguous()
        return few

    @kernels.in_full_precision
    def sq_distances(self, candidates: Tensor) -> Tensor:
        """Return those from the rows ``candidates (c,)``, ``(c, m)``, but for rounding."""
        return self._left.index_select(0, candidates) @ self._right

    @kernels.in_full_precision
    def best(self, candidates: Tensor, potential: Tensor, weight: Tensor) -> Tensor:
        """Return the best of each row of ``candidates (b, t)``, ``(b,)``, one after the other."""
        block, trials = candidates.shape
        now = potential[self.places]
        to = self.sq_distances(candidates.flatten()).view(block, trials, -1)  # (b, t, m)
        best = []
        for lowered, drawn in zip(to, candidates, strict=True):
            torch.minimum(lowered, now, out=lowered)
            index = (lowered @ weight).argmin()
            now = lowered[index]
            best.append(drawn[index])
        return torch.stack(best)

    def without_repeats(self, index: Tensor) -> Tensor:
        """Return ``index (b,)`` without those whose row equals an earlier one's."""
        rows = self._rows.index_select(0, index)
        apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return index[~(apart == 0).tril(-1).any(1)]


def _subsample(
    problem: Problem, m: int, generator: torch.Generator
) -> tuple[Tensor | None, Tensor]:
    """Return at most ``m`` indices, None for all, and the weights with which they stand for all."""
    x, weight = problem.x, problem.sample_weight
    dtype = kernels.compute_dtype(x.dtype)
    full = torch.ones(len(x), dtype=dtype, device=x.device) if weight is None else weight
    if m >= len(x):
        return None, full.to(dtype)
    index = draw_without_replacement(len(x), m, weight, generator, x.device)
    # Drawn with chance min(1, m w / sum w), a row stands for w / chance of the whole.
    return index, full[index].clamp(min=full.sum() / m).to(dtype)
