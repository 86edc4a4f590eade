"""The progressive solver: a descent on a growing part of the shuffled rows, until it is all rows.

At first a few thousand rows say as well as all where the centroids should go (Newling and Fleuret
2016, arXiv:1602.02934). They have said what they can once a pass moves the centroids no more than
the choice of the rows may; then their number doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.assignment import check_norms
from torchkm.functional.plusplus import plusplus_rows
from torchkm.functional.problem import Problem, rows_as_centroids
from torchkm.functional.seeding import Init, seeds
from torchkm.kernels import CsrRows
from torchkm.solvers.descent import Descent
from torchkm.solvers.loop import Fit, assigned
from torchkm.solvers.outcome import Status, Watch
from torchkm.solvers.restarts import race
from torchkm.solvers.swaps import promise, search

# So many times more rows come first where a pass over them takes next to no time.
_NARROW_TIMES = 4

# The last step may take in so many times the rows, where another would leave a remainder.
_LAST_GROWTH = 2.6

# Up to so many centroids a round of swaps comes early, once there are so many rows for each. With
# more of them one place to rest is mostly about as good as another.
_FEW, _ROWS_TO_SWAP = 32, 512

# Where it is not: what swaps have to promise, in shares of the inertia, when there are at least so
# many rows, and for each centroid; and how many rounds they then get.
_WORTH, _LEAST_ROWS, _ROWS_TO_ASK, _ROUNDS = 0.005, 2**14, 64, 20

# Passes over a part of the rows at most.
_MOST_PASSES = 50

# Inits that look at no more rows than the first part has.
_ON_PART = ("k-means++", "random")


@dataclass(frozen=True)
class Effort:
    """How far to go.

    Attributes:
        tol: the means have settled when they move, in squares summed over all, by no more than
            this times the mean variance of a feature.
        max_iter: passes over all rows at most, in each descent.
        refine: rounds of swaps at most, once they have settled.
        watch: called after each pass; a true answer stops.
    """

    tol: float
    max_iter: int
    refine: int
    watch: Watch | None


def progress(
    problem: Problem,
    k: int,
    init: Init,
    n_init: int,
    precision: str,
    effort: Effort,
    generator: torch.Generator,
) -> Fit:
    """Seed, descend on ever more of the rows, and on all of them until nothing moves."""
    on_part = isinstance(init, str) and init in _ON_PART
    course = plan(problem, first_rows(problem, k, precision), on_part, generator)
    seeded = course.part(0) if on_part else course.problem
    starts = [seeds(seeded, k, init, generator) for _ in range(n_init)]
    rungs = (course.part(rung) for rung in range(len(course.sizes)))
    descent = Descent(course.problem, course.order, race(rungs, starts), precision, effort.watch)
    return descend(descent, course.sizes, effort, generator)


def first_rows(problem: Problem, k: int, precision: str) -> int:
    """Return how many rows to look at first."""
    times = _NARROW_TIMES if kernels.is_compact(problem.x, precision) else 1
    return times * plusplus_rows(k)


class Course(NamedTuple):
    """How rows come in.

    Attributes:
        problem: all of them, measured from an origin amid them.
        order: in which they come, ``(n,)``; None as they lie.
        sizes: how many to look at in turn; all in the end.
    """

    problem: Problem
    order: Tensor | None
    sizes: list[int]

    def part(self, rung: int) -> Problem:
        """Return the rows of one of the ``sizes``."""
        return self.problem.take(None if self.order is None else self.order[: self.sizes[rung]])


def plan(problem: Problem, n_first: int, on_part: bool, generator: torch.Generator) -> Course:
    """Return how to go over the rows, ``n_first`` at first; the origin may be that ``on_part``."""
    sizes, order = _growth(problem, n_first, generator)
    course = Course(problem, order, sizes)
    origin = _origin(problem, course.part(0) if on_part else problem)
    return course._replace(problem=problem.from_origin(origin))


def descend(descent: Descent, sizes: list[int], effort: Effort, generator: torch.Generator) -> Fit:
    """Settle on each of ``sizes`` of the rows, swap where it pays, and end with all of them."""
    k = len(descent.centroids)
    enough = _ROWS_TO_SWAP * k if k <= _FEW else max(_LEAST_ROWS, _ROWS_TO_ASK * k)
    first_to_ask = 0 if k <= _FEW else 1  # many centroids have not settled on the first rows
    size_to_swap = next((size for size in sizes[first_to_ask:-1] if size >= enough), None)
    for size in sizes[:-1]:
        descent.admit(size)
        descent.settle_on_part(_MOST_PASSES)
        if size == size_to_swap and not descent.stopped:
            _swap_early(descent, generator)
        if descent.stopped:
            return assigned(descent.problem, descent.means, Status.CALLBACK, descent.history)
    descent.admit(sizes[-1])
    status = _settled(descent, effort)
    if effort.refine and status is not Status.CALLBACK:
        search(descent, effort.refine, generator)
        status = Status.CALLBACK if descent.stopped else _settled(descent, effort)
    return descent.end_at(descent.means, status)


def _swap_early(descent: Descent, generator: torch.Generator) -> None:
    if len(descent.means) <= _FEW:
        search(descent, 1, generator)
    elif promise(descent, generator) > _WORTH:
        search(descent, _ROUNDS, generator, least=_WORTH)


def _origin(problem: Problem, seen: Problem) -> Tensor:
    """Return a point ``(d,)`` amid the rows ``seen``, once they are known to be finite."""
    if isinstance(seen.x, CsrRows):
        check_norms(problem.x, seen.x.sq_norms.to(seen.x.dtype))
        return problem.origin
    rows = rows_as_centroids(seen).contiguous()  # (m, d), added up in one order
    of_all = torch.linalg.vector_norm(rows).item()
    if not of_all**2 < kernels.most_square(rows.dtype, rows.shape[1]):
        check_norms(problem.x, torch.linalg.vector_norm(rows, dim=1).square())
    return kernels.origin_of(rows, False, rows.mean(0))


def _growth(
    problem: Problem, n_first: int, generator: torch.Generator
) -> tuple[list[int], Tensor | None]:
    """Return how many rows to look at in turn, and in which order ``(n,)`` they come in.

    Those of each step stand as they lie in memory, so that reading them is fast. Rows without
    weight come last.
    """
    n, sizes = len(problem.x), [n_first]
    while sizes[-1] * _LAST_GROWTH < n:
        sizes.append(2 * sizes[-1])
    if n_first * 2 > n or isinstance(problem.x, CsrRows):
        return [n], None
    sizes.append(n)
    order = torch.randperm(n, generator=generator, device=generator.device).to(problem.x.device)
    if problem.sample_weight is not None:
        order = order[torch.argsort(problem.sample_weight[order] == 0, stable=True)]
    step = torch.empty(n, dtype=torch.uint8, device=order.device)  # (n,) that takes in the row
    for number, (start, stop) in enumerate(pairwise([0, *sizes])):
        step[order[start:stop]] = number
    return sizes, torch.cat([torch.nonzero(step == i).squeeze(1) for i in range(len(sizes))])


def _settled(descent: Descent, effort: Effort) -> Status:
    """Make passes over all rows until the means have settled."""
    record = descent.step()
    still = effort.tol * descent.tracker.variance
    if record.shift > still and not descent.stopped:
        descent.settle(still, effort.max_iter - 1)
        record = descent.history[-1]
    if record.shift == 0 and record.n_changed == 0 and record.n_reseeded == 0:
        return Status.LABELS_UNCHANGED
    if record.shift <= still:
        return Status.TOLERANCE
    return Status.CALLBACK if descent.stopped else Status.MAX_ITER
