"""MiniBatchKMeans beside scikit-learn's: draws, steps, reassignment and stopping are the same."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import load_digits

from torchkm.cluster import InvalidParameterError, MiniBatchKMeans
from torchkm.solvers import sampled

OURS = {"device", "precision", "metric"}


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


def first_rows(X, k):
    return X[np.random.RandomState(0).permutation(len(X))[:k]]


def both(X, w=None, **settings):
    return [
        cls(random_state=3, **settings).fit(X, sample_weight=w)
        for cls in (MiniBatchKMeans, sklearn.cluster.MiniBatchKMeans)
    ]


def test_parameters_and_defaults_are_those_of_scikit_learn():
    ours = MiniBatchKMeans().get_params()
    theirs = sklearn.cluster.MiniBatchKMeans().get_params()
    assert set(ours) - OURS == set(theirs)
    assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 100},
        {"batch_size": 64, "tol": 1e-3, "max_no_improvement": None, "max_iter": 5},
        {"batch_size": 100, "reassignment_ratio": 0.3},
        {"batch_size": 100, "reassignment_ratio": 0, "max_no_improvement": 2},
        {"batch_size": 5000, "max_iter": 3},
        {"batch_size": 50, "init_size": 60, "max_iter": 2},
    ],
)
@pytest.mark.parametrize("k", [3, 40])
def test_from_the_same_start_it_ends_as_scikit_learn_does(digits, k, settings, weighted):
    w = np.random.RandomState(1).rand(len(digits)) if weighted else None
    ours, theirs = both(digits, w, n_clusters=k, init=first_rows(digits, k), **settings)
    assert (ours.n_steps_, ours.n_iter_) == (theirs.n_steps_, theirs.n_iter_)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)


def test_without_labels_the_inertia_is_that_of_the_last_batches(digits):
    init = first_rows(digits, 10)
    ours, theirs = both(digits, n_clusters=10, init=init, batch_size=100, compute_labels=False)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    assert not hasattr(ours, "labels_")
    one = MiniBatchKMeans(3, init=init[:3], max_iter=1, batch_size=9999, compute_labels=False)
    assert one.fit(digits).inertia_ > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_partial_fit_learns_as_scikit_learn_does(digits, weighted):
    ours, theirs = (
        cls(12, init=first_rows(digits, 12), random_state=3, batch_size=200)
        for cls in (MiniBatchKMeans, sklearn.cluster.MiniBatchKMeans)
    )
    for batch in np.array_split(digits, 9):
        w = np.random.RandomState(1).rand(len(batch)) if weighted else None
        ours.partial_fit(batch, sample_weight=w)
        theirs.partial_fit(batch, sample_weight=w)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)
        np.testing.assert_array_equal(ours.labels_, theirs.labels_)
        assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.n_steps_ == theirs.n_steps_ == 9


@pytest.mark.parametrize("size", [9, 10])
def test_batches_smaller_than_the_first_count_as_many(digits, size):
    """Of so few rows half at most are given away, though more clusters are rare."""
    given = {"init": first_rows(digits, 40), "reassignment_ratio": 0.9, "random_state": 1}
    ours, theirs = (cls(40, **given) for cls in (MiniBatchKMeans, sklearn.cluster.MiniBatchKMeans))
    n_given = []
    for batch in [digits[:200], *(digits[200 + size * i :][:size] for i in range(80))]:
        for fitted in (ours, theirs):
            fitted.partial_fit(batch)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)
        given_away = (ours.cluster_centers_[:, None] == batch).all(2).any(1)
        n_given.append(given_away.sum())
    assert max(n_given[1:]) == size // 2


def test_too_small_an_init_size_becomes_what_scikit_learn_makes_it(digits):
    with pytest.warns(RuntimeWarning, match="init_size=3"):
        ours, theirs = both(
            digits, n_clusters=8, init=first_rows(digits, 8), init_size=3, batch_size=100
        )
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)


def test_partial_fit_goes_on_from_a_fit(digits):
    ours, theirs = both(digits, n_clusters=5, init=first_rows(digits, 5), batch_size=300)
    for fitted in (ours, theirs):
        fitted.partial_fit(digits[:300])
    assert ours.n_steps_ == theirs.n_steps_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_drawn_starts_end_about_where_those_of_scikit_learn_do(digits, init):
    ours, theirs = (
        np.mean([cls(20, init=init, random_state=s).fit(digits).inertia_ for s in range(6)])
        for cls in (MiniBatchKMeans, sklearn.cluster.MiniBatchKMeans)
    )
    assert ours <= 1.03 * theirs


def test_labels_are_exact_where_batches_are_not(digits):
    X = np.tile(digits, (1, 4)).astype(np.float32)  # wide enough for bfloat16, where there is any
    fitted = MiniBatchKMeans(40, random_state=0).fit(X)
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(X))
    assert fitted.inertia_ == pytest.approx(-fitted.score(X), rel=1e-6)
    exact = MiniBatchKMeans(40, random_state=0, precision="float32").fit(X)
    assert fitted.inertia_ == pytest.approx(exact.inertia_, rel=0.03)


def test_batches_of_a_stream_are_not_guessed(digits, monkeypatch):
    guessed, read = [], sampled.rough_read
    monkeypatch.setattr(sampled, "rough_read", lambda *args: guessed.append(args) or read(*args))
    MiniBatchKMeans(10, random_state=0).partial_fit(digits).partial_fit(digits)
    MiniBatchKMeans(10, init=digits[:10], n_init=1).fit(digits)
    MiniBatchKMeans(10, random_state=0, precision="float32").fit(digits)
    assert not guessed
    MiniBatchKMeans(10, random_state=0).fit(digits)
    assert guessed


def test_several_starts_are_judged_by_rows(digits):
    one = np.mean(
        [
            MiniBatchKMeans(10, init="random", n_init=1, max_iter=1, random_state=s)
            .fit(digits)
            .inertia_
            for s in range(8)
        ]
    )
    many = np.mean(
        [
            MiniBatchKMeans(10, init="random", n_init=10, max_iter=1, random_state=s)
            .fit(digits)
            .inertia_
            for s in range(8)
        ]
    )
    assert many < one


def test_it_warns_where_scikit_learn_warns(digits):
    with pytest.warns(RuntimeWarning, match="init_size=3 should be larger than n_clusters=8"):
        MiniBatchKMeans(8, init_size=3, random_state=0).fit(digits)
    with pytest.warns(RuntimeWarning) as seen:
        MiniBatchKMeans(8, init_size=3, random_state=0).fit(digits)
    assert len(seen) == 1


def test_verbose_prints_each_batch(digits):
    out = io.StringIO()
    with redirect_stdout(out):
        fitted = MiniBatchKMeans(4, verbose=1, batch_size=500, random_state=0).fit(digits)
    assert len(out.getvalue().splitlines()) == fitted.n_steps_ + 1


def test_tensors_stay_tensors_from_batch_to_batch(digits):
    rows = torch.from_numpy(digits)
    ours = MiniBatchKMeans(6, init=rows[:6], random_state=0, batch_size=300)
    numpys = MiniBatchKMeans(6, init=digits[:6], random_state=0, batch_size=300)
    for batch in rows.split(300):
        ours.partial_fit(batch)
        numpys.partial_fit(batch.numpy())
    assert isinstance(ours.cluster_centers_, torch.Tensor)
    np.testing.assert_array_equal(ours.cluster_centers_, numpys.cluster_centers_)


def test_a_batch_that_fails_leaves_what_was_learnt(digits):
    fitted = MiniBatchKMeans(5, random_state=0).partial_fit(digits[:100])
    centroids, n_steps = fitted.cluster_centers_.copy(), fitted.n_steps_
    for bad in (digits[:50, :3], np.full((5, 64), np.inf)):
        with pytest.raises(ValueError, match=r"64 features|infinity"):
            fitted.partial_fit(bad)
    with pytest.raises(ValueError, match="sample_weight"):
        fitted.partial_fit(digits[:50], sample_weight=[1, 2])
    np.testing.assert_array_equal(fitted.cluster_centers_, centroids)
    assert fitted.n_steps_ == n_steps
    with pytest.raises(ValueError, match="n_samples=4 should be >= n_clusters=5"):
        MiniBatchKMeans(5).partial_fit(digits[:4])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "MiniBatchKMeans: batch_size must be at least 1, got 0"),
        ({"max_no_improvement": -1}, "max_no_improvement must be at least 0"),
        ({"max_no_improvement": "x"}, "max_no_improvement must be a number or None, got 'x'"),
        ({"init_size": 0}, "init_size must be at least 1"),
        ({"reassignment_ratio": -0.1}, "reassignment_ratio must be finite and at least 0"),
        ({"compute_labels": "no"}, "compute_labels must be True or False"),
        ({"precision": "bfloat16"}, "precision must be one of 'auto', 'float32'"),
    ],
)
def test_bad_parameters_are_named(digits, settings, message):
    for call in ("fit", "partial_fit"):
        with pytest.raises(InvalidParameterError, match=message):
            getattr(MiniBatchKMeans(**settings), call)(digits)
