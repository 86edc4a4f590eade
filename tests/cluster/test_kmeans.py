"""KMeans beside scikit-learn's: the same from the same start, as good from its own."""

import inspect
import io
import pickle
from contextlib import redirect_stdout

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from torchkm.cluster import InvalidParameterError, KMeans

OURS = {"device", "precision", "metric", "refine"}


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


@pytest.fixture
def weight(digits):
    return np.random.RandomState(1).rand(len(digits))


def first_rows(X, k, seed=0):
    return X[np.random.RandomState(seed).permutation(len(X))[:k]]


def test_parameters_and_defaults_are_those_of_scikit_learn():
    ours, theirs = KMeans().get_params(), sklearn.cluster.KMeans().get_params()
    assert set(ours) - OURS == set(theirs)
    assert {name: ours[name] for name in theirs} == theirs
    parameters = inspect.signature(KMeans).parameters
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OURS)


@pytest.mark.parametrize("settings", [{}, {"tol": 0}, {"max_iter": 2}, {"tol": 0.1}])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [3, 10, 40])
def test_from_the_same_start_it_ends_as_scikit_learn_does(digits, weight, k, weighted, settings):
    init, w = first_rows(digits, k), weight if weighted else None
    ours = KMeans(k, init=init, **settings).fit(digits, sample_weight=w)
    theirs = sklearn.cluster.KMeans(k, init=init, **settings).fit(digits, sample_weight=w)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.labels_.dtype == theirs.labels_.dtype
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-9)
    np.testing.assert_allclose(ours.transform(digits), theirs.transform(digits), atol=1e-6)
    assert ours.score(digits, sample_weight=w) == pytest.approx(theirs.score(digits, None, w))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(digits, dtype):
    fitted = KMeans(4, random_state=0).fit(digits.astype(dtype))
    assert fitted.cluster_centers_.dtype == dtype
    assert fitted.transform(digits.astype(dtype)).dtype == dtype


def test_drawn_starts_end_no_higher_than_those_of_scikit_learn(digits):
    seeds = range(6)
    ours = [KMeans(16, random_state=s).fit(digits).inertia_ for s in seeds]
    theirs = [sklearn.cluster.KMeans(16, random_state=s).fit(digits).inertia_ for s in seeds]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_agree_with_predict_and_inertia_with_score(digits, weight, init, weighted):
    w = weight if weighted else None
    fitted = KMeans(12, init=init, random_state=0, max_iter=3).fit(digits, sample_weight=w)
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(digits))
    assert fitted.inertia_ == pytest.approx(-fitted.score(digits, sample_weight=w), rel=1e-12)
    np.testing.assert_array_equal(fitted.labels_, fitted.transform(digits).argmin(1))
    apart = ((digits - fitted.cluster_centers_[fitted.labels_]) ** 2).sum(1)
    assert fitted.inertia_ == pytest.approx(apart.sum() if w is None else apart @ w, rel=1e-9)


def test_the_same_seed_gives_the_same_fit_and_a_state_goes_on(digits):
    one, two = (KMeans(8, random_state=3).fit(digits) for _ in range(2))
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)
    state = np.random.RandomState(3)
    first, second = (KMeans(8, random_state=state).fit(digits) for _ in range(2))
    np.testing.assert_array_equal(first.cluster_centers_, one.cluster_centers_)
    assert not np.array_equal(second.cluster_centers_, one.cluster_centers_)


def test_numpys_and_torchs_own_randomness_are_left_alone(digits):
    # The legacy global state is the very thing that must not move.
    numbers, before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    KMeans(3, random_state=0).fit(digits)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("init", "expected"), [("k-means++", 1), ("random", 10), ("function", 10), ("array", 1)]
)
def test_n_init_auto_means_what_it_means_in_scikit_learn(digits, init, expected, monkeypatch):
    asked = []

    def function(X, n_clusters, random_state):
        asked.append(random_state)
        return X[random_state.permutation(len(X))[:n_clusters]]

    seen = []
    settings = KMeans._settings
    monkeypatch.setattr(
        KMeans,
        "_settings",
        lambda self, start: seen.append(start.n_init) or (settings(self, start)),
    )
    init = {"function": function, "array": digits[:4]}.get(init, init)
    KMeans(4, init=init, random_state=0).fit(digits)
    assert seen == [expected]
    assert len(asked) == (10 if init is function else 0)


def test_a_function_for_init_is_asked_as_scikit_learn_asks(digits):
    def function(X, n_clusters, random_state):
        assert isinstance(X, np.ndarray)
        return X[random_state.permutation(len(X))[:n_clusters]]

    ours, theirs = (
        cls(5, init=function, n_init=3, random_state=7).fit(digits)
        for cls in (KMeans, sklearn.cluster.KMeans)
    )
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert ours.n_iter_ == theirs.n_iter_


def test_n_init_keeps_the_best_start():
    X = make_blobs(600, 2, centers=12, cluster_std=0.4, random_state=2)[0]
    one = [KMeans(12, init="random", n_init=1, random_state=s).fit(X).inertia_ for s in range(10)]
    many = [KMeans(12, init="random", n_init=8, random_state=s).fit(X).inertia_ for s in range(10)]
    assert np.mean(many) < np.mean(one)


def test_it_warns_where_scikit_learn_warns(digits):
    rows = np.repeat(digits[:3], 4, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"clusters \(3\) found smaller than n_clusters"):
        KMeans(5, random_state=0).fit(rows)
    with pytest.warns(RuntimeWarning, match="performing only one init in KMeans instead of n_init"):
        KMeans(2, init=digits[:2], n_init=3).fit(digits)
    with pytest.warns(RuntimeWarning, match="doesn't make sense for a single cluster") as seen:
        KMeans(1, algorithm="elkan").fit_predict(digits)
    assert [warning.filename for warning in seen] == [__file__]


def test_verbose_prints_each_pass(digits):
    out = io.StringIO()
    with redirect_stdout(out):
        fitted = KMeans(4, init=digits[:4], verbose=1).fit(digits)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Iteration 1, inertia ")
    assert len(lines) == fitted.n_iter_ + 1
    assert "converged" in lines[-1]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_rows_are_left_alone(digits, order, tmp_path):
    X = np.array(digits, order=order)
    before = X.copy()
    KMeans(5, random_state=0, copy_x=False).fit(X)
    np.testing.assert_array_equal(X, before)
    mapped = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    locked = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="r", shape=X.shape)
    a, b = (KMeans(5, random_state=0).fit(rows) for rows in (locked, X))
    np.testing.assert_array_equal(a.labels_, b.labels_)


def test_weights_are_used_in_seeding_and_everywhere_else():
    X = np.r_[np.zeros((50, 2)), np.full((50, 2), 5.0), np.full((50, 2), 9.0)]
    X += np.random.RandomState(0).randn(*X.shape) / 10
    w = np.r_[np.ones(100), np.zeros(50)]
    for seed in range(5):
        fitted = KMeans(2, random_state=seed).fit(X, sample_weight=w)
        assert sorted(fitted.cluster_centers_.mean(1).round()) == [0, 5]
    ones = KMeans(4, random_state=0).fit(X, sample_weight=np.ones(150))
    none = KMeans(4, random_state=0).fit(X)
    np.testing.assert_array_equal(ones.labels_, none.labels_)
    twos = KMeans(4, random_state=0).fit(X, sample_weight=2)
    assert twos.inertia_ == pytest.approx(2 * none.inertia_, rel=0.5)


def test_refine_and_precision_and_cosine_reach_the_core(digits):
    plain = [KMeans(16, random_state=s).fit(digits).inertia_ for s in range(4)]
    refined = [KMeans(16, random_state=s, refine=10).fit(digits).inertia_ for s in range(4)]
    assert np.mean(refined) < np.mean(plain)
    X = digits.astype(np.float32)
    low = KMeans(16, random_state=0, precision="bfloat16").fit(X)
    np.testing.assert_array_equal(low.labels_, low.predict(X))
    cosine = KMeans(8, random_state=0, metric="cosine").fit(digits)
    np.testing.assert_allclose(np.linalg.norm(cosine.cluster_centers_, axis=1), 1)
    np.testing.assert_array_equal(cosine.labels_, cosine.predict(3 * digits))


def test_a_fit_that_fails_leaves_what_was_learnt(digits):
    fitted = KMeans(3, random_state=0).fit(digits)
    before = pickle.dumps(fitted)
    for bad in (digits[:2], np.full((9, 5), np.nan)):
        with pytest.raises(ValueError, match=r"n_samples|NaN"):
            fitted.fit(bad)
        assert pickle.dumps(fitted) == before
    unfitted = KMeans(3)
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        unfitted.fit(digits[:2])
    assert not hasattr(unfitted, "n_features_in_")
    with pytest.raises(NotFittedError):
        unfitted.predict(digits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_clusters": 0}, "KMeans: n_clusters must be at least 1, got 0"),
        ({"n_clusters": 2.5}, "n_clusters must be an integer, got 2.5"),
        ({"init": "kmeans"}, "init must be one of 'k-means.*got 'kmeans'"),
        ({"init": None}, "init must be one of .* a function or an array"),
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"n_init": "many"}, "n_init must be a number or 'auto', got 'many'"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"tol": -1}, "tol must be finite and at least 0, got -1"),
        ({"verbose": "yes"}, "verbose must be an integer"),
        ({"random_state": "seven"}, "random_state must be an integer"),
        ({"algorithm": "full"}, "algorithm must be one of 'elkan', 'lloyd'; got 'full'"),
        ({"device": "abacus"}, "device must name a device that this machine has"),
        ({"precision": "half"}, "precision must be one of"),
        ({"metric": "l1"}, "metric must be one of 'cosine', 'euclidean'; got 'l1'"),
        ({"refine": -1}, "refine must be at least 0"),
    ],
)
def test_bad_parameters_are_named(digits, settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        KMeans(**settings).fit(digits)
    with pytest.raises(InvalidParameterError):
        KMeans().set_params(**settings).fit(digits)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda X: KMeans(3, init=X[:2]).fit(X), ValueError, r"\(3, 4\), got \(2, 4\)"),
        (lambda X: KMeans(3, init=X[:3, :2]).fit(X), ValueError, r"\(3, 4\), got \(3, 2\)"),
        (lambda X: KMeans(3).fit(X, sample_weight=X[:, 0][:9]), ValueError, "sample_weight.*9"),
        (lambda X: KMeans(3).fit(X, sample_weight=-X[:, 0]), ValueError, "non-negative"),
        (lambda X: KMeans(3).fit(X, sample_weight=0 * X[:, 0]), ValueError, "only zeros"),
        (lambda X: KMeans(3).fit(X[0]), ValueError, "Expected 2D array"),
        (lambda X: KMeans(3).fit(X).predict(X[:, :3]), ValueError, "X has 3 features, but KMeans"),
        (lambda X: KMeans(3).fit([["a"], ["b"], ["c"]]), ValueError, "could not convert"),
        (lambda X: KMeans(3).fit(X + 0j), ValueError, "Complex data not supported"),
        (lambda X: KMeans(3, precision="float32").fit(X), ValueError, "not for float64 rows"),
    ],
)
def test_bad_rows_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(load_iris().data)
