"""Greedy k-means++ that never asks the host: two small kernels a centroid, some rounds a graph."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torchkm.kernels.gpu import graphs, tuning

# Rounds in a graph, and rows that a program of ``lower`` takes.
_PER_GRAPH, _ROWS = 16, 64


@triton.jit
def lower(
    rows,
    norms,
    weights,
    potential,
    candidates,
    lowered,
    partial,
    number,
    m,
    d,
    k,
    BM: tl.constexpr,
    BD: tl.constexpr,
    BT: tl.constexpr,
):
    """Lower the potential of rows by each candidate, and add it up for some of them."""
    if tl.load(number) >= k:
        return
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = at < m
    trial = tl.arange(0, BT)
    candidate = tl.load(candidates + trial)
    products = tl.zeros((BM, BT), tl.float32)
    for start in range(0, d, BD):
        column = start + tl.arange(0, BD)
        mask = (column < d)[None, :]
        x = tl.load(
            rows + at[:, None] * d + column[None, :], mask=inside[:, None] & mask, other=0.0
        )
        c = tl.load(rows + candidate[:, None] * d + column[None, :], mask=mask, other=0.0)
        products = tl.dot(x, tl.trans(c), products, input_precision="ieee")
    norm = tl.load(norms + at, mask=inside, other=0.0)
    sq_distance = norm[:, None] + tl.load(norms + candidate)[None, :] - 2 * products
    sq_distance = tl.where(at[:, None] == candidate[None, :], 0.0, tl.maximum(sq_distance, 0.0))
    now = tl.load(potential + at, mask=inside, other=0.0)
    low = tl.minimum(sq_distance, now[:, None])
    tl.store(lowered + at[:, None] * BT + trial[None, :], low, mask=inside[:, None])
    mass = low * tl.load(weights + at, mask=inside, other=0.0)[:, None]
    tl.store(partial + tl.program_id(0) * BT + trial, tl.sum(mass, 0))


@triton.jit
def choose(
    weights,
    potential,
    candidates,
    lowered,
    partial,
    draws,
    chosen,
    number,
    m,
    k,
    n_programs,
    n_trials,
    BM: tl.constexpr,
    BT: tl.constexpr,
):
    """Choose the best candidate, and draw the next ones from the potential that it leaves.

    Where no mass is left the chances are those of the weights.
    """
    now = tl.load(number)
    if now >= k:
        return
    trial = tl.arange(0, BT)
    total = tl.zeros((BT,), tl.float32)
    for program in range(0, n_programs):
        total += tl.load(partial + program * BT + trial)
    total = tl.where(trial < n_trials, total, float("inf"))
    best = tl.min(tl.where(total == tl.min(total, 0), trial, BT), 0)
    best = tl.minimum(best, n_trials - 1)
    tl.store(chosen + now, tl.load(candidates + best))
    mass = tl.zeros((), tl.float64)
    for start in range(0, m, BM):
        at = start + tl.arange(0, BM)
        inside = at < m
        low = tl.load(lowered + at * BT + best, mask=inside, other=0.0)
        tl.store(potential + at, low, mask=inside)
        mass += tl.sum(_mass(low, weights, at, inside), 0)
    again = (trial < n_trials) & (now < k - 1)
    goal = tl.load(draws + now * n_trials + trial, mask=again, other=0.0) * mass
    drawn = tl.zeros((BT,), tl.int32)
    upto = tl.zeros((), tl.float64)
    for start in range(0, m, BM):
        at = start + tl.arange(0, BM)
        inside = at < m
        low = tl.load(lowered + at * BT + best, mask=inside, other=0.0)
        some = _mass(low, weights, at, inside)
        reached = upto + tl.cumsum(some, 0)
        below = inside[:, None] & (reached[:, None] < goal[None, :])
        drawn += tl.sum(below.to(tl.int32), 0)
        upto += tl.sum(some, 0)
    tl.store(candidates + trial, tl.minimum(drawn, m - 1).to(tl.int64), mask=again)
    tl.store(number, now + 1)


@triton.jit
def _mass(low, weights, at, inside):
    weight = tl.load(weights + at, mask=inside, other=0.0)
    return (low * weight).to(tl.float64) + weight.to(tl.float64) * 1e-290


def one_by_one(
    rows: Tensor, k: int, weight: Tensor, first: Tensor, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose ``k`` of ``rows (m, d)``, beginning with ``first (1,)``.

    Args:
        rows: centred, float32.
        k: how many.
        weight: ``(m,)`` float32.
        first: the first of them.
        draws: uniform, ``(k - 1, t)`` float64, for the candidates of each further one.

    Returns:
        The rows chosen ``(k,)``, and the potential ``(m,)`` left.
    """
    m, d = rows.shape
    n_trials = max(1, draws.shape[1])
    width = max(16, tuning.power_of_two(n_trials))
    n_programs = triton.cdiv(m, _ROWS)
    norms = rows.square().sum(1)
    potential = torch.full_like(norms, torch.inf)
    candidates = first.expand(width).contiguous()
    lowered, partial = rows.new_empty(m, width), rows.new_empty(n_programs, width)
    chosen = torch.empty(k, dtype=torch.int64, device=rows.device)
    number = torch.zeros(1, dtype=torch.int32, device=rows.device)

    def one_round() -> None:
        lower[(n_programs,)](
            rows, norms, weight, potential, candidates, lowered, partial, number, m, d, k,
            BM=_ROWS, BD=max(16, min(64, tuning.power_of_two(d))), BT=width,
        )  # fmt: skip
        choose[(1,)](
            weight, potential, candidates, lowered, partial, draws, chosen, number, m, k,
            n_programs, n_trials, BM=min(2048, tuning.power_of_two(m)), BT=width, num_warps=8,
        )  # fmt: skip

    one_round()
    graphs.repeat(one_round, k - 1, _PER_GRAPH, rows.device)
    return chosen, potential
