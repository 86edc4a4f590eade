"""k-means over all rows, with the face of ``sklearn.cluster.KMeans``."""

from __future__ import annotations

from typing import Any, ClassVar

import sklearn.cluster
import torch
from sklearn.utils import check_random_state

from torchkm.cluster import parameters
from torchkm.cluster.base import (
    CentroidEstimator,
    check_enough_rows,
    unchanged_by_errors,
    warn_of_few_clusters,
)
from torchkm.cluster.callbacks import Watcher, with_callbacks
from torchkm.cluster.exchange import Exchange
from torchkm.cluster.kinds import Data, read
from torchkm.cluster.starts import Start, generator_from, start_of
from torchkm.functional import ClusterStats
from torchkm.functional.caller import warn_caller
from torchkm.kernels import PRECISIONS, sum_dtype
from torchkm.solvers import KMeansResult
from torchkm.solvers.fit import Settings, solve

# Starts where chance decides and ``n_init="auto"``, as in scikit-learn.
_RANDOM_STARTS = 10


class KMeans(Exchange, CentroidEstimator):
    """k-means, in the place of ``sklearn.cluster.KMeans``.

    Starts that are drawn (``init="k-means++"``, ``"random"``) are followed by the progressive
    solver of ``torchkm.kmeans``, which rests where Lloyd's passes would, sooner. From given
    centroids it makes Lloyd's passes, and finds scikit-learn's labels, inertia and ``n_iter_``.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'k-means++', 'k-means||', 'random'}, callable or array of shape \
(n_clusters, n_features), default='k-means++'
        How the first centroids are found. A function is called as
        ``init(X, n_clusters, random_state=random_state)``, with the rows as they came, where
        scikit-learn takes the mean off first.
    n_init : 'auto' or int, default='auto'
        Starts, of which the best is kept. 'auto' is 10 for 'random' and functions, else 1.
    max_iter : int, default=300
        Passes over all rows at most.
    tol : float, default=1e-4
        The fit ends when the centroids move, in squares summed over all, by at most ``tol`` times
        the mean variance of a feature.
    verbose : int, default=0
        Print a line for each pass.
    random_state : int, RandomState instance or None, default=None
        Where randomness comes from.
    copy_x : bool, default=True
        Accepted for scikit-learn's sake: ``X`` is never modified.
    algorithm : {'lloyd', 'elkan'}, default='lloyd'
        Accepted for scikit-learn's sake: both end in the same place, and how passes are saved is
        chosen for each problem.
    device : str, torch.device or None, default=None
        Where to compute; None is where the rows are. Results go back to where the rows came from.
    precision : {'auto', 'bfloat16', 'float32'}, default='auto'
        What rows are scored in; labels are those of float32 either way. Given centroids and
        another value than 'auto' are followed by the progressive solver.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine' is spherical k-means: rows and centroids have unit length, distances are chords.
    refine : int, default=0
        Rounds of swaps out of local optima at most, once settled; 20 are many.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, n_features)
        Centroids, of the kind of ``X`` (NumPy for frames and sparse rows).
    labels_ : array of shape (n_samples,)
        Nearest centroid of each row: int32 in NumPy, int64 in torch.
    inertia_ : float
        Weighted sum of squared distances to them.
    n_iter_ : int
        Passes made over all rows.
    n_features_in_ : int
        Width of the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has such that are all strings.

    See Also
    --------
    MiniBatchKMeans : Learns from random batches, or from a stream.
    torchkm.kmeans : The same as a function on tensors.

    Notes
    -----
    A pass takes ``2 n k d`` operations at most, and memory for a block of scores.

    Examples
    --------
    >>> import numpy as np
    >>> from torchkm.cluster import KMeans
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> fitted = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> np.sort(fitted.cluster_centers_, axis=0)
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> round(fitted.inertia_, 6)
    16.0
    """

    _peer = sklearn.cluster.KMeans
    _checks: ClassVar[dict[str, parameters.Check]] = {
        **CentroidEstimator._checks,
        "copy_x": parameters.flag,
        "algorithm": parameters.one_of("lloyd", "elkan"),
        "precision": parameters.one_of(*PRECISIONS),
        "refine": parameters.integer(0),
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        device: Any = None,
        precision: str = "auto",
        metric: str = "euclidean",
        refine: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.device = device
        self.precision = precision
        self.metric = metric
        self.refine = refine

    @with_callbacks
    @torch.no_grad()
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Find the clusters of the rows.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows: NumPy arrays, pandas and polars frames, lists, SciPy sparse matrices, torch
            tensors (which stay on their device), or any array that speaks DLPack. Float32 stays
            float32. Tensors may also be bfloat16, float16 or uint8.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; None counts each row once. Not used where ``init`` is given.

        Returns
        -------
        self : KMeans
        """
        with unchanged_by_errors(self):
            parameters.check_parameters(self, self._checks)
            data = read(self, X, sample_weight, reset=True)
            check_enough_rows(self, data)
            if self.algorithm == "elkan" and self.n_clusters == 1:
                warn_caller(
                    "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' "
                    "instead.",
                    RuntimeWarning,
                )
            random_state = check_random_state(self.random_state)
            start = start_of(self, data, random_state, _RANDOM_STARTS)
            watcher = Watcher(self, X, data.kind)
            generator = generator_from(random_state)
            result = solve(
                data.rows,
                self.n_clusters,
                start.init,
                data.weight,
                generator,
                watcher.watch,
                self._settings(start),
            )
            self._learn(data, result)
            watcher.end(result.status)
        return self

    def _settings(self, start: Start) -> Settings:
        as_scikit_learn = start.given and not self.refine and self.precision == "auto"
        return Settings(
            n_init=start.n_init,
            solver="lloyd" if as_scikit_learn else "auto",
            refine=self.refine,
            precision=self.precision,
            max_iter=self.max_iter,
            tol=self.tol,
            metric=self.metric,
        )

    def _learn(self, data: Data, result: KMeansResult) -> None:
        members = torch.bincount(result.labels, minlength=self.n_clusters)  # (k,)
        warn_of_few_clusters(self.n_clusters, members.tolist().count(0))
        self.cluster_centers_ = data.kind.give(result.centroids)
        self.labels_ = data.kind.labels(result.labels)
        self.inertia_ = result.inertia
        self.n_iter_ = result.n_iter
        self._counts = members.to(sum_dtype(members.device))
        if data.weight is not None:
            self._counts = ClusterStats.counted(result.labels, data.weight, self.n_clusters)
