"""Greedy k-means++ that never asks the host: two small kernels a centroid, some rounds a graph."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torchkm.kernels.gpu import graphs, launch, tuning

# Rounds in a graph, and rows that a program of ``lower`` takes.
_PER_GRAPH, _ROWS = 16, 64


@triton.jit
def lower(
    rows,
    norms,
    weights,
    candidates,
    lowered,
    partial,
    best,
    number,
    m,
    d,
    k,
    BM: tl.constexpr,
    BD: tl.constexpr,
    BT: tl.constexpr,
):
    """Lower the potential of some rows by each candidate, and add it up.

    The potential is what the ``best`` candidate before them has ``lowered`` it to.
    """
    if tl.load(number) >= k:
        return
    at = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
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
    now = tl.load(lowered + at * BT + tl.load(best), mask=inside, other=0.0)
    low = tl.minimum(sq_distance, now[:, None])
    tl.debug_barrier()  # several threads read the number that one of them overwrites
    tl.store(lowered + at[:, None] * BT + trial[None, :], low, mask=inside[:, None])
    weight = tl.load(weights + at, mask=inside, other=0.0)
    tl.store(partial + tl.program_id(0) * BT + trial, tl.sum(_mass(low, weight[:, None]), 0))


@triton.jit
def choose(
    weights,
    candidates,
    lowered,
    partial,
    draws,
    chosen,
    best,
    number,
    m,
    k,
    n_programs,
    n_trials,
    BM: tl.constexpr,
    BP: tl.constexpr,
    BT: tl.constexpr,
):
    """Choose the best candidate, and draw the next ones from the potential that it leaves.

    A draw falls first to the rows of one program of ``lower``, then to one of them. Where no mass
    is left the chances are those of the weights.
    """
    now = tl.load(number)
    if now >= k:
        return
    trial = tl.arange(0, BT)
    total = tl.zeros((BT,), tl.float64)
    for start in range(0, n_programs, BP):
        program = start + tl.arange(0, BP)
        inside = (program < n_programs)[:, None]
        place = partial + program[:, None] * BT + trial[None, :]
        total += tl.sum(tl.load(place, mask=inside, other=0.0), 0)
    total = tl.where(trial < n_trials, total, float("inf"))
    winner = tl.min(tl.where(total == tl.min(total, 0), trial, BT), 0)
    winner = tl.minimum(winner, n_trials - 1)
    tl.store(chosen + now, tl.load(candidates + winner))
    mass = tl.sum(tl.where(trial == winner, total, 0.0), 0)

    again = (trial < n_trials) & (now < k - 1)
    goal = tl.load(draws + now * n_trials + trial, mask=again, other=0.0) * mass
    drawn = tl.zeros((BT,), tl.int32)
    before = tl.zeros((BT,), tl.float64)
    upto = tl.zeros((), tl.float64)
    for start in range(0, n_programs, BP):
        program = start + tl.arange(0, BP)
        some = tl.load(partial + program * BT + winner, mask=program < n_programs, other=0.0)
        reached = upto + tl.cumsum(some, 0)
        below = (program < n_programs)[:, None] & (reached[:, None] < goal[None, :])
        drawn += tl.sum(below.to(tl.int32), 0)
        before = tl.maximum(before, tl.max(tl.where(below, reached[:, None], 0.0), 0))
        upto += tl.sum(some, 0)
    drawn = tl.minimum(drawn, n_programs - 1)
    at = drawn[:, None].to(tl.int64) * BM + tl.arange(0, BM)[None, :]  # (BT, BM)
    inside = at < m
    low = tl.load(lowered + at * BT + winner, mask=inside, other=0.0)
    reached = before[:, None] + tl.cumsum(
        _mass(low, tl.load(weights + at, mask=inside, other=0.0)), 1
    )
    row = drawn * BM + tl.sum((inside & (reached < goal[:, None])).to(tl.int32), 1)
    tl.debug_barrier()  # all threads have read what is written now
    tl.store(candidates + trial, tl.minimum(row, m - 1).to(tl.int64), mask=again)
    tl.store(best, winner)
    tl.store(number, now + 1)


@triton.jit
def _mass(low, weight):
    return (low * weight).to(tl.float64) + weight.to(tl.float64) * 1e-290


@launch.on_its_device
def one_by_one(
    rows: Tensor, k: int, weight: Tensor, first: Tensor, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose ``k`` of ``rows (m, d)``, beginning with ``first (1,)``.

    Args:
        rows: centred, float32; copied where they are not contiguous, as weights are.
        k: how many.
        weight: ``(m,)`` float32.
        first: the first of them.
        draws: uniform, ``(k - 1, t)`` float64, for the candidates of each further one.

    Returns:
        The rows chosen ``(k,)``, and the potential ``(m,)`` left.
    """
    rows, weight = rows.contiguous(), weight.contiguous()
    m, d = rows.shape
    n_trials = max(1, draws.shape[1])
    width = max(16, tuning.power_of_two(n_trials))
    n_programs = triton.cdiv(m, _ROWS)
    norms = rows.square().sum(1)
    candidates = first.expand(width).contiguous()
    lowered = torch.full((m, width), torch.inf, device=rows.device)
    partial = torch.empty(n_programs, width, dtype=torch.float64, device=rows.device)
    chosen = torch.empty(k, dtype=torch.int64, device=rows.device)
    best, number = torch.zeros(2, 1, dtype=torch.int32, device=rows.device)

    def one_round() -> None:
        lower[(n_programs,)](
            rows, norms, weight, candidates, lowered, partial, best, number, m, d, k, BM=_ROWS,
            BD=max(16, min(64, tuning.power_of_two(d))), BT=width,
        )  # fmt: skip
        choose[(1,)](
            weight, candidates, lowered, partial, draws, chosen, best, number, m, k, n_programs,
            n_trials, BM=_ROWS, BP=min(128, tuning.power_of_two(n_programs)), BT=width,
        )  # fmt: skip

    one_round()
    graphs.repeat(one_round, k - 1, _PER_GRAPH, rows.device)
    return chosen, lowered.gather(1, best.long().expand(m, 1)).squeeze(1)
