"""k-means from random batches or a stream, with the face of ``sklearn.cluster.MiniBatchKMeans``."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import sklearn.cluster
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from torchkm.cluster import parameters
from torchkm.cluster.base import CentroidEstimator, check_enough_rows, unchanged_by_errors
from torchkm.cluster.callbacks import Watcher, with_callbacks
from torchkm.cluster.draws import Draws
from torchkm.cluster.exchange import Exchange
from torchkm.cluster.kinds import Data, read
from torchkm.cluster.starts import generator_from, rows_to_begin, start_of
from torchkm.functional.arrays import check_finite
from torchkm.functional.problem import Problem, as_problem
from torchkm.functional.seeding import seeds
from torchkm.functional.stats import labels_and_inertia, mean_and_variance
from torchkm.kernels import Directions, sum_dtype
from torchkm.solvers.sampled import Learner, Patience, learn
from torchkm.solvers.update import CentroidState

# Starts where chance decides and ``n_init="auto"``, as in scikit-learn.
_RANDOM_STARTS = 3


class MiniBatchKMeans(Exchange, CentroidEstimator):
    """Mini-batch k-means, in the place of ``sklearn.cluster.MiniBatchKMeans``.

    ``fit`` learns from batches that are drawn at random, with replacement and by weight, until
    they no longer get better; ``partial_fit`` from the batches it is given.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'k-means++', 'k-means||', 'random'}, callable or array of shape \
(n_clusters, n_features), default='k-means++'
        How the first centroids are found, among ``init_size`` rows. A function is called as
        ``init(X, n_clusters, random_state=random_state)``.
    max_iter : int, default=100
        Batches at most, in numbers of rows: so many times the rows.
    batch_size : int, default=1024
        Rows to a batch.
    verbose : int, default=0
        Print a line for each batch.
    compute_labels : bool, default=True
        Whether ``labels_`` and ``inertia_`` are computed for all rows in the end.
    random_state : int, RandomState instance or None, default=None
        Where randomness comes from. From given centroids draws are those of scikit-learn for the
        same state.
    tol : float, default=0.0
        ``fit`` ends when the centroids move in a step, in squares summed over all, by at most
        ``tol`` times the mean variance of a feature. 0 never ends it.
    max_no_improvement : int or None, default=10
        ``fit`` ends after so many batches in a row that leave the moving average of the inertia
        where it was. None never ends it.
    init_size : int or None, default=None
        Rows that the start is sought among; None is three batches.
    n_init : 'auto' or int, default='auto'
        Starts, of which the best is kept. 'auto' is 3 for 'random' and functions, else 1.
    reassignment_ratio : float, default=0.01
        Clusters with a smaller share of the rows of the largest begin anew at a row of the batch.
    device : str, torch.device or None, default=None
        Where to compute; None is where the rows are. Results go back to where the rows came from.
    precision : {'auto', 'float32'}, default='auto'
        What batches are scored in. 'auto' takes the fewest digits that the CPU has fast
        instructions for, eight bits or bfloat16, and along directions or in float32 elsewhere, if
        centroids are not given; 'float32' the digits of the rows. Labels of all rows are always
        exact.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine' is spherical k-means: rows and centroids have unit length, distances are chords.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Centroids, of the kind of ``X`` (NumPy for frames and sparse rows).
    labels_ : array of shape (n_samples,)
        Nearest centroid of each row, where ``compute_labels``: of the last batch after
        ``partial_fit``.
    inertia_ : float
        Weighted sum of squared distances; without ``compute_labels``, what the last batches say.
    n_iter_ : int
        Rows that were drawn, in numbers of rows, rounded up.
    n_steps_ : int
        Batches that were learnt from.
    n_features_in_ : int
        Width of the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has such that are all strings.

    See Also
    --------
    KMeans : Passes over all rows.
    torchkm.nn.KMeans : The same from a stream, as a module.

    References
    ----------
    Sculley 2010, "Web-scale k-means clustering", doi:10.1145/1772690.1772862.

    Examples
    --------
    >>> import numpy as np
    >>> from torchkm.cluster import MiniBatchKMeans
    >>> X = np.random.RandomState(0).rand(100, 2)
    >>> fitted = MiniBatchKMeans(n_clusters=3, random_state=0).fit(X)
    >>> fitted.cluster_centers_.shape
    (3, 2)
    >>> for batch in np.array_split(X, 4):
    ...     fitted = fitted.partial_fit(batch)
    """

    inertia_: float
    _counts: Tensor
    _n_since: int = 0
    _batch_size: int = 0
    _peer = sklearn.cluster.MiniBatchKMeans
    _checks: ClassVar[dict[str, parameters.Check]] = {
        **CentroidEstimator._checks,
        "batch_size": parameters.integer(1),
        "compute_labels": parameters.flag,
        "max_no_improvement": parameters.either(None, parameters.integer(0)),
        "init_size": parameters.either(None, parameters.integer(1)),
        "reassignment_ratio": parameters.share,
        "precision": parameters.one_of("auto", "float32"),
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: int | str = "auto",
        reassignment_ratio: float = 0.01,
        device: Any = None,
        precision: str = "auto",
        metric: str = "euclidean",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.device = device
        self.precision = precision
        self.metric = metric

    @with_callbacks
    @torch.no_grad()
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Find the clusters of the rows from batches of them.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows, of any kind that ``KMeans`` takes.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; chances with which rows are drawn. None draws all alike.

        Returns
        -------
        self : MiniBatchKMeans
        """
        with unchanged_by_errors(self):
            data = self._checked(X, sample_weight, reset=True)
            check_enough_rows(self, data)
            random_state = check_random_state(self.random_state)
            problem = _problem(data, self.metric)
            n = len(problem.x)
            self._batch_size = batch_size = min(self.batch_size, n)
            draws = Draws(random_state, problem, batch_size)
            size = rows_to_begin(self, n)
            judges = problem.take(draws.with_replacement(size))
            learner = self._begin(data, problem, draws, size, judges)
            watcher = Watcher(self, X, data.kind)
            variance = mean_and_variance(problem)[1] if self.tol else 0.0
            steps = self.max_iter * n // batch_size
            patience = Patience(steps, self.tol * variance, self.max_no_improvement, watcher.watch)
            ended = learn(problem, learner, draws, patience)
            self._learn(data, problem, learner, ended.mean_inertia)
            self.n_steps_ = ended.n_steps
            self.n_iter_ = math.ceil(ended.n_steps * batch_size / n)
            watcher.end(ended.status)
        return self

    @torch.no_grad()
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Learn from one batch; the first one also gives the first centroids.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows of the batch, the first time at least ``n_clusters``.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; None counts each row once.

        Returns
        -------
        self : MiniBatchKMeans
        """
        with unchanged_by_errors(self):
            begun = hasattr(self, "cluster_centers_")
            data = self._checked(X, sample_weight, reset=not begun)
            problem = _problem(data, self.metric)
            if not begun:
                check_enough_rows(self, data)
            if not hasattr(self, "_random_state"):
                self._random_state = check_random_state(self.random_state)
            draws = Draws(self._random_state, problem, len(problem.x))
            self._batch_size = self._batch_size or min(self.batch_size, len(problem.x))
            if begun:
                learner = self._go_on(data)
            else:
                size = rows_to_begin(self, len(problem.x))
                learner = self._begin(data, problem, draws, size, problem)
            learner.directions = None  # a stream may have few batches
            learner.measured = False
            learner.step(problem, draws)
            self._learn(data, problem, learner, math.nan)
            self.n_steps_ = getattr(self, "n_steps_", 0) + 1
        return self

    def _checked(self, X: Any, sample_weight: Any, *, reset: bool) -> Data:
        parameters.check_parameters(self, self._checks)
        return read(self, X, sample_weight, reset=reset)

    def _begin(
        self, data: Data, problem: Problem, draws: Draws, size: int, judges: Problem
    ) -> Learner:
        """Return the best of some starts among ``size`` rows, as ``judges`` see them."""
        n = len(problem.x)
        start = start_of(self, data, draws.random_state, _RANDOM_STARTS)
        tried = []
        for _ in range(start.n_init):
            rows = problem.take(draws.with_replacement(size) if size < n else None)
            generator = torch.Generator() if start.given else generator_from(draws.random_state)
            centroids = seeds(rows, self.n_clusters, start.init, generator)
            inertia = labels_and_inertia(judges, centroids)[1] if start.n_init > 1 else 0.0
            tried.append((inertia, centroids))
        best = min(tried, key=lambda one: one[0])[1]
        learner = self._learner(best)
        if not start.given and self.precision == "auto":
            learner.directions = Directions()
        return learner

    def _go_on(self, data: Data) -> Learner:
        """Return what learns on from where the last batch ended."""
        centroids = self._centroids(data)
        learner = self._learner(centroids)
        counts = self._counts.to(learner.state.counts)
        learner.state, learner.n_since = CentroidState(centroids, counts), self._n_since
        return learner

    def _learner(self, centroids: Tensor) -> Learner:
        counts = centroids.new_zeros(len(centroids), dtype=sum_dtype(centroids.device))
        state = CentroidState(centroids, counts)
        return Learner(state, self.reassignment_ratio, self._batch_size)

    def _learn(self, data: Data, problem: Problem, learner: Learner, mean_inertia: float) -> None:
        """Keep what was learnt; without labels of all rows, their inertia is taken from a mean."""
        centroids = learner.state.centroids
        if self.compute_labels:
            labels, self.inertia_ = labels_and_inertia(problem, centroids)
            self.labels_ = data.kind.labels(labels)
        elif not math.isnan(mean_inertia):
            weight = problem.sample_weight
            total = len(problem.x) if weight is None else weight.sum(dtype=torch.float64).item()
            self.inertia_ = mean_inertia * total
        self.cluster_centers_ = data.kind.give(centroids)
        self._counts, self._n_since = learner.state.counts, learner.n_since


def _problem(data: Data, metric: str) -> Problem:
    problem = as_problem(data.rows, data.weight, metric)
    check_finite(problem.x)
    return problem
