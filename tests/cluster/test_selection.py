"""KSelection: the right k among blobs, scores that can be checked, and scikit-learn's manners."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans as Theirs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import silhouette_score

from torchkm.cluster import InvalidParameterError, KMeans, KSelection
from torchkm.metrics import bayesian_information


def blobs(k, d, seed, n=600):
    """Rows around ``k`` centres that lie 12 standard deviations apart at least."""
    random = np.random.default_rng(seed)
    centres = []
    while len(centres) < k:
        centre = 40 * random.normal(size=d) / max(1, d / 4) ** 0.5
        if all(np.linalg.norm(centre - other) > 12 for other in centres):
            centres.append(centre)
    share = random.uniform(0.5, 1.5, size=k)
    labels = random.choice(k, size=n, p=share / share.sum())
    return np.stack(centres)[labels] + random.normal(size=(n, d))


@pytest.fixture(scope="module")
def rows():
    return blobs(4, 3, seed=1).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(rows):
    return KSelection(range(1, 8), random_state=0).fit(rows)


@pytest.mark.parametrize("k", range(3, 9))
@pytest.mark.parametrize("d", [2, 10, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_criterion_finds_the_blobs(k, d, seed):
    found = KSelection(range(2, 12), random_state=seed).fit(blobs(k, d, seed))
    assert (found.elbow_k_, found.silhouette_k_, found.bic_k_) == (k, k, k)


def test_the_scores_belong_to_the_fits(rows, fitted):
    assert fitted.ks_.tolist() == list(range(1, 8))
    assert np.isnan(fitted.silhouettes_[0])
    for i, (k, each) in enumerate(zip(fitted.ks_, fitted.estimators_, strict=True)):
        assert isinstance(each, KMeans)
        assert each.n_clusters == len(each.cluster_centers_) == k
        assert each.inertia_ == fitted.inertias_[i]
        np.testing.assert_array_equal(each.predict(rows), each.labels_)
        squares = ((rows - each.cluster_centers_[each.labels_]) ** 2).sum()
        assert fitted.inertias_[i] == pytest.approx(squares, rel=1e-5)
        want = bayesian_information(each.inertia_, np.bincount(each.labels_, minlength=k), 3)
        assert fitted.bics_[i] == want
        if k > 1:
            want = silhouette_score(rows.astype(float), each.labels_)
            assert fitted.silhouettes_[i] == pytest.approx(want, abs=1e-6)
    theirs = [Theirs(k, n_init=5, random_state=0).fit(rows).inertia_ for k in fitted.ks_]
    np.testing.assert_allclose(fitted.inertias_[:4], theirs[:4], rtol=1e-4)


def test_it_is_then_the_best_of_them(rows, fitted):
    best = fitted.best_estimator_
    assert fitted.k_ == best.n_clusters == 4
    assert best is fitted.estimators_[3]
    for name in ("predict", "transform"):
        np.testing.assert_array_equal(getattr(fitted, name)(rows), getattr(best, name)(rows))
    assert fitted.score(rows) == best.score(rows)
    assert fitted.inertia_ == best.inertia_
    np.testing.assert_array_equal(fitted.labels_, best.labels_)
    assert fitted.get_feature_names_out().tolist() == [f"kselection{j}" for j in range(4)]


@pytest.mark.parametrize(("criterion", "k"), [("silhouette", 2), ("elbow", 4), ("bic", 4)])
def test_the_criterion_decides(criterion, k):
    """Where they disagree: four blobs that lie in two pairs."""
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [8, 0], [300, 0], [308, 0]])
    X = np.concatenate([centre + random.normal(size=(150, 2)) for centre in centres])
    found = KSelection(range(2, 9), criterion=criterion, random_state=0).fit(X)
    assert found.k_ == getattr(found, f"{criterion}_k_") == len(found.cluster_centers_) == k


def test_ks_in_any_order_come_out_rising(rows):
    for ks in ([5, 2, 5, 3], {5, 3, 2}, np.array([3, 2, 5]), (k for k in (3, 5, 2))):
        assert KSelection(ks, random_state=0).fit(rows).ks_.tolist() == [2, 3, 5]
    ks = [5, 2, 5]
    selection = KSelection(ks)
    assert selection.get_params()["ks"] is ks
    assert clone(selection).ks == ks


def test_a_sample_tells_about_the_same(rows, fitted):
    sampled = KSelection(range(1, 8), sample_size=200, random_state=0).fit(rows)
    np.testing.assert_array_equal(sampled.inertias_, fitted.inertias_)
    np.testing.assert_allclose(sampled.silhouettes_[1:], fitted.silhouettes_[1:], atol=0.1)
    assert not np.allclose(sampled.silhouettes_[1:], fitted.silhouettes_[1:], atol=1e-6)
    whole = KSelection(range(1, 8), sample_size=None, random_state=0).fit(rows)
    np.testing.assert_array_equal(whole.silhouettes_, fitted.silhouettes_)


def test_weights_count_rows_in_bic(rows):
    few = rows[:200]
    weight = np.random.default_rng(0).integers(1, 3, size=200)
    found = KSelection([1], criterion="bic").fit(few, sample_weight=weight)
    whole = KSelection([1], criterion="bic").fit(few.repeat(weight, axis=0))
    np.testing.assert_allclose(found.bics_, whole.bics_, rtol=1e-6)
    np.testing.assert_allclose(found.inertias_, whole.inertias_, rtol=1e-6)


def test_kinds_of_rows(rows):
    frame = pd.DataFrame(rows, columns=list("abc"))
    plain = KSelection([3, 4, 5], random_state=0).fit(rows)
    for X in (frame, torch.from_numpy(rows), rows.astype(np.float64), rows.tolist()):
        found = KSelection([3, 4, 5], random_state=0).fit(X)
        assert found.k_ == 4
        np.testing.assert_allclose(found.inertias_, plain.inertias_, rtol=1e-4)
        assert isinstance(found.cluster_centers_, type(X) if torch.is_tensor(X) else np.ndarray)
    assert KSelection([3, 4], random_state=0).fit(frame).estimators_[0].feature_names_in_[0] == "a"


def test_cosine(rows):
    found = KSelection([2, 3, 4], metric="cosine", random_state=0).fit(rows)
    want = silhouette_score(rows.astype(float), found.labels_, metric="cosine")
    assert found.silhouettes_[found.ks_ == found.k_] == pytest.approx(want, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.cluster_centers_, axis=1), 1, atol=1e-6)


def test_a_seed_repeats_and_pickles_are_whole(rows, fitted):
    again = KSelection(range(1, 8), random_state=0).fit(rows)
    loaded = pickle.loads(pickle.dumps(fitted))
    for other in (again, loaded):
        np.testing.assert_array_equal(other.cluster_centers_, fitted.cluster_centers_)
        assert other.report() == fitted.report()
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows))


def test_the_report_marks_what_each_criterion_takes(fitted):
    lines = fitted.report().splitlines()
    assert lines[0].split() == ["k", "inertia", "silhouette", "BIC"]
    assert [line.count("*") for line in lines[1:-1]] == [0, 0, 0, 3, 0, 0, 0]
    assert lines[4].split()[0] == "4"
    assert "nan" in lines[1]
    assert lines[-1].endswith("Recommended, by silhouette: k = 4")
    assert len({len(line.rstrip("* ")) for line in lines[:-1]}) == 1


def test_the_picture_shows_all_three(fitted):
    figure = fitted.plot()
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["k = 4"] * 3
    assert figure.get_suptitle() == "Recommended by the silhouette: k = 4"
    line = figure.axes[2].lines[1]
    np.testing.assert_array_equal(line.get_ydata(), fitted.bics_)


def test_before_and_after_a_fit(rows):
    selection = KSelection([2, 3])
    for ask in (selection.report, selection.plot, lambda: selection.predict(rows)):
        with pytest.raises(NotFittedError):
            ask()
    assert selection.fit(rows) is selection
    assert selection.set_params(criterion="bic").fit(rows).k_ == selection.bic_k_


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ks": []}, "KSelection: ks must hold at least one k"),
        ({"ks": 5}, "KSelection: ks must be several integers, got 5"),
        ({"ks": [2, 11]}, "each of ks must be at most the number of rows: got k=11 for n=10"),
        ({"ks": [0, 2]}, "each of ks must be at least 1, got 0"),
        ({"ks": [2.0]}, "each of ks must be an integer, got 2.0"),
        ({"ks": [1]}, "criterion='silhouette' needs a k from 2 to n_samples - 1 = 9 in ks"),
        ({"ks": [1, 10]}, "criterion='silhouette' needs a k from 2"),
        ({"ks": [2, 3], "criterion": "elbow"}, "criterion='elbow' needs at least 3 different k"),
        ({"criterion": "gap"}, "criterion must be one of"),
        ({"sample_size": 2}, "sample_size must be at least 3, got 2"),
        ({"sample_size": "all"}, "sample_size must be a number or None, got 'all'"),
        ({"tol": -1.0}, "tol must be finite and at least 0"),
        ({"metric": "manhattan"}, "metric must be one of"),
    ],
)
def test_parameters_that_cannot_be(settings, message):
    with pytest.raises(InvalidParameterError, match=message.replace("(", r"\(")):
        KSelection(**{"ks": [2, 3], **settings}).fit(np.arange(20.0).reshape(10, 2))


def test_a_failed_fit_leaves_what_was_learnt(rows, fitted):
    selection = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(ValueError, match="NaN"):
        selection.fit(np.full((20, 3), np.nan))
    np.testing.assert_array_equal(selection.predict(rows), fitted.predict(rows))


def test_one_cluster_per_row_has_no_silhouette():
    X = np.arange(5.0).reshape(5, 1)
    found = KSelection([1, 2, 5], random_state=0).fit(X)
    assert np.isnan(found.silhouettes_).tolist() == [True, False, True]
    assert np.isnan(found.bics_).tolist() == [False, False, True]


def test_rows_that_are_all_alike():
    X = np.ones((20, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match="criterion='silhouette' cannot tell which of ks"):
            found = KSelection([2, 3, 4], random_state=0).fit(X)
    assert (found.k_, found.silhouette_k_, found.elbow_k_) == (2, None, None)
    found.plot()
    found.report()


def test_lines_for_each_pass(rows, capsys):
    KSelection([2, 3], verbose=1, random_state=0).fit(rows)
    assert capsys.readouterr().out.count("Iteration 1,") == 2
