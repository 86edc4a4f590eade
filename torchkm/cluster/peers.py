"""The estimators of scikit-learn whose place those of torchkm take: made of them, and read."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from torchkm.cluster.base import OUTPUT, REQUESTS, is_learnt
from torchkm.cluster.kinds import numpy_of, tensor_of
from torchkm.functional import ClusterStats
from torchkm.functional.geometry import uses_unit_rows


def to_peer(estimator: Any, peer: Any) -> Any:
    """Return an estimator of scikit-learn's class ``peer`` that has learnt the same.

    Raises:
        ValueError: a metric that scikit-learn's estimators do not measure.
    """
    check_is_fitted(estimator)
    if uses_unit_rows(estimator.metric):
        raise ValueError(
            "metric must be 'euclidean', the only one that scikit-learn's estimator measures, got "
            f"{estimator.metric!r}; there, scale the rows to unit length and fit on them"
        )
    learnt = _learnt(estimator)
    fitted = _with_centroids(peer, learnt["cluster_centers_"])
    fitted.set_params(**_shared(estimator, fitted))
    if "labels_" in learnt:
        learnt["labels_"] = learnt["labels_"].astype(np.int32)
    counts, n_since = learnt.pop("_counts"), learnt.pop("_n_since", 0)
    if hasattr(fitted, "_counts"):  # of the kind that learns from batches
        learnt["_counts"] = counts.astype(learnt["cluster_centers_"].dtype)
        learnt["_n_since_last_reassign"] = n_since
    return _told(fitted, estimator, learnt)


def from_peer(cls: Any, peer: Any, fitted: Any) -> Any:
    """Return an estimator of class ``cls`` that has learnt what ``fitted`` of ``peer`` has.

    Raises:
        TypeError: ``fitted`` is of another class.
    """
    if not isinstance(fitted, peer):
        raise TypeError(
            f"fitted must be a sklearn.cluster.{peer.__name__}, got a {type(fitted).__name__}"
        )
    check_is_fitted(fitted)
    learnt = _learnt(fitted)
    if "_counts" in learnt:
        learnt["_counts"] = tensor_of(learnt["_counts"]).double()
        learnt["_n_since"] = fitted._n_since_last_reassign
    else:
        labels = tensor_of(learnt.get("labels_", np.zeros(0))).long()  # none: no weight is known
        learnt["_counts"] = ClusterStats.counted(labels, None, fitted.n_clusters)
    return _told(cls(**_shared(fitted, cls())), fitted, learnt)


def teach(estimator: Any, learnt: dict[str, Any]) -> Any:
    """Return ``estimator`` with what was ``learnt`` in place of what it had."""
    for name in [name for name in vars(estimator) if is_learnt(name)]:
        delattr(estimator, name)
    vars(estimator).update(learnt)
    return estimator


def _told(taker: Any, giver: Any, learnt: dict[str, Any]) -> Any:
    """Return ``taker`` with what was ``learnt``, and what ``giver`` was told besides parameters."""
    told = {name: vars(giver)[name] for name in (OUTPUT, REQUESTS) if name in vars(giver)}
    vars(taker).update(deepcopy(told))
    return teach(taker, learnt)


def _learnt(estimator: Any) -> dict[str, Any]:
    """Return copies of what an estimator has learnt, arrays as NumPy's."""
    return {name: numpy_of(value) for name, value in vars(estimator).items() if is_learnt(name)}


def _shared(giver: Any, taker: Any) -> dict[str, Any]:
    """Return the parameters of ``giver`` that ``taker`` knows too, as scikit-learn takes them."""
    known = taker.get_params(deep=False)
    params = {
        name: numpy_of(value)
        for name, value in giver.get_params(deep=False).items()
        if name in known
    }
    if isinstance(params["init"], str) and params["init"] == "k-means||":
        params["init"] = "k-means++"
    return params


def _with_centroids(peer: Any, centroids: Any) -> Any:
    """Return an estimator of scikit-learn that was fitted on the centroids themselves.

    So each version sets what it keeps in private, at the cost of a pass over ``k`` rows.
    """
    estimator = peer(len(centroids), init=centroids, n_init=1, max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some are equal
        return estimator.fit(centroids)
