"""What the estimators share: how rows come in, and what can be asked once there are centroids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchkm import functional
from torchkm.cluster import parameters
from torchkm.cluster.callbacks import CallbackSupportMixin
from torchkm.cluster.kinds import Data, read, tensor_of
from torchkm.functional import ClusterStats
from torchkm.functional.assignment import labels_of
from torchkm.functional.caller import warn_caller


@contextmanager
def about_X() -> Iterator[None]:
    """Have errors of the core, which calls rows ``x``, call them by the name of the parameter."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = _ROWS.sub("X", str(error))
        if message == str(error):
            raise
        raise type(error)(message) from error


# Where the core names the rows in a message.
_ROWS = re.compile(r"^x(?= must )|(?<=rows of )x(?= are )")


class CentroidEstimator(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """An estimator whose whole knowledge is ``cluster_centers_``."""

    # Libraries that were written before scikit-learn had tags look for it: yellowbrick for one.
    _estimator_type = "clusterer"

    cluster_centers_: Any
    labels_: Any
    metric: str
    device: Any
    init: Any
    n_init: Any
    n_clusters: int
    random_state: Any
    _checks: ClassVar[dict[str, parameters.Check]] = {
        "n_clusters": parameters.integer(1),
        "init": parameters.start,
        "n_init": parameters.either("auto", parameters.integer(1)),
        "max_iter": parameters.integer(1),
        "tol": parameters.number,
        "verbose": parameters.level,
        "random_state": parameters.randomness,
        "device": parameters.place,
        "metric": parameters.one_of(*functional.METRICS),
    }

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the labels of the rows.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to cluster.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        labels : array of shape (n_samples,)
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the distances of the rows to the centroids.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows to cluster.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        X_new : array of shape (n_samples, n_clusters)
        """
        return self.fit(X, sample_weight=sample_weight)._distances(X)

    @about_X()
    def predict(self, X: Any) -> Any:
        """Return the nearest centroid of each row.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows; of any kind, whatever the estimator was fitted on.

        Returns
        -------
        labels : array of shape (n_samples,), of the kind of ``X``
        """
        data = self._known(X)
        return data.kind.labels(labels_of(data.rows, self._centroids(data), self.metric))

    def transform(self, X: Any) -> Any:
        """Return the distance of each row to each centroid (not squared).

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_new : array of shape (n_samples, n_clusters), of the kind of ``X``
        """
        return self._distances(X)

    @about_X()
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the inertia of the rows about the centroids, with a minus.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Rows.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; None counts each row once.

        Returns
        -------
        score : float
        """
        data = self._known(X, sample_weight)
        found = functional.assign(data.rows, self._centroids(data), metric=self.metric)
        return -ClusterStats.weighed(found.sq_distances, data.weight).item()

    def __sklearn_tags__(self) -> Any:
        """Say that CSR rows are welcome, and that float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with tensors on the CPU, so that it loads where there is no GPU.

        What nobody sees is NumPy's: joblib tells estimators apart by what is pickled of them, and
        of a tensor that differs each time.
        """
        state = super().__getstate__()
        return {
            name: _unseen(name, value.cpu()) if isinstance(value, Tensor) else value
            for name, value in state.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state back."""
        unseen = {name: tensor_of(state[name]) for name in _UNSEEN if name in state}
        super().__setstate__({**state, **unseen})

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _known(self, X: Any, sample_weight: Any = None) -> Data:
        check_is_fitted(self)
        return read(self, X, sample_weight, reset=False)

    def _centroids(self, data: Data) -> Tensor:
        """Return ``cluster_centers_`` as a tensor where the rows lie."""
        return tensor_of(self.cluster_centers_).to(data.device)

    @about_X()
    def _distances(self, X: Any) -> Any:
        data = self._known(X)
        out = functional.distances(data.rows, self._centroids(data), metric=self.metric)
        return data.kind.give(out)


# Where scikit-learn keeps what ``set_output`` was told, and what is asked of metadata.
OUTPUT, REQUESTS = "_sklearn_output_config", "_metadata_request"

# The weight that each cluster has seen, as a tensor, the rows since rare ones were looked for, and
# the rows that each batch counts as.
_LEARNT_TOO = ("_counts", "_n_since", "_batch_size")

# Tensors among what an estimator learns whatever it is given.
_UNSEEN = ("_counts",)


def _unseen(name: str, value: Tensor) -> Any:
    return value.numpy() if name in _UNSEEN else value


@contextmanager
def unchanged_by_errors(estimator: BaseEstimator) -> Iterator[None]:
    """Give ``estimator`` back what it had learnt, where learning fails."""
    before = {name: value for name, value in vars(estimator).items() if is_learnt(name)}
    try:
        with about_X():
            yield
    except BaseException:
        for name in [name for name in vars(estimator) if is_learnt(name)]:
            delattr(estimator, name)
        vars(estimator).update(before)
        raise


def check_enough_rows(estimator: CentroidEstimator, data: Data) -> None:
    """Raise where there are fewer rows than clusters.

    Raises:
        ValueError: both numbers are in the message.
    """
    n = data.rows.shape[0]
    if n < estimator.n_clusters:
        raise ValueError(f"n_samples={n} should be >= n_clusters={estimator.n_clusters}.")


def warn_of_few_clusters(n_clusters: int, n_empty: int) -> None:
    """Warn as scikit-learn does where fewer clusters hold rows than were asked for.

    Warns:
        ConvergenceWarning: both numbers are in the message.
    """
    if n_empty:
        warn_caller(
            f"Number of distinct clusters ({n_clusters - n_empty}) found smaller than n_clusters "
            f"({n_clusters}). Possibly due to duplicate points in X.",
            ConvergenceWarning,
        )


def is_learnt(name: str) -> bool:
    """Return whether an attribute is something that a fit found."""
    return name in _LEARNT_TOO or (name.endswith("_") and not name.startswith("_"))
