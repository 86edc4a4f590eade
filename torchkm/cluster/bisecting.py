"""Bisecting k-means, with the face of ``sklearn.cluster.BisectingKMeans``."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchkm.cluster import parameters
from torchkm.cluster.base import (
    CentroidEstimator,
    about_X,
    check_enough_rows,
    unchanged_by_errors,
)
from torchkm.cluster.callbacks import Watcher, with_callbacks
from torchkm.cluster.kinds import Data, read, tensor_of
from torchkm.cluster.starts import generator_from, start_of
from torchkm.functional import ClusterStats
from torchkm.functional.arrays import check_finite
from torchkm.functional.assignment import sq_distances_to
from torchkm.functional.problem import Problem, as_problem
from torchkm.solvers.bisecting import STRATEGIES, Tree, bisect, descend
from torchkm.solvers.fit import Settings, solve


class BisectingKMeans(CentroidEstimator):
    """Bisecting k-means, in the place of ``sklearn.cluster.BisectingKMeans``.

    Begins with one cluster and parts the worst in two until there are ``n_clusters``. New rows go
    down the same tree.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'random', 'k-means++', 'k-means||'} or callable, default='random'
        How the two centroids of a parting are found. A function is called as
        ``init(X, 2, random_state=random_state)``.
    n_init : int, default=1
        Starts of each parting, of which the best is kept.
    random_state : int, RandomState instance or None, default=None
        Where randomness comes from.
    max_iter : int, default=300
        Passes over the rows of a cluster at most.
    verbose : int, default=0
        Print a line for each pass.
    tol : float, default=1e-4
        A parting ends when its centroids move, in squares summed, by at most ``tol`` times the
        mean variance of a feature in the cluster.
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: ``X`` is never modified.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Accepted for scikit-learn's sake.
    bisecting_strategy : {'biggest_inertia', 'largest_cluster'}, default='biggest_inertia'
        Which cluster is parted next: that of the largest inertia, or of the most rows.
    device : str, torch.device or None, default=None
        Where to compute; None is where the rows are.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine' is spherical k-means.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Centroids, of the kind of ``X`` (NumPy for frames and sparse rows).
    labels_ : array of shape (n_samples,)
        Cluster of each row.
    inertia_ : float
        Weighted sum of squared distances of the rows to the centroids of their clusters.
    n_features_in_ : int
        Width of the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has such that are all strings.

    See Also
    --------
    KMeans : All clusters at once.

    References
    ----------
    Steinbach, Karypis and Kumar 2000, "A comparison of document clustering techniques".

    Examples
    --------
    >>> import numpy as np
    >>> from torchkm.cluster import BisectingKMeans
    >>> X = np.array([[1.0, 1], [2, 1], [10, 1], [11, 1], [30, 1], [31, 1]])
    >>> fitted = BisectingKMeans(n_clusters=3, random_state=0).fit(X)
    >>> np.sort(fitted.cluster_centers_[:, 0])
    array([ 1.5, 10.5, 30.5])
    """

    _checks: ClassVar[dict[str, parameters.Check]] = {
        **CentroidEstimator._checks,
        "init": parameters.drawn_start,
        "n_init": parameters.integer(1),
        "copy_x": parameters.flag,
        "algorithm": parameters.one_of("lloyd", "elkan"),
        "bisecting_strategy": parameters.one_of(*STRATEGIES),
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "random",
        n_init: int = 1,
        random_state: Any = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        bisecting_strategy: str = "biggest_inertia",
        device: Any = None,
        metric: str = "euclidean",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.tol = tol
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.bisecting_strategy = bisecting_strategy
        self.device = device
        self.metric = metric

    @with_callbacks
    @torch.no_grad()
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BisectingKMeans:
        """Part the rows until there are ``n_clusters`` clusters.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows, of any kind that ``KMeans`` takes.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; None counts each row once.

        Returns
        -------
        self : BisectingKMeans
        """
        with unchanged_by_errors(self):
            parameters.check_parameters(self, self._checks)
            data = read(self, X, sample_weight, reset=True)
            check_enough_rows(self, data)
            problem = as_problem(data.rows, data.weight, self.metric)
            check_finite(problem.x)
            watcher = Watcher(self, X, data.kind)
            tree, labels = self._tree_of(data, problem, watcher)
            centroids = tree.centroids
            sq_distances = sq_distances_to(problem, centroids, labels)
            self._tree = tuple(part.cpu().numpy() for part in tree)
            self.cluster_centers_ = data.kind.give(centroids)
            self.labels_ = data.kind.labels(labels)
            self.inertia_ = ClusterStats.weighed(sq_distances, data.weight).item()
            watcher.end()
        return self

    @about_X()
    def predict(self, X: Any) -> Any:
        """Return the cluster that each row comes to, down the tree.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        labels : array of shape (n_samples,), of the kind of ``X``
        """
        check_is_fitted(self)
        data = read(self, X, reset=False)
        problem = as_problem(data.rows, None, self.metric)
        check_finite(problem.x)
        tree = Tree(*(tensor_of(part).to(data.device) for part in self._tree))
        return data.kind.labels(descend(problem, tree))

    def _tree_of(self, data: Data, problem: Problem, watcher: Watcher) -> tuple[Tree, Tensor]:
        random_state = check_random_state(self.random_state)
        start = start_of(self, data, random_state, 1, k=2)
        settings = Settings(
            n_init=self.n_init,
            solver="lloyd" if start.given else "auto",
            max_iter=self.max_iter,
            tol=self.tol,
            metric=self.metric,
        )

        def part(rows: Problem, k: int) -> tuple[Tensor, Tensor]:
            init, generator = start.init if k == 2 else "random", generator_from(random_state)
            weight, watch = rows.sample_weight, watcher.watch
            found = solve(rows.x, k, init, weight, generator, watch, settings)
            return found.centroids, found.labels

        return bisect(problem, self.n_clusters, self.bisecting_strategy, part)
