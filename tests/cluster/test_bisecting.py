"""BisectingKMeans: one cluster is parted after the other, and new rows go down the tree."""

import warnings

import numpy as np
import pytest
import sklearn.cluster
from sklearn.datasets import load_digits, make_blobs

from torchkm.cluster import BisectingKMeans, InvalidParameterError

OURS = {"device", "metric"}


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


def test_parameters_and_defaults_are_those_of_scikit_learn():
    ours = BisectingKMeans().get_params()
    theirs = sklearn.cluster.BisectingKMeans().get_params()
    assert set(ours) - OURS == set(theirs)
    assert {name: ours[name] for name in theirs} == theirs


def farthest_pair(X, n_clusters, random_state):
    assert n_clusters == 2
    along = X[:, 0]
    return np.stack([X[along.argmin()], X[along.argmax()]])


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_from_the_same_starts_it_parts_as_scikit_learn_does(k, strategy):
    # Far enough apart that both stop at unchanged labels, whatever tol is scaled by.
    X = make_blobs(700, 3, centers=20, cluster_std=0.3, center_box=(-40, 40), random_state=4)[0]
    ours, theirs = (
        cls(k, init=farthest_pair, bisecting_strategy=strategy, tol=0).fit(X)
        for cls in (BisectingKMeans, sklearn.cluster.BisectingKMeans)
    )
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)
    new = X + 5 * np.random.RandomState(0).randn(*X.shape)
    np.testing.assert_array_equal(ours.predict(new), theirs.predict(new))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_labels_agree_with_predict_and_inertia_with_rows(digits, metric, weighted):
    w = np.random.RandomState(0).rand(len(digits)) if weighted else np.ones(len(digits))
    fitted = BisectingKMeans(9, metric=metric, random_state=0).fit(digits, sample_weight=w)
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(digits))
    rows = digits if metric == "euclidean" else digits / np.linalg.norm(digits, axis=1)[:, None]
    apart = ((rows - fitted.cluster_centers_[fitted.labels_]) ** 2).sum(1)
    assert fitted.inertia_ == pytest.approx(apart @ w, rel=1e-9)
    assert sorted(set(fitted.labels_)) == list(range(9))


def test_more_clusters_than_distinct_rows():
    X = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as scikit-learn's is silent
        fitted = BisectingKMeans(5, random_state=0).fit(X)
    assert fitted.inertia_ == 0
    assert np.isfinite(fitted.cluster_centers_).all()
    assert BisectingKMeans(3, random_state=0).fit(X[::4]).inertia_ == 0


def test_weights_say_which_cluster_is_parted():
    rows = np.array([[0.0], [1.0], [100.0], [103.0]])
    fitted = BisectingKMeans(3, random_state=0).fit(rows)
    np.testing.assert_allclose(np.sort(fitted.cluster_centers_[:, 0]), [0.5, 100, 103])
    fitted.fit(rows, sample_weight=[100, 100, 1, 1])
    np.testing.assert_allclose(np.sort(fitted.cluster_centers_[:, 0]), [0, 1, 101.5])


def test_a_row_alone_is_not_parted():
    X = np.array([[0.0], [5.0], [5.0], [5.0]])  # once parted, no cluster is better than another
    for seed in range(6):
        assert BisectingKMeans(3, random_state=seed).fit(X).inertia_ == 0


def test_an_array_for_init_is_refused(digits):
    with pytest.raises(InvalidParameterError, match="init must be one of"):
        BisectingKMeans(2, init=digits[:2]).fit(digits)
    with pytest.raises(InvalidParameterError, match="bisecting_strategy must be one of"):
        BisectingKMeans(2, bisecting_strategy="smallest").fit(digits)
