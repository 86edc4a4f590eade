"""Scores of labels and targets are scores of their table, and inertia is a float64 sum."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from torchkm import metrics
from torchkm.metrics import functional

SKLEARN = {
    "homogeneity": sk.homogeneity_score,
    "completeness": sk.completeness_score,
    "v_measure": sk.v_measure_score,
    "normalized_mutual_info": sk.normalized_mutual_info_score,
    "adjusted_rand": sk.adjusted_rand_score,
}
NAMES = [*SKLEARN, "majority_vote_accuracy", "hungarian_accuracy"]
each_score = pytest.mark.parametrize("name", NAMES)


def pair(generator, n=300, k=6, n_classes=5):
    """Labels that say something about the targets, but not all."""
    targets = torch.randint(n_classes, (n,), generator=generator)
    labels = (targets + torch.randint(3, (n,), generator=generator)) % k
    return labels, targets


def test_every_name_is_tested():
    assert sorted([*NAMES, "inertia"]) == functional.__all__
    assert metrics.functional is functional


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize(("n", "k", "n_classes"), [(300, 6, 5), (40, 3, 2), (500, 20, 4)])
def test_equals_scikit_learn(name, n, k, n_classes, generator):
    labels, targets = pair(generator, n, k, n_classes)
    want = SKLEARN[name](targets.numpy(), labels.numpy())
    got = getattr(functional, name)(labels, targets)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ([0, 0, 0, 0], [0, 1, 2, 2]),
        ([0, 1, 2, 2], [0, 0, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [0, 0, 1, 1]),
        ([0], [0]),
        ([7], [3]),
        ([0, 9, 9], [5, 0, 5]),
    ],
)
def test_degenerate_labels_equal_scikit_learn(name, labels, targets):
    got = getattr(functional, name)(labels, targets)
    assert got.item() == pytest.approx(SKLEARN[name](targets, labels), abs=1e-12)


def test_scores_of_the_digits(digits):
    """Clusters by the quadrant of the first rows: a clustering nobody made for the test."""
    x, targets = digits
    labels = (x[:, 20] > 0.5).long() + 2 * (x[:, 42] > 0.5).long() + 4 * (x[:, 36] > 0.5).long()
    for name, reference in SKLEARN.items():
        got = getattr(functional, name)(labels, targets).item()
        assert got == pytest.approx(reference(targets.numpy(), labels.numpy()), abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_v_measure_passes_beta_on(beta, generator):
    labels, targets = pair(generator, k=9)
    want = sk.v_measure_score(targets.numpy(), labels.numpy(), beta=beta)
    got = functional.v_measure(labels, targets, beta=beta)
    assert got.item() == pytest.approx(want, abs=1e-12)
    assert got != functional.v_measure(labels, targets)


def test_majority_vote_accuracy_equals_brute_force(generator):
    labels, targets = pair(generator)
    right = sum(targets[labels == j].bincount().max() for j in labels.unique())
    got = functional.majority_vote_accuracy(labels, targets)
    assert got.item() == pytest.approx(right.item() / 300, abs=1e-15)


def test_accuracies_by_hand():
    labels, targets = [0, 0, 0, 1, 2, 2], [4, 4, 1, 4, 1, 4]
    # Votes: 2 of 3, 1 of 1 and 1 of 2. Matching: cluster 0 to class 4 and cluster 2 to class 1.
    assert functional.majority_vote_accuracy(labels, targets).item() == 4 / 6
    assert functional.hungarian_accuracy(labels, targets).item() == 3 / 6


@each_score
def test_permuting_cluster_ids_changes_nothing(name, generator):
    score = getattr(functional, name)
    labels, targets = pair(generator)
    other = torch.randperm(6, generator=generator)[labels]
    torch.testing.assert_close(score(other, targets), score(labels, targets), rtol=0, atol=1e-12)


@each_score
def test_a_weight_of_two_is_the_row_twice(name, generator):
    score = getattr(functional, name)
    labels, targets = pair(generator, n=60)
    times = torch.randint(1, 3, (60,), generator=generator)
    twice = score(labels.repeat_interleave(times), targets.repeat_interleave(times))
    got = score(labels, targets, sample_weight=times)
    torch.testing.assert_close(got, twice, rtol=0, atol=1e-12)
    assert got != score(labels, targets)


@each_score
def test_a_weight_of_zero_leaves_the_row_out(name, generator):
    score = getattr(functional, name)
    labels, targets = pair(generator, n=60)
    weight = (torch.arange(60) < 40).double()
    got = score(labels, targets, sample_weight=weight)
    torch.testing.assert_close(got, score(labels[:40], targets[:40]), rtol=0, atol=1e-12)


@each_score
def test_arrays_and_lists_score_as_tensors(name, generator):
    score = getattr(functional, name)
    labels, targets = pair(generator, n=60)
    want = score(labels, targets)
    assert score(labels.numpy(), targets.to(torch.uint8).numpy()) == want
    assert score(labels.tolist(), targets.tolist()) == want


@each_score
@pytest.mark.parametrize(
    ("labels", "targets", "weight", "error", "message"),
    [
        ([0.0, 1.0], [0, 1], None, TypeError, "labels must hold integers, got float64"),
        ([0, 1], [0.5, 1], None, TypeError, "targets must hold integers, got float64"),
        ([0, 1], [0], None, ValueError, "got 2 labels and 1 targets"),
        ([0, -1], [0, 1], None, ValueError, "labels must not be negative, got -1"),
        ([0, 1], [0, 1], [1.0], ValueError, r"sample_weight must have shape \(2,\)"),
        ([0, 1], [0, 1], [1.0, -1.0], ValueError, "sample_weight must be non-negative"),
    ],
)
def test_errors(name, labels, targets, weight, error, message):
    with pytest.raises(error, match=message):
        getattr(functional, name)(labels, targets, sample_weight=weight)


def test_adjusted_rand_wants_weights_that_add_up_to_rows():
    with pytest.raises(ValueError, match=r"sample_weight add up to them: got 0\.1 in a cell"):
        functional.adjusted_rand([0, 1, 0, 1], [0, 0, 1, 1], sample_weight=[0.1] * 4)
    halves = functional.adjusted_rand([0, 0, 1, 1], [0, 0, 1, 1], sample_weight=[0.5] * 4)
    assert halves.item() == 1


def test_inertia_by_hand():
    assert functional.inertia(torch.tensor([1.0, 2.0, 4.0])).item() == 7
    got = functional.inertia(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 0.0, 2.0]))
    assert got.item() == 8.5


@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_is_added_in_float64(weighted):
    values = torch.tensor([2.0**24, 1.0, 1.0, 1.0])
    got = functional.inertia(values, torch.ones(4) if weighted else None)
    assert got.dtype == torch.float64
    assert got.item() == 2**24 + 3


def test_inertia_of_half_precision_and_of_arrays():
    assert functional.inertia(torch.full((40,), 60000.0, dtype=torch.float16)).item() == 2.4e6
    assert functional.inertia(np.array([0.5, 0.25])).item() == 0.75


@pytest.mark.parametrize(
    ("values", "weight", "error", "message"),
    [
        (torch.tensor([1, 2]), None, TypeError, "sq_distances must hold float numbers, got int64"),
        (torch.zeros(2, dtype=torch.complex64), None, TypeError, "float numbers, got complex64"),
        (["a"], None, TypeError, "sq_distances must hold real numbers"),
        (torch.zeros(2, 1), None, ValueError, r"sq_distances must have shape \(n,\).*\(2, 1\)"),
        (torch.zeros(0), None, ValueError, r"with n above 0, got \(0,\)"),
        (torch.zeros(2), [1.0], ValueError, r"sample_weight must have shape \(2,\)"),
        (torch.zeros(2), [0.0, 0.0], ValueError, "sample_weight must have a positive weight"),
        (torch.zeros(2), [1.0, np.inf], ValueError, "sample_weight must be finite"),
    ],
)
def test_inertia_errors(values, weight, error, message):
    with pytest.raises(error, match=message):
        functional.inertia(values, weight)
