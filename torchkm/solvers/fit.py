"""The front door: ``kmeans``, from rows to a result."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.arrays import check_finite
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
from torchkm.solvers.lloyd import lloyd
from torchkm.solvers.loop import Fit, Stopping, run
from torchkm.solvers.outcome import Callback, EmptyClusterWarning, PassRecord, Status
from torchkm.solvers.progressive import Effort, progress
from torchkm.solvers.rules import Lloyd, UpdateRule, as_rule


@dataclass(frozen=True, repr=False)
class KMeansResult:
    """What ``kmeans`` found.

    Attributes:
        centroids: ``(k, d)``, float32, or float64 for float64 rows.
        labels: nearest of these centroids for each row, ``(n,)`` int64.
        inertia: weighted sum of squared distances to them, added up in float64.
        n_iter: passes made over all rows.
        status: why it stopped (``status.message`` says it in words).
        history: one ``PassRecord`` a pass: inertia, shift, n_changed, n_reseeded, n_rows,
            n_scored, n_rescored. Passes of ``"auto"`` over a part of the rows are among them.
        precision: ``"float32"`` or ``"float64"``; ``"bfloat16"`` where most rows were scored in
            it. Each label was then proven to be that of float32, or computed in float32.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    n_iter: int
    status: Status
    history: tuple[PassRecord, ...]
    precision: str

    def __repr__(self) -> str:
        """Name the size, the score and the outcome; tensors are left out."""
        k, d = self.centroids.shape
        return (
            f"KMeansResult(k={k}, d={d}, n={len(self.labels)}, inertia={self.inertia:.9g}, "
            f"n_iter={self.n_iter}, status={self.status.value!r})"
        )


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
) -> KMeansResult:
    """Cluster rows around ``k`` centroids.

    Args:
        x: rows ``(n, d)``: a tensor or array of float32, float64, bfloat16, float16 or uint8.
            It is not modified and, unless read-only or flipped, not copied.
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
            rows where the CPU has instructions for it; ``"float32"`` never does, ``"bfloat16"``
            always. Labels are those of float32 either way.
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

    Returns:
        A ``KMeansResult``. Its labels and inertia belong to its centroids, whatever stopped it.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: rows of the wrong shape, empty, NaN or infinite; k outside [1, n]; weights
            negative or all zero; names that are not known.

    Warns:
        EmptyClusterWarning: clusters that hold no row at the end.

    Cost:
        ``2 n k d`` operations a pass; a block of scores, the labels and two ``(k, d)`` sums in
        memory; one device synchronisation a pass.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> result = kmeans(x, k=2, init=torch.tensor([[0.0], [1.0]]))
        >>> result
        KMeansResult(k=2, d=1, n=4, inertia=1, n_iter=4, status='labels_unchanged')
        >>> result.centroids.T
        tensor([[0.5000, 9.5000]])
    """
    problem = as_problem(x, sample_weight, metric)
    k = check_k(k, len(problem.x))
    batch_size = check_integer("batch_size", batch_size, 1)
    n_init = check_integer("n_init", n_init, 1)
    max_iter = check_integer("max_iter", max_iter, 1)
    tol = check_number("tol", tol, 0)
    generator = as_generator(generator)
    check_callable("callback", callback)
    effort = Effort(tol, max_iter, check_integer("refine", refine, 0), callback)
    check_precision(precision, problem)
    if isinstance(solver, str) and solver == "auto":
        fit = progress(problem, k, init, n_init, precision, effort, generator)
    else:
        rule = as_rule(solver, also=("auto",))
        _check_only_auto(refine, precision)
        fit = _by_rule(problem, k, init, n_init, rule, batch_size, effort, generator)
    _warn_of_empty_clusters(fit)
    return KMeansResult(
        fit.centroids,
        fit.labels,
        fit.inertia,
        sum(record.n_rows == len(problem.x) for record in fit.history),
        fit.status,
        fit.history,
        fit.precision,
    )


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
    check_finite(problem.x)
    mean, variance = mean_and_variance(problem)
    problem = replace(problem, origin=mean)  # as in scikit-learn
    stopping = Stopping(effort.max_iter, effort.tol * variance, effort.callback)

    def one_run() -> Fit:
        centroids = seeds(problem, k, init, generator)
        if isinstance(rule, Lloyd) and kernels.is_compact(problem.x):
            return lloyd(problem, centroids, stopping)
        return run(problem, centroids, rule, batch_size, stopping, generator)

    return min((one_run() for _ in range(n_init)), key=lambda fit: fit.inertia)


def _check_only_auto(refine: int, precision: str) -> None:
    if refine:
        raise ValueError(f'refine belongs to solver "auto", got refine={refine} with another')
    if precision != "auto":
        raise ValueError(f'precision belongs to solver "auto", got {precision!r} with another')


def _warn_of_empty_clusters(result: Fit) -> None:
    k = len(result.centroids)
    n_empty = int((torch.bincount(result.labels, minlength=k) == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} of {k} clusters hold no row at the end: the rows have fewer distinct "
            "values than there are clusters, or too few passes were made",
            EmptyClusterWarning,
            stacklevel=4,
        )
