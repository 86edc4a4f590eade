"""k-means as functions, with the signatures of ``sklearn.cluster``."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from torchkm.cluster import parameters
from torchkm.cluster.base import check_enough_rows
from torchkm.cluster.kinds import read
from torchkm.cluster.kmeans import KMeans
from torchkm.cluster.starts import generator_from
from torchkm.functional.arrays import check_finite
from torchkm.functional.plusplus import plusplus_index
from torchkm.functional.problem import as_problem, rows_as_centroids


def k_means(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    init: Any = "k-means++",
    n_init: int | str = "auto",
    max_iter: int = 300,
    verbose: bool = False,
    tol: float = 1e-4,
    random_state: Any = None,
    copy_x: bool = True,
    algorithm: str = "lloyd",
    return_n_iter: bool = False,
    device: Any = None,
    precision: str = "auto",
    metric: str = "euclidean",
    refine: int = 0,
) -> tuple[Any, ...]:
    """Return what ``KMeans`` finds, in the place of ``sklearn.cluster.k_means``.

    Parameters
    ----------
    X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
        Rows to cluster.
    n_clusters : int
        Number of clusters.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative; None counts each row once.
    init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm
        As in ``KMeans``.
    return_n_iter : bool, default=False
        Whether to return the number of passes as well.
    device, precision, metric, refine
        As in ``KMeans``.

    Returns
    -------
    centroid : array of shape (n_clusters, n_features)
    label : array of shape (n_samples,)
    inertia : float
    best_n_iter : int
        Only where ``return_n_iter``.

    Examples
    --------
    >>> from torchkm.cluster import k_means
    >>> centroid, label, inertia = k_means([[0.0], [1.0], [9.0]], 2, random_state=0)
    >>> round(inertia, 6)
    0.5
    """
    parameters.check_parameter("k_means", "return_n_iter", return_n_iter, parameters.flag)
    fitted = KMeans(
        n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
        device=device,
        precision=precision,
        metric=metric,
        refine=refine,
    ).fit(X, sample_weight=sample_weight)
    found = fitted.cluster_centers_, fitted.labels_, fitted.inertia_
    return (*found, fitted.n_iter_) if return_n_iter else found


def kmeans_plusplus(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    x_squared_norms: Any = None,
    random_state: Any = None,
    n_local_trials: int | None = None,
    device: Any = None,
) -> tuple[Any, Any]:
    """Choose rows to begin with, in the place of ``sklearn.cluster.kmeans_plusplus``.

    Greedy k-means++ among at most ``max(4096, 16 n_clusters)`` rows that are drawn at random.

    Parameters
    ----------
    X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
        Rows to choose from.
    n_clusters : int
        How many to choose.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative; None counts each row once.
    x_squared_norms : Ignored
        Accepted for scikit-learn's sake.
    random_state : int, RandomState instance or None, default=None
        Where randomness comes from.
    n_local_trials : int or None, default=None
        Candidates for each choice; None is ``2 + int(log(n_clusters))``.
    device : str, torch.device or None, default=None
        Where to compute; None is where the rows are.

    Returns
    -------
    centers : array of shape (n_clusters, n_features)
        The rows that were chosen.
    indices : array of shape (n_clusters,)
        Which rows these are.

    Examples
    --------
    >>> import numpy as np
    >>> from torchkm.cluster import kmeans_plusplus
    >>> X = np.array([[0.0], [0.1], [9.0]])
    >>> centers, indices = kmeans_plusplus(X, 2, random_state=0)
    >>> bool((centers == X[indices]).all())
    True
    """
    asked = _Asked(n_clusters, random_state, n_local_trials, device)
    parameters.check_parameters(asked, _CHECKS)
    data = read(asked, X, sample_weight, reset=True)
    check_enough_rows(asked, data)
    problem = as_problem(data.rows, data.weight, "euclidean")
    check_finite(problem.x, "X")
    generator = generator_from(check_random_state(random_state))
    index = plusplus_index(problem, n_clusters, generator, n_local_trials)
    kind = data.kind
    return kind.give(rows_as_centroids(problem, index)), kind.give(index)


class _Asked(BaseEstimator):
    """What ``kmeans_plusplus`` was asked, to be checked as an estimator is."""

    def __init__(
        self, n_clusters: int, random_state: Any, n_local_trials: int | None, device: Any
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.n_local_trials = n_local_trials
        self.device = device


_Asked.__name__ = "kmeans_plusplus"  # as messages call it

_CHECKS = {
    "n_clusters": parameters.integer(1),
    "random_state": parameters.randomness,
    "n_local_trials": parameters.either(None, parameters.integer(1)),
    "device": parameters.place,
}
