"""MajorityVote: the class of a cluster, learnt on some rows and used on others."""

import numpy as np
import pytest
import torch

from torchkm.metrics import MajorityVote, contingency_table, functional

LABELS = [0, 0, 0, 1, 1, 3]
TARGETS = [2, 2, 0, 1, 1, 2]


@pytest.fixture
def vote():
    """Cluster 2 is empty; class 2 is the most frequent one."""
    return MajorityVote(k=4, n_classes=3).fit(LABELS, TARGETS)


def test_by_hand(vote):
    assert vote.classes.tolist() == [2, 1, 2, 2]
    assert vote.classes.dtype == torch.int64
    assert vote.confidence.tolist() == [2 / 3, 1, 0, 1]
    assert vote.confidence.dtype == torch.float64


def test_predicts_new_rows(vote):
    got = vote.predict(torch.tensor([3, 1, 1, 0, 2]))
    assert got.tolist() == [2, 1, 1, 2, 2]
    assert got.dtype == torch.int64
    assert vote.predict(np.array([1], dtype=np.uint8)).tolist() == [1]


def test_equals_brute_force(generator):
    labels = torch.randint(8, (200,), generator=generator)
    targets = torch.randint(5, (200,), generator=generator)
    vote = MajorityVote().fit(labels, targets)
    for j in range(8):
        votes = np.bincount(targets[labels == j].numpy())
        assert vote.classes[j] == votes.argmax()
        assert vote.confidence[j].item() == pytest.approx(votes.max() / votes.sum(), abs=1e-15)


def test_fit_returns_the_vote_itself():
    vote = MajorityVote()
    assert vote.fit([0], [0]) is vote


def test_a_tie_goes_to_the_lowest_class():
    vote = MajorityVote().fit([0, 0, 0, 0, 1, 1], [3, 1, 1, 3, 2, 0])
    assert vote.classes.tolist() == [1, 0]
    assert vote.confidence.tolist() == [0.5, 0.5]


def test_an_empty_cluster_gets_the_most_frequent_class_of_all_rows():
    """Class 2 wins over all rows, though it is neither the lowest nor the class of cluster 0."""
    vote = MajorityVote(k=4).fit([0, 0, 0, 2, 2], [1, 1, 2, 2, 2])
    assert vote.predict([0, 1, 2, 3]).tolist() == [1, 2, 2, 2]
    assert vote.confidence[1] == vote.confidence[3] == 0


def test_an_empty_cluster_of_tied_classes_gets_the_lowest():
    assert MajorityVote(k=2).fit([0, 0], [2, 1]).classes.tolist() == [1, 1]


def test_weights_vote():
    vote = MajorityVote(k=2).fit([0, 0, 0], [0, 0, 1], sample_weight=[1.0, 1.0, 6.0])
    assert vote.classes.tolist() == [1, 1]
    assert vote.confidence.tolist() == [0.75, 0]


def test_a_cluster_of_weight_zero_is_empty():
    vote = MajorityVote().fit([0, 1], [1, 0], sample_weight=[2.0, 0.0])
    assert vote.classes.tolist() == [1, 1]
    assert vote.confidence.tolist() == [1, 0]


def test_from_table_is_fit():
    table = contingency_table(LABELS, TARGETS, 4, 3)
    got, want = MajorityVote.from_table(table), MajorityVote(4, 3).fit(LABELS, TARGETS)
    assert torch.equal(got.classes, want.classes)
    assert torch.equal(got.confidence, want.confidence)
    assert repr(got) == repr(want)


def test_accuracy_on_other_rows(vote):
    # Predicted 2, 2, 1, 2, 2.
    assert vote.accuracy([0, 0, 1, 2, 3], [2, 1, 1, 2, 0]).item() == 3 / 5


def test_accuracy_on_the_rows_of_the_vote_is_purity(vote):
    got = vote.accuracy(torch.tensor(LABELS), torch.tensor(TARGETS))
    assert got.dtype == torch.float64
    assert got.item() == 5 / 6
    assert got == functional.majority_vote_accuracy(LABELS, TARGETS)


def test_accuracy_equals_the_share_of_right_predictions(generator):
    labels = torch.randint(8, (400,), generator=generator)
    targets = (labels + torch.randint(3, (400,), generator=generator)) % 6
    vote = MajorityVote().fit(labels[:200], targets[:200])
    want = (vote.predict(labels[200:]) == targets[200:]).double().mean()
    got = vote.accuracy(labels[200:], targets[200:])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-15)
    assert got < functional.majority_vote_accuracy(labels[200:], targets[200:])


def test_classes_unseen_by_the_vote_are_wrong(vote):
    assert vote.accuracy([0, 0, 1, 1], [2, 9, 1, 7]).item() == 0.5
    assert vote.accuracy([0, 1], [9, 9]).item() == 0


def test_rows_of_fewer_classes_than_the_vote_knows(vote):
    """Cluster 0 stands for class 2, which has no column in this table; class 0 is not it."""
    assert vote.accuracy([0, 0, 1], [0, 0, 1]).item() == 1 / 3
    assert vote.accuracy([0, 3], [0, 0]).item() == 0


def test_accuracy_from_table(vote):
    labels, targets = [0, 0, 1, 2, 3], [2, 1, 1, 2, 0]
    table = contingency_table(labels, targets, 4, 5)
    assert vote.accuracy_from_table(table) == vote.accuracy(labels, targets)


def test_repr():
    assert repr(MajorityVote()) == "MajorityVote(k=None, n_classes=None)"
    assert repr(MajorityVote(3)) == "MajorityVote(k=3, n_classes=None)"
    assert repr(MajorityVote(7).fit([0], [2])) == "MajorityVote(k=7, n_classes=3)"


@pytest.mark.parametrize(
    "door",
    [
        lambda vote: vote.predict([0]),
        lambda vote: vote.accuracy([0], [0]),
        lambda vote: vote.accuracy_from_table(torch.ones(1, 1)),
    ],
    ids=["predict", "accuracy", "accuracy_from_table"],
)
def test_before_fit(door):
    with pytest.raises(ValueError, match=r"no vote yet: call fit\(labels, targets\) first"):
        door(MajorityVote(1, 1))


@pytest.mark.parametrize(
    ("door", "error", "message"),
    [
        (lambda v: v.predict([0, 4]), ValueError, r"\[0, 4\), the clusters of the vote, got 4"),
        (lambda v: v.predict([-1]), ValueError, "labels must not be negative, got -1"),
        (lambda v: v.predict([0.0]), TypeError, "labels must hold integers, got float64"),
        (lambda v: v.predict([[0]]), ValueError, r"labels must have shape \(n,\)"),
        (lambda v: v.accuracy([4], [0]), ValueError, r"labels must lie in \[0, 4\).*got 4"),
        (lambda v: v.accuracy([0, 1], [0]), ValueError, "got 2 labels and 1 targets"),
        (lambda v: v.accuracy([0], [0.5]), TypeError, "targets must hold integers"),
        (
            lambda v: v.accuracy_from_table(torch.ones(3, 3)),
            ValueError,
            "a row for each of 4 clusters, got 3",
        ),
        (lambda v: v.fit([4], [0]), ValueError, r"labels must lie in \[0, 4\) for k=4, got 4"),
        (lambda v: v.fit([0], [3]), ValueError, r"targets must lie in \[0, 3\) for n_classes=3"),
        (lambda v: v.fit([0, 1], [0]), ValueError, "got 2 labels and 1 targets"),
        (lambda v: v.fit([0.0], [0]), TypeError, "labels must hold integers"),
        (lambda v: v.fit([0], [0], [0.0]), ValueError, "sample_weight must have a positive weight"),
        (lambda v: v.from_table(torch.zeros(2, 3)), ValueError, r"at least one row, got \(2, 3\)"),
        (lambda v: v.from_table(torch.ones(3)), ValueError, r"\(k, n_classes\).*got \(3,\)"),
    ],
)
def test_errors(vote, door, error, message):
    with pytest.raises(error, match=message):
        door(vote)


def test_fitting_again_forgets_the_sizes_of_before():
    vote = MajorityVote().fit([0, 0], [0, 1])
    assert vote.fit([0, 1, 2], [0, 1, 2]).classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("table", [torch.ones(2, 2, 2), torch.ones(3), torch.zeros(2, 2)])
def test_what_is_no_table(table):
    with pytest.raises(ValueError, match=r"table must be \(k, n_classes\) and count"):
        MajorityVote.from_table(table)
    with pytest.raises(ValueError, match=r"table must be \(k, n_classes\) and count"):
        MajorityVote().fit([0, 1], [0, 1]).accuracy_from_table(table)


@pytest.mark.parametrize(("count", "shown"), [(-2.0, "-2"), (float("nan"), "nan")])
def test_what_is_no_count(count, shown):
    """A negative count would give a confidence above 1."""
    table = torch.tensor([[3.0, count], [0.0, 1.0]])
    with pytest.raises(ValueError, match=f"table must hold counts of at least 0, got {shown}"):
        MajorityVote.from_table(table)
    with pytest.raises(ValueError, match=f"table must hold counts of at least 0, got {shown}"):
        MajorityVote().fit([0, 1], [0, 1]).accuracy_from_table(table)
