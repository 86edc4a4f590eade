"""How many clusters: the criterion against a plain likelihood, the elbow against drawn curves."""

import math

import numpy as np
import pytest
import torch

from torchkm.metrics import bayesian_information, elbow


def plain_bic(x, labels, k):
    """The likelihood of each row under the Gaussian of its cluster, one after the other."""
    n, d = x.shape
    means = np.stack([x[labels == j].mean(0) for j in range(k)])
    squares = ((x - means[labels]) ** 2).sum(1)
    variance = squares.sum() / (d * (n - k))
    share = np.bincount(labels, minlength=k) / n
    log_density = np.log(share[labels]) - d / 2 * np.log(2 * np.pi * variance)
    log_likelihood = (log_density - squares / (2 * variance)).sum()
    return squares.sum(), (k * d + (k - 1) + 1) * np.log(n) - 2 * log_likelihood


@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 2), (5, 7)])
def test_it_is_the_likelihood_of_the_rows(k, d):
    random = np.random.default_rng(k)
    x, labels = random.normal(size=(200, d)), np.sort(random.integers(k, size=200))
    inertia, want = plain_bic(x, labels, k)
    counts = np.bincount(labels, minlength=k)
    assert bayesian_information(inertia, counts, d) == pytest.approx(want, rel=1e-12)


def test_weights_are_rows():
    whole = bayesian_information(3.0, torch.tensor([4, 6]), 2)
    assert bayesian_information(3.0, torch.tensor([4.0, 6.0]), 2) == whole


def test_the_ends_of_the_criterion():
    assert bayesian_information(0.0, [2, 2], 1) == -math.inf
    assert math.isnan(bayesian_information(0.0, [1, 1], 3))
    assert math.isfinite(bayesian_information(1.0, [3, 0], 1))


def test_arguments_of_the_criterion():
    with pytest.raises(ValueError, match="inertia must be finite and at least 0, got -1"):
        bayesian_information(-1.0, [2], 1)
    with pytest.raises(ValueError, match="counts must be finite and not negative, got -2"):
        bayesian_information(1.0, [-2, 3], 1)
    with pytest.raises(ValueError, match="d must be at least 1, got 0"):
        bayesian_information(1.0, [2], 0)


@pytest.mark.parametrize("k", range(2, 10))
def test_the_elbow_is_where_a_steep_fall_ends(k):
    ks = range(1, 11)
    inertias = [1e4 * 0.5 ** min(j, k) * 0.95 ** max(j - k, 0) for j in ks]
    assert elbow(ks, inertias) == k


def test_the_elbow_does_not_depend_on_units_nor_on_gaps_between_ks():
    ks, inertias = [1, 2, 4, 8, 16], [100.0, 50.0, 20.0, 18.0, 15.0]
    assert elbow(ks, inertias) == elbow(ks, [1e9 * value for value in inertias]) == 4


def test_a_fall_that_first_looks_large_hides_no_elbow():
    """On the inertia itself it would be 2."""
    assert elbow(range(1, 8), [1e6, 1e4, 5e3, 2e3, 1e1, 9e0, 8e0]) == 5


@pytest.mark.parametrize(
    "inertias", [[8.0, 7.0, 5.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0] * 4, [1.0, 2.0, 3.0, 4.0]]
)
def test_without_a_bend_there_is_no_elbow(inertias):
    assert elbow([1, 2, 3, 4], inertias) is None
    assert elbow([1, 2], inertias[:2]) is None


def test_nothing_left_is_an_elbow():
    assert elbow([1, 2, 3, 4], [5.0, 3.0, 0.0, 0.0]) == 3


def test_curves_that_are_none():
    with pytest.raises(ValueError, match=r"ks must rise, got \[2, 2, 3\]"):
        elbow([2, 2, 3], [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="inertias must be as many as ks, 3, got 2"):
        elbow([1, 2, 3], [3.0, 2.0])
    with pytest.raises(ValueError, match="inertias must be finite"):
        elbow([1, 2, 3], [3.0, math.nan, 1.0])
