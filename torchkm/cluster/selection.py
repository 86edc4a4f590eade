"""How many clusters: fits with several k, what each is worth, and one that is recommended."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from torchkm.cluster import parameters
from torchkm.cluster.base import CentroidEstimator, unchanged_by_errors
from torchkm.cluster.callbacks import Watcher, with_callbacks
from torchkm.cluster.kinds import Data, read
from torchkm.cluster.kmeans import KMeans
from torchkm.cluster.scoring import Column, bic, first_best, silhouettes, table
from torchkm.cluster.starts import generator_from
from torchkm.functional.caller import warn_caller
from torchkm.metrics import elbow
from torchkm.plotting import Curve, selection_curves
from torchkm.solvers.fit import Settings
from torchkm.solvers.result import KMeansResult
from torchkm.solvers.sweep import as_ks, solve_each

_IN_WORDS = {"silhouette": "the silhouette", "elbow": "the elbow", "bic": "BIC"}

# Fewer rows cannot hold two clusters of which one has a row to compare, fewer points no elbow.
_FEWEST_ROWS = _FEWEST_POINTS = 3


class KSelection(CentroidEstimator):
    """Fits k-means with several numbers of clusters and recommends one of them.

    The fits share their seeding and begin from each other (``torchkm.solvers.sweep``). Once fitted
    it predicts, transforms and scores as the recommended one.

    Parameters
    ----------
    ks : iterable of int, default=range(2, 11)
        Numbers of clusters to fit.
    criterion : {'silhouette', 'elbow', 'bic'}, default='silhouette'
        What recommends. 'silhouette' takes the largest mean silhouette. 'elbow' takes the k where
        the falling logarithm of the inertia bends most: the farthest below the straight line from
        its first point to its last. 'bic' takes the smallest Bayesian information criterion.
    sample_size : int or None, default=10_000
        Rows that silhouettes are taken of and among, drawn at random once for all k; None takes
        all. Their cost grows with its square.
    max_iter : int, default=300
        Passes over all rows at most, for each k.
    tol : float, default=1e-4
        A fit ends when the centroids move, in squares summed over all, by at most ``tol`` times
        the mean variance of a feature.
    verbose : int, default=0
        Print a line for each pass.
    random_state : int, RandomState instance or None, default=None
        Where randomness comes from.
    device : str, torch.device or None, default=None
        Where to compute; None is where the rows are. Results go back to where the rows came from.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine' is spherical k-means: rows and centroids have unit length, distances are chords;
        silhouettes compare ``1 - cos``.

    Attributes
    ----------
    k_ : int
        The recommended number of clusters.
    ks_ : ndarray of shape (n_ks,)
        Numbers of clusters, rising and each once.
    inertias_ : ndarray of shape (n_ks,)
        Weighted sum of squared distances to the centroids, of each k.
    silhouettes_ : ndarray of shape (n_ks,)
        Mean silhouette of the sample, in [-1, 1]; more is better. NaN for k=1, and where the
        sample has as many clusters as rows.
    bics_ : ndarray of shape (n_ks,)
        Bayesian information criterion; less is better. NaN where there are no more rows than
        clusters.
    elbow_k_, silhouette_k_, bic_k_ : int or None
        What each criterion recommends; None where it cannot tell.
    estimators_ : list of KMeans
        The fit of each k.
    best_estimator_ : KMeans
        That of ``k_``.
    cluster_centers_ : array of shape (k_, n_features)
        Its centroids.
    labels_ : array of shape (n_samples,)
        Its labels.
    inertia_ : float
        Its inertia.
    n_iter_ : int
        Its passes over all rows.
    n_features_in_ : int
        Width of the rows.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has such that are all strings.

    See Also
    --------
    KMeans : One fit.
    torchkm.metrics.gap_statistic : Compares with rows without clusters; needs many fits.

    Notes
    -----
    The criteria answer different questions. Silhouettes prefer clusters that are far apart, BIC
    those that a spherical Gaussian describes: rows that are none, such as images, get the largest
    k. The elbow is that of Kneedle (Satopaa et al. 2011, doi:10.1109/ICDCSW.2011.20) and should
    lie inside of ``ks``. BIC is that of X-means (Pelleg and Moore 2000), with clusters of their
    own sizes and one variance: ``(k d + k) ln n - 2 ln L``; ``torchkm.metrics`` has both.
    Weights count in all but the silhouettes.

    Examples
    --------
    >>> import numpy as np
    >>> from torchkm.cluster import KSelection
    >>> X = np.array([[0.0], [1], [20], [21], [40], [41]])
    >>> selection = KSelection(ks=range(1, 6), random_state=0).fit(X)
    >>> selection.k_, selection.elbow_k_
    (3, 3)
    >>> print(selection.report())
      k   inertia   silhouette     BIC
      1    1601.5          nan   54.23
      2     401.5       0.6470   57.49
      3       1.5*      0.9496*  33.80*
      4         1       0.6325   39.16
      5       0.5       0.3162   44.51
    * is the choice of a column. Recommended, by silhouette: k = 3
    """

    _checks: ClassVar[dict[str, parameters.Check]] = {
        "criterion": parameters.one_of(*_IN_WORDS),
        "sample_size": parameters.either(None, parameters.integer(_FEWEST_ROWS)),
        **{
            name: CentroidEstimator._checks[name]
            for name in ("max_iter", "tol", "verbose", "device", "metric")
        },
    }

    def __init__(
        self,
        ks: Any = range(2, 11),
        *,
        criterion: str = "silhouette",
        sample_size: int | None = 10_000,
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        device: Any = None,
        metric: str = "euclidean",
    ) -> None:
        self.ks = ks
        self.criterion = criterion
        self.sample_size = sample_size
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.device = device
        self.metric = metric

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KSelection:
        """Fit k-means with each k, and choose.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows, as for ``KMeans``.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; None counts each row once. Not used for silhouettes.

        Returns
        -------
        self : KSelection
        """
        with unchanged_by_errors(self):
            parameters.check_parameters(self, self._checks)
            data = read(self, X, sample_weight, reset=True)
            ks = self._checked_ks(data.rows.shape[0])
            generator = generator_from(check_random_state(self.random_state))
            watcher = Watcher(self, X, data.kind)
            settings = Settings(max_iter=self.max_iter, tol=self.tol, metric=self.metric)
            results = list(
                solve_each(data.rows, ks, data.weight, generator, watcher.watch, settings)
            )
            self.ks_ = np.array(ks)
            self.inertias_ = np.array([result.inertia for result in results])
            self.silhouettes_ = silhouettes(data, results, self.metric, self.sample_size, generator)
            self.bics_ = np.array([bic(data, result) for result in results])
            self._choose()
            self._learn(data, results)
            watcher.end()
        return self

    def report(self) -> str:
        """Return what each k is worth as a table to print.

        Returns
        -------
        report : str
            A line for each k; an asterisk stands where a column has its best.
        """
        check_is_fitted(self)
        columns = {
            "inertia": Column(self.inertias_, self.elbow_k_, ".8g"),
            "silhouette": Column(self.silhouettes_, self.silhouette_k_, ".4f"),
            "BIC": Column(self.bics_, self.bic_k_, ".2f"),
        }
        last = f"* is the choice of a column. Recommended, by {self.criterion}: k = {self.k_}"
        return f"{table(self.ks_.tolist(), columns)}\n{last}"

    def plot(self) -> Any:
        """Draw inertia, silhouette and BIC over k, with what each recommends.

        Returns
        -------
        figure : matplotlib.figure.Figure
            Of its own; pyplot's state is not touched. ``figure.savefig(...)`` writes it.
        """
        check_is_fitted(self)
        curves = [
            Curve(
                "Inertia (log scale): the elbow", self.inertias_.tolist(), self.elbow_k_, log=True
            ),
            Curve("Mean silhouette: the highest", self.silhouettes_.tolist(), self.silhouette_k_),
            Curve("BIC: the lowest", self.bics_.tolist(), self.bic_k_),
        ]
        heading = f"Recommended by {_IN_WORDS[self.criterion]}: k = {self.k_}"
        return selection_curves(self.ks_.tolist(), curves, self.k_, heading)

    def _checked_ks(self, n: int) -> list[int]:
        """Return ``ks`` as ``as_ks`` does, once it is known that ``criterion`` can tell."""
        name, needs = type(self).__name__, None
        try:
            ks = as_ks(self.ks, n)
        except (TypeError, ValueError) as error:
            raise parameters.InvalidParameterError(f"{name}: {error}") from error
        if self.criterion == "silhouette" and not any(2 <= k < n for k in ks):
            needs = f"a k from 2 to n_samples - 1 = {n - 1}"
        if self.criterion == "elbow" and len(ks) < _FEWEST_POINTS:
            needs = f"at least {_FEWEST_POINTS} different k"
        if needs:
            raise parameters.InvalidParameterError(
                f"{name}: criterion={self.criterion!r} needs {needs} in ks, got {ks}"
            )
        return ks

    def _choose(self) -> None:
        ks = self.ks_.tolist()
        self.elbow_k_ = elbow(ks, self.inertias_.tolist())
        self.silhouette_k_ = first_best(ks, -self.silhouettes_)
        self.bic_k_ = first_best(ks, self.bics_)
        chosen = getattr(self, f"{self.criterion}_k_")
        if chosen is None:
            warn_caller(
                f"criterion={self.criterion!r} cannot tell which of ks={ks} is best; taking the "
                "smallest",
                UserWarning,
            )
        self.k_ = ks[0] if chosen is None else chosen

    def _learn(self, data: Data, results: list[KMeansResult]) -> None:
        self.estimators_ = [self._estimator(data, result) for result in results]
        best = self.estimators_[self.ks_.tolist().index(self.k_)]
        self.best_estimator_ = best
        self.cluster_centers_, self.labels_ = best.cluster_centers_, best.labels_
        self.inertia_, self.n_iter_ = best.inertia_, best.n_iter_

    def _estimator(self, data: Data, result: KMeansResult) -> KMeans:
        """Return a ``KMeans`` as it would be, had it been fitted to ``result``."""
        shared = ("max_iter", "tol", "random_state", "device", "metric")
        settings = {name: getattr(self, name) for name in shared}
        estimator = KMeans(len(result.centroids), **settings)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(estimator, name, getattr(self, name))
        estimator._learn(data, result)
        return estimator
