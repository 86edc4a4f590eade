"""The front door: ``kmeans``, from rows to a result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import as_device, as_tensor, check_finite
from torchkm.functional.checks import (
    as_generator,
    check_callable,
    check_integer,
    check_k,
    check_number,
)
from torchkm.functional.precision import check_precision
from torchkm.functional.problem import Problem, as_problem
from torchkm.functional.seeding import Init, seeds
from torchkm.functional.stats import mean_and_variance
from torchkm.kernels import CsrRows
from torchkm.solvers import on_device, streamed
from torchkm.solvers.eager import eagerly
from torchkm.solvers.lloyd import lloyd
from torchkm.solvers.loop import Fit, Stopping, run
from torchkm.solvers.outcome import Callback, Watch
from torchkm.solvers.progressive import Effort, progress
from torchkm.solvers.result import KMeansResult, result_of, warn_of_empty
from torchkm.solvers.room import fit_with_room
from torchkm.solvers.rules import Lloyd, UpdateRule, as_rule


@eagerly
@torch.no_grad()
def kmeans(
    x: Any,
    k: int,
    *,
    init: Init = "k-means++",
    n_init: int = 1,
    solver: str | UpdateRule = "auto",
    refine: int = 0,
    precision: str = "auto",
    batch_size: int = 4096,
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    device: str | torch.device | None = None,
) -> KMeansResult:
    """Cluster rows around ``k`` centroids.

    Args:
        x: rows ``(n, d)``: a tensor or array of float32, float64, bfloat16, float16 or uint8.
            It is not modified and, unless read-only or flipped, not copied. Or CSR rows: a SciPy
            matrix or array, or a sparse tensor; no more of them than a block is made dense.
        k: number of clusters, from 1 to ``n``.
        init: ``"k-means++"``, ``"k-means||"``, ``"random"``, an array ``(k, d)`` or a function
            ``init(x, k, generator)``; see ``torchkm.functional.seed``.
        n_init: starts, of which the best is returned. Under ``"auto"`` they share each read of
            the rows and losers are dropped early; the other solvers make whole runs of them.
        solver: when centroids move. ``"auto"``, progressive: steps with momentum on a growing
            part of the rows, then on all until the centroids settle. ``"lloyd"``: after each
            full pass, as in scikit-learn. ``"minibatch"``, ``"minibatch-sqrt"`` or ``"decay"``:
            after each batch. Or a rule with settings, as
            ``torchkm.solvers.Decay(half_life=10_000)``.
        refine: ``"auto"`` only: once settled, up to so many rounds of swaps that take centroids
            from where they are hardly missed to where one more helps most; 20 are many.
        precision: ``"auto"`` only: what rows are scored in. ``"auto"`` takes bfloat16 for float32
            rows where the CPU has instructions for it, and float16 on a GPU; ``"float32"`` never
            does, ``"bfloat16"`` always; ``"float16"`` and ``"tf32"`` are for GPUs. Labels are
            those of float32 either way (on a GPU: of float32 split into three TF32 products).
        batch_size: rows to a batch, for the solvers that use them. Batches are made equal, so
            the last is no small remainder.
        max_iter: passes over all rows at most. Rounds of ``refine`` make more of them.
        tol: how far to go: stop when the centroids move, in squares summed over all, by at most
            ``tol`` times the mean variance of a feature. 0 waits until nothing changes.
        sample_weight: ``(n,)``, non-negative; a row of weight 2 is that row twice.
        metric: ``"euclidean"``; or ``"cosine"``, spherical k-means: rows and centroids have
            unit length, inertia sums ``2 - 2 cos``.
        generator: where randomness comes from; None draws a fresh seed from the system.
        callback: called with a ``PassRecord`` after each pass; a true answer stops the run.
        device: where to work, as ``"cuda"``; None is where the rows lie. Rows that do not fit
            there stay on the host, and every pass reads them block by block; pinned rows fastest.
            That takes a GPU with kernels, solver ``"auto"`` without ``refine``, and dense rows
            of float32 or less under ``"euclidean"``; passes then score in TF32, and the best of
            ``n_init`` starts is told by one block.

    Returns:
        A ``KMeansResult``. Its labels and inertia belong to its centroids, whatever stopped it.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: rows of the wrong shape, empty, NaN or infinite; k outside [1, n]; weights
            negative or all zero; names that are not known; rows that do not fit on ``device``
            and cannot stay on the host either.
        torch.OutOfMemoryError: ``device`` ran out of memory, and the rows cannot stay on the
            host; the message says how much it takes.

    Warns:
        EmptyClusterWarning: clusters that hold no row at the end.

    Cost:
        ``2 n k d`` operations a pass; a block of scores, the labels and two ``(k, d)`` sums in
        memory. Kernels for a GPU make four passes of ``"auto"`` or ``"lloyd"`` at once, and the
        host reads whether there is another while the next four are under way. With a callback,
        ``refine``, batches or rows on the host it waits for the device in each pass.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> result = kmeans(x, k=2, init=torch.tensor([[0.0], [1.0]]))
        >>> result
        KMeansResult(k=2, d=1, n=4, inertia=1, n_iter=4, status='labels_unchanged')
        >>> result.centroids.T
        tensor([[0.5000, 9.5000]])
    """
    check_callable("callback", callback)
    result = solve(
        x,
        k,
        init,
        sample_weight,
        as_generator(generator),
        None if callback is None else lambda record, _: callback(record),
        Settings(n_init, solver, refine, precision, batch_size, max_iter, tol, metric, device),
    )
    warn_of_empty(result)
    return result


@dataclass(frozen=True)
class Settings:
    """What ``kmeans`` can be told besides the rows, in its words."""

    n_init: int = 1
    solver: str | UpdateRule = "auto"
    refine: int = 0
    precision: str = "auto"
    batch_size: int = 4096
    max_iter: int = 300
    tol: float = 1e-4
    metric: str = "euclidean"
    device: str | torch.device | None = None


@eagerly
@torch.no_grad()
def solve(
    x: Any,
    k: int,
    init: Init,
    sample_weight: Any,
    generator: torch.Generator,
    watch: Watch | None,
    settings: Settings,
) -> KMeansResult:
    """Check what ``kmeans`` was given and run it; who asks warns of empty clusters."""
    problem = as_problem(x, sample_weight, settings.metric)
    k = check_k(k, len(problem.x))
    batch_size = check_integer("batch_size", settings.batch_size, 1)
    n_init = check_integer("n_init", settings.n_init, 1)
    effort = effort_of(settings, problem, watch)
    device = as_device(settings.device, problem.x)
    check_precision(settings.precision, _one_row_on(device, problem))
    rule = _rule_of(settings)

    def whole() -> Fit:
        moved, start = _on(device, problem, init)
        if rule is None:
            return _auto(moved, k, start, n_init, settings.precision, effort, generator)
        return _by_rule(moved, k, start, n_init, rule, batch_size, effort, generator)

    def by_blocks() -> Fit:
        start = _init_on(device, init)
        going = on_device.Going(settings.precision, effort.max_iter, effort.tol)
        return streamed.descend(problem, k, start, n_init, device, going, watch, generator)

    lacks = streamed.hindrance(problem, device, settings.solver, effort.refine)
    return result_of(fit_with_room(problem, k, device, lacks, generator, whole, by_blocks))


def effort_of(settings: Settings, problem: Problem, watch: Watch | None) -> Effort:
    """Return how far to go, once it is sure that rows such as these can be taken so far."""
    max_iter = check_integer("max_iter", settings.max_iter, 1)
    refine = check_integer("refine", settings.refine, 0)
    tol = check_number("tol", settings.tol, 0)
    if refine and isinstance(problem.x, CsrRows):
        raise ValueError(f"refine is for dense rows, got refine={refine} with sparse ones")
    return Effort(tol, max_iter, refine, watch)


def _rule_of(settings: Settings) -> UpdateRule | None:
    """Return when centroids move; None for ``"auto"``, to which some settings belong."""
    solver, refine, precision = settings.solver, settings.refine, settings.precision
    if isinstance(solver, str) and solver == "auto":
        return None
    rule = as_rule(solver, also=("auto",))
    if refine:
        raise ValueError(f'refine belongs to solver "auto", got refine={refine} with another')
    if precision != "auto":
        raise ValueError(f'precision belongs to solver "auto", got {precision!r} with another')
    return rule


def _one_row_on(device: torch.device, problem: Problem) -> Problem:
    """Return what stands for a problem on ``device``, before its rows are moved there."""
    x = problem.x
    if device == x.device or not isinstance(x, Tensor):
        return problem
    return replace(problem, x=x[:1].to(device))


def _on(device: torch.device, problem: Problem, init: Init) -> tuple[Problem, Init]:
    """Return a problem and where it starts on ``device``."""
    if device == problem.x.device or not isinstance(problem.x, Tensor):
        return problem, init
    weight = problem.sample_weight
    weight = None if weight is None else weight.to(device)
    moved = replace(problem, x=problem.x.to(device), sample_weight=weight)
    return moved, _init_on(device, init)


def _init_on(device: torch.device, init: Init) -> Init:
    return init if isinstance(init, str) or callable(init) else as_tensor(init, "init").to(device)


def _auto(
    problem: Problem,
    k: int,
    init: Init,
    n_init: int,
    precision: str,
    effort: Effort,
    generator: torch.Generator,
) -> Fit:
    if not kernels.has_gpu_kernels(problem.x) or effort.refine:
        return progress(problem, k, init, n_init, precision, effort, generator)
    starts = torch.stack([seeds(problem, k, init, generator) for _ in range(n_init)])
    going = on_device.Going(precision, effort.max_iter, effort.tol)
    return on_device.descend(problem, starts, going, effort.watch)


def _by_rule(
    problem: Problem,
    k: int,
    init: Init,
    n_init: int,
    rule: UpdateRule,
    batch_size: int,
    effort: Effort,
    generator: torch.Generator,
) -> Fit:
    if isinstance(rule, Lloyd) and kernels.has_gpu_kernels(problem.x):
        return _lloyd_on_device(problem, k, init, n_init, effort, generator)
    check_finite(problem.x)
    mean, variance = mean_and_variance(problem)
    mean = mean.to(kernels.compute_dtype(problem.x.dtype))  # as in scikit-learn
    origin = kernels.origin_of(problem.x, problem.unit_rows, mean)
    problem = problem.from_origin(origin)
    stopping = Stopping(effort.max_iter, effort.tol * variance, effort.watch)

    def one_run() -> Fit:
        centroids = seeds(problem, k, init, generator)
        if isinstance(rule, Lloyd):
            return lloyd(problem, centroids, stopping)
        return run(problem, centroids, rule, batch_size, stopping, generator)

    return min((one_run() for _ in range(n_init)), key=lambda fit: fit.inertia)


def _lloyd_on_device(
    problem: Problem, k: int, init: Init, n_init: int, effort: Effort, generator: torch.Generator
) -> Fit:
    going = on_device.Going("auto", effort.max_iter, effort.tol, momentum=0)

    def one_run() -> Fit:
        starts = seeds(problem, k, init, generator).unsqueeze(0)
        return on_device.descend(problem, starts, going, effort.watch)

    return min((one_run() for _ in range(n_init)), key=lambda fit: fit.inertia)
