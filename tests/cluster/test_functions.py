"""``k_means`` and ``kmeans_plusplus`` with scikit-learn's signatures."""

import inspect

import numpy as np
import pytest
import scipy.sparse
import sklearn.cluster
import torch
from sklearn.datasets import load_digits

from torchkm.cluster import InvalidParameterError, KMeans, k_means, kmeans_plusplus


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


@pytest.mark.parametrize("name", ["k_means", "kmeans_plusplus"])
def test_signatures_are_those_of_scikit_learn(name):
    ours, theirs = (
        inspect.signature(getattr(library, name)).parameters
        for library in (__import__("torchkm.cluster").cluster, sklearn.cluster)
    )
    assert list(ours)[: len(theirs)] == list(theirs)
    assert [p.default for p in ours.values()][: len(theirs)] == [p.default for p in theirs.values()]


def test_k_means_returns_what_the_estimator_finds(digits):
    centroid, label, inertia, n_iter = k_means(digits, 5, random_state=0, return_n_iter=True)
    fitted = KMeans(5, random_state=0).fit(digits)
    np.testing.assert_array_equal(centroid, fitted.cluster_centers_)
    np.testing.assert_array_equal(label, fitted.labels_)
    assert (inertia, n_iter) == (fitted.inertia_, fitted.n_iter_)
    assert len(k_means(digits, 5, random_state=0)) == 3


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, scipy.sparse.csr_matrix])
def test_chosen_rows_are_rows_and_as_good_as_those_of_scikit_learn(digits, kind):
    def potential(choose, seed):
        centers, index = choose(kind(digits), 20, random_state=seed)
        np.testing.assert_array_equal(centers, digits[np.asarray(index)])
        assert len(set(np.asarray(index).tolist())) == 20
        apart = ((digits[:, None] - digits[np.asarray(index)]) ** 2).sum(2)
        return apart.min(1).sum()

    theirs = sklearn.cluster.kmeans_plusplus
    other = [theirs(digits, 20, random_state=s)[1] for s in range(6)]
    best = np.mean([((digits[:, None] - digits[i]) ** 2).sum(2).min(1).sum() for i in other])
    assert np.mean([potential(kmeans_plusplus, s) for s in range(6)]) < 1.05 * best


def test_indices_are_of_the_dtype_of_scikit_learns(digits):
    _, ours = kmeans_plusplus(digits, 3, random_state=0)
    _, theirs = sklearn.cluster.kmeans_plusplus(digits, 3, random_state=0)
    assert ours.dtype == theirs.dtype


def test_one_trial_is_worse_than_many(digits):
    def potential(trials):
        found = [
            kmeans_plusplus(digits, 10, random_state=s, n_local_trials=trials)[0] for s in range(9)
        ]
        return np.mean([((digits[:, None] - c) ** 2).sum(2).min(1).sum() for c in found])

    assert potential(10) < potential(1)


def test_rows_without_weight_are_not_chosen(digits):
    weight = (np.arange(len(digits)) % 2).astype(float)
    index = kmeans_plusplus(digits, 30, sample_weight=weight, random_state=0)[1]
    assert (index % 2 == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, "kmeans_plusplus: n_clusters must be at least 1"),
        ({"n_clusters": 2, "n_local_trials": 0}, "n_local_trials must be at least 1"),
        ({"n_clusters": 2, "random_state": "x"}, "random_state must be an integer"),
    ],
)
def test_bad_arguments_are_named(digits, arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        kmeans_plusplus(digits, **arguments)
    with pytest.raises(ValueError, match="n_samples=1797 should be >= n_clusters=2000"):
        kmeans_plusplus(digits, 2000)
