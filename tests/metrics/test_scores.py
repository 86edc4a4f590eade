"""Scores of tables: hand-computed, against scikit-learn and against brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from torchkm.metrics import contingency_table, scores

SKLEARN = {
    scores.homogeneity_from_table: sk.homogeneity_score,
    scores.completeness_from_table: sk.completeness_score,
    scores.v_measure_from_table: sk.v_measure_score,
    scores.normalized_mutual_info_from_table: sk.normalized_mutual_info_score,
    scores.adjusted_rand_from_table: sk.adjusted_rand_score,
}
ALL = [*SKLEARN, scores.majority_vote_accuracy_from_table, scores.hungarian_accuracy_from_table]

# Rows of clusters, columns of classes.
TABLES = {
    "by-hand": [[2, 0], [1, 1]],
    "one-cluster": [[3, 2, 1]],
    "one-class": [[3], [2], [1]],
    "one-cluster-one-class": [[9]],
    "one-row": [[1]],
    "two-rows-apart": [[1, 0], [0, 1]],
    "two-rows-of-one-class": [[1], [1]],
    "all-singletons": np.eye(12, dtype=int).tolist(),
    "singleton-clusters": np.repeat(np.eye(3, dtype=int), 4, axis=0).tolist(),
    "empty-row": [[3, 1], [0, 0], [1, 4]],
    "empty-column": [[3, 0, 1], [1, 0, 4]],
    "empty-rows-and-columns": [[0, 0, 0, 0], [0, 3, 1, 0], [0, 0, 0, 0], [0, 1, 4, 0]],
    "one-cell-of-many": [[0, 0], [0, 5], [0, 0]],
    "more-clusters": [[5, 0], [4, 1], [0, 3], [1, 6], [2, 2]],
    "more-classes": [[5, 0, 1, 2], [0, 3, 3, 1]],
    "nearly-one-class": [[1000, 0], [999, 1]],
    "permuted": [[0, 0, 7], [4, 0, 0], [0, 5, 0]],
}
RANDOM = {
    f"random-{i}": np.random.default_rng(i).poisson(0.3 + i, size=(2 + i, 7 - i)) for i in range(5)
}
each_table = pytest.mark.parametrize(
    "table", [*TABLES.values(), *RANDOM.values()], ids=[*TABLES, *RANDOM]
)
each_score = pytest.mark.parametrize("score", ALL, ids=lambda score: score.__name__)


def rows_of(table):
    """The classes and clusters of a table, a row each."""
    cells = np.argwhere(np.ones_like(table)).repeat(np.ravel(table), axis=0)
    return cells[:, 1], cells[:, 0]


def purity(table):
    targets, labels = rows_of(table)
    return sum(np.bincount(targets[labels == j]).max() for j in np.unique(labels)) / len(labels)


def best_matching(table):
    table = np.asarray(table)
    table = table if len(table) <= table.shape[1] else table.T
    matchings = itertools.permutations(range(table.shape[1]), len(table))
    best = max(sum(table[i, j] for i, j in enumerate(columns)) for columns in matchings)
    return best / table.sum()


@pytest.mark.parametrize(
    ("score", "want"),
    [
        # Entropy of classes: ln 4 - 3/4 ln 3; of clusters: ln 2; classes given them: ln 2 / 2.
        (scores.homogeneity_from_table, 1 - math.log(2) / 2 / (math.log(4) - 0.75 * math.log(3))),
        # Clusters given classes: 3/4 of the entropy of (2/3, 1/3).
        (
            scores.completeness_from_table,
            1 - 0.75 * (math.log(3) - 2 / 3 * math.log(2)) / math.log(2),
        ),
        # Pairs together in both: 1; in clusters: 2; in classes: 3; expected by chance: 2 * 3 / 6.
        (scores.adjusted_rand_from_table, (1 - 1) / (2.5 - 1)),
        (scores.majority_vote_accuracy_from_table, 0.75),
        (scores.hungarian_accuracy_from_table, 0.75),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_by_hand(score, want):
    got = score(torch.tensor(TABLES["by-hand"]))
    assert got.item() == pytest.approx(want, abs=1e-14)


def test_entropies_by_hand():
    assert scores.entropy(torch.tensor([2, 0, 2])).item() == pytest.approx(math.log(2), abs=1e-15)
    table = torch.tensor([[1, 1], [2, 0]])
    want = 0.5 * math.log(2)
    assert scores.conditional_entropy(table).item() == pytest.approx(want, abs=1e-15)


def test_adjusted_rand_below_chance():
    got = scores.adjusted_rand_from_table(torch.tensor([[1, 1], [1, 1]]))
    assert got.item() == pytest.approx(-0.5, abs=1e-15)


@each_table
@pytest.mark.parametrize("score", SKLEARN, ids=lambda score: score.__name__)
def test_equals_scikit_learn(score, table):
    want = SKLEARN[score](*rows_of(table))
    assert score(torch.as_tensor(table)).item() == pytest.approx(want, abs=1e-12)


@each_table
@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_v_measure_with_beta_equals_scikit_learn(table, beta):
    want = sk.v_measure_score(*rows_of(table), beta=beta)
    got = scores.v_measure_from_table(torch.as_tensor(table), beta)
    assert got.item() == pytest.approx(want, abs=1e-12)


def test_beta_above_one_favours_completeness():
    table = torch.tensor(TABLES["one-cluster"][0]).diag()
    split = torch.cat([table, table])  # homogeneity 1, completeness below it
    low, high = (scores.v_measure_from_table(split, beta) for beta in (0.5, 2.0))
    assert high < low < 1


@each_table
def test_majority_vote_accuracy_equals_brute_force(table):
    got = scores.majority_vote_accuracy_from_table(torch.as_tensor(table))
    assert got.item() == pytest.approx(purity(table), abs=1e-15)


@pytest.mark.parametrize(
    "table",
    [t for name, t in {**TABLES, **RANDOM}.items() if np.size(t) <= 40],
)
def test_hungarian_accuracy_equals_brute_force(table):
    got = scores.hungarian_accuracy_from_table(torch.as_tensor(table))
    assert got.item() == pytest.approx(best_matching(table), abs=1e-15)


def test_hungarian_accuracy_is_not_greedy():
    """Taking the largest cell first, 10, would leave 1; the best matching is 9 + 8."""
    table = torch.tensor([[10, 9], [8, 1]])
    assert scores.hungarian_accuracy_from_table(table).item() == 17 / 28


@each_score
@pytest.mark.parametrize("table", RANDOM.values(), ids=RANDOM)
def test_permuting_clusters_and_classes_changes_nothing(score, table, generator):
    table = torch.as_tensor(table)
    rows = torch.randperm(len(table), generator=generator)
    columns = torch.randperm(table.shape[1], generator=generator)
    torch.testing.assert_close(score(table[rows][:, columns]), score(table), rtol=0, atol=1e-12)


@each_score
def test_empty_clusters_and_classes_do_not_count(score):
    table = torch.as_tensor(RANDOM["random-2"])
    wide = torch.zeros(len(table) + 3, table.shape[1] + 2, dtype=torch.int64)
    wide[1:-2, 1:-1] = table
    torch.testing.assert_close(score(wide), score(table), rtol=0, atol=1e-12)


@each_score
@each_table
def test_a_perfect_match_scores_one(score, table):
    sizes = torch.as_tensor(table).flatten()
    perfect = sizes.diag().flip(0)  # cluster i holds all of class m - i
    assert score(perfect).item() == pytest.approx(1, abs=1e-14)


@each_score
@each_table
def test_scores_are_float64_scalars_whatever_the_dtype(score, table):
    counts = torch.as_tensor(table)
    got = score(counts)
    assert got.dtype == torch.float64
    assert got.shape == ()
    assert -0.5 <= got.item() <= 1 + 1e-12
    torch.testing.assert_close(score(counts.double()), got, rtol=0, atol=1e-14)
    torch.testing.assert_close(score(counts.float()), got, rtol=0, atol=1e-14)


@each_score
def test_a_large_table_keeps_its_digits(score):
    """Counts past 2^24 that float32 would round: one row more must not be lost."""
    counts = torch.tensor([[2**26, 2**25 + 1], [3, 2**26 + 1]])
    exact = score(counts)
    rounded = score(counts.float())
    assert exact != rounded
    assert exact.item() == pytest.approx(rounded.item(), abs=1e-6)


def test_accuracies_of_huge_counts_are_exact():
    counts = torch.tensor([[2**40 + 1, 0], [1, 2**40 - 2]])
    want = (2**41 - 1) / 2**41
    assert scores.majority_vote_accuracy_from_table(counts).item() == want
    assert scores.hungarian_accuracy_from_table(counts).item() == want


@each_score
def test_the_table_stays_as_it_was(score):
    table = contingency_table([0, 0, 1, 2], [1, 0, 0, 2])
    kept = table.clone()
    score(table)
    assert torch.equal(table, kept)


@pytest.mark.parametrize("classes", [[2, 7, 1], [1, 1], [3, 5, 7, 11]])
def test_independent_tables_score_zero(classes):
    """Rounding leaves either sign there; a quotient of such differences must not blow up."""
    table = torch.outer(torch.tensor([1, 1, 4]), torch.tensor(classes))
    for score in (
        scores.homogeneity_from_table,
        scores.completeness_from_table,
        scores.v_measure_from_table,
        scores.normalized_mutual_info_from_table,
    ):
        assert 0 <= score(table) < 1e-12


@pytest.mark.parametrize("broken", [0.5, 1.5, float("nan")])
def test_adjusted_rand_refuses_parts_of_rows(broken):
    """Pairs of counts below 1 are negative: such a table would score above 1."""
    with pytest.raises(ValueError, match=f"whole counts.*got {broken:g} in a cell"):
        scores.adjusted_rand_from_table(torch.tensor([[1.0, broken], [2.0, 1.0]]))


def test_beta_is_checked():
    with pytest.raises(ValueError, match="beta must be finite and at least 0, got -1"):
        scores.v_measure_from_table(torch.eye(2), beta=-1)
