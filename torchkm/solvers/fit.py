"""The front door: ``kmeans``, from rows to a result."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import check_finite
from torchkm.functional.assignment import exactly, nearest
from torchkm.functional.checks import (
    as_generator,
    check_callable,
    check_integer,
    check_k,
    check_number,
)
from torchkm.functional.problem import Problem, as_problem
from torchkm.functional.seeding import Init, seeds
from torchkm.functional.stats import ClusterStats, mean_and_variance
from torchkm.solvers.loop import Callback, Fit, Stopping, run
from torchkm.solvers.outcome import EmptyClusterWarning, PassRecord, Status
from torchkm.solvers.rules import UpdateRule, as_rule


@dataclass(frozen=True, repr=False)
class KMeansResult:
    """What ``kmeans`` found.

    Attributes:
        centroids: ``(k, d)``, float32, or float64 for float64 rows.
        labels: nearest of these centroids for each row, ``(n,)`` int64.
        inertia: weighted sum of squared distances to them, added up in float64.
        n_iter: passes made.
        status: why it stopped (``status.message`` says it in words).
        history: one ``PassRecord`` a pass: inertia, shift, n_changed, n_reseeded.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    n_iter: int
    status: Status
    history: tuple[PassRecord, ...]

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
    solver: str | UpdateRule = "lloyd",
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
        n_init: independent runs; the one of lowest inertia is returned.
        solver: when centroids move: ``"lloyd"`` after each full pass; ``"minibatch"``,
            ``"minibatch-sqrt"`` or ``"decay"`` after each batch; or a rule with settings, as
            ``torchkm.solvers.Decay(half_life=10_000)``.
        batch_size: rows to a batch, for the solvers that use them. Batches are made equal, so
            the last is no small remainder.
        max_iter: passes at most.
        tol: stop when the centroids move, in squares summed over all, by at most ``tol`` times
            the mean variance of a feature. 0 waits for labels that repeat.
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
        KMeansResult(k=2, d=1, n=4, inertia=1, n_iter=3, status='labels_unchanged')
        >>> result.centroids.T
        tensor([[0.5000, 9.5000]])
    """
    problem = as_problem(x, sample_weight, metric)
    check_finite(problem.x)
    k = check_k(k, len(problem.x))
    rule = as_rule(solver)
    batch_size = check_integer("batch_size", batch_size, 1)
    n_init = check_integer("n_init", n_init, 1)
    max_iter = check_integer("max_iter", max_iter, 1)
    tol = check_number("tol", tol, 0)
    generator = as_generator(generator)
    check_callable("callback", callback)
    mean, variance = mean_and_variance(problem)
    problem = replace(problem, origin=mean)  # as in scikit-learn
    stopping = Stopping(max_iter, tol * variance, callback)

    def one_run() -> KMeansResult:
        centroids = seeds(problem, k, init, generator)
        return _result(problem, run(problem, centroids, rule, batch_size, stopping, generator))

    best = min((one_run() for _ in range(n_init)), key=lambda result: result.inertia)
    _warn_of_empty_clusters(best)
    return best


def _result(problem: Problem, fit: Fit) -> KMeansResult:
    found = fit.assignment or nearest(problem, fit.centroids)
    assignment = exactly(problem, fit.centroids, found)
    inertia = ClusterStats.weighed(assignment.sq_distances, problem.sample_weight)
    return KMeansResult(
        fit.centroids,
        assignment.labels,
        inertia.item(),
        len(fit.history),
        fit.status,
        fit.history,
    )


def _warn_of_empty_clusters(result: KMeansResult) -> None:
    k = len(result.centroids)
    n_empty = int((torch.bincount(result.labels, minlength=k) == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} of {k} clusters hold no row at the end: the rows have fewer distinct "
            "values than there are clusters, or too few passes were made",
            EmptyClusterWarning,
            stacklevel=4,
        )
