"""Several starts as one problem: they share each read of the rows, and losers are dropped early."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from torchkm.functional.problem import Problem
from torchkm.functional.stats import read_of_each
from torchkm.solvers.rules import Lloyd
from torchkm.solvers.update import CentroidState, update

_PASSES = 4


def race(rungs: Iterable[Problem], starts: list[Tensor]) -> Tensor:
    """Return the best of ``starts``, each ``(k, d)``, after some passes of Lloyd's.

    After four passes over the rows of each rung the better half goes on to the next, whose rows
    are more (successive halving: Jamieson and Talwalkar 2016, arXiv:1502.07943). On the last rung
    that is repeated until one is left.
    """
    if len(starts) == 1:
        return starts[0]
    for problem in _last_for_ever(rungs):
        for _ in range(_PASSES):
            starts, inertia = _pass(problem, starts)
        starts = [starts[i] for i in inertia.argsort()[: (len(starts) + 1) // 2].tolist()]
        if len(starts) == 1:
            break
    return starts[0]


def _last_for_ever(rungs: Iterable[Problem]) -> Iterable[Problem]:
    for problem in rungs:
        yield problem
    while True:
        yield problem


def _pass(problem: Problem, starts: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return the centroids after a pass, and the inertia ``(r,)`` before it."""
    each = read_of_each(problem, torch.stack(starts))
    moved = []
    for stats, start in zip(each, starts, strict=True):
        state = CentroidState(start, torch.zeros_like(stats.counts))
        moved.append(update(stats, state, Lloyd(), problem.metric).state.centroids)
    return moved, torch.stack([stats.inertia for stats in each])
