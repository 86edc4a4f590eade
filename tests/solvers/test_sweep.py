"""Several k at once: each as good as a fit of its own, all from one seeding."""

import importlib

import numpy as np
import pytest
import torch

import torchkm
from torchkm.functional import assign, seed
from torchkm.functional.problem import as_problem
from torchkm.solvers import EmptyClusterWarning, sweep
from torchkm.solvers.descent import Descent
from torchkm.solvers.sweep import grown_to


def make(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(n, d, k, generator, spread=4.0):
    centres = spread * torch.randn(k, d, generator=generator)
    label = torch.randint(k, (n,), generator=generator)
    return centres[label] + torch.randn(n, d, generator=generator)


@pytest.fixture(scope="module")
def many():
    return mixture(12_000, 10, 20, make(5))


@pytest.mark.parametrize("ks", [range(2, 13), [3, 40], [10, 11, 20]])
def test_it_is_as_good_as_fits_of_their_own(many, ks):
    together = sweep(many, ks, generator=make())
    alone = {k: torchkm.kmeans(many, k, generator=make()) for k in ks}
    assert list(together) == list(ks)
    ratios = [together[k].inertia / alone[k].inertia for k in ks]
    assert np.mean(ratios) < 1.02
    assert max(ratios) < 1.1


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_labels_and_inertia_belong_to_the_centroids(many, metric):
    for k, result in sweep(many, [4, 2, 30, 5], metric=metric, generator=make()).items():
        found = assign(many, result.centroids, metric=metric)
        assert result.centroids.shape == (k, 10)
        assert (result.labels != found.labels).sum() <= 2  # near ties
        want = found.sq_distances.double().sum().item()
        assert result.inertia == pytest.approx(want, rel=1e-6)


def test_each_ends_where_lloyds_passes_rest(many):
    for k, result in sweep(many, [3, 4, 9], tol=0, generator=make()).items():
        again = torchkm.kmeans(many, k, init=result.centroids, solver="lloyd", max_iter=1)
        torch.testing.assert_close(again.centroids, result.centroids, rtol=0, atol=1e-4)


def test_a_seed_repeats_to_the_bit(many):
    one, two = (sweep(many, [2, 3, 8], generator=make(3)) for _ in range(2))
    assert all(torch.equal(one[k].centroids, two[k].centroids) for k in one)
    other = sweep(many, [2, 3, 8], generator=make(4))
    assert not all(torch.equal(one[k].centroids, other[k].centroids) for k in one)


def test_a_cluster_more_is_found_by_parting_what_has_settled(many, monkeypatch):
    """Without any luck in seeding: all seeds of the largest k in one place."""
    module = importlib.import_module("torchkm.solvers.sweep")
    monkeypatch.setattr(module, "seeds", lambda problem, k, *_: problem.x[:1].expand(k, -1).clone())
    results = sweep(many, range(1, 21), tol=1e-3, generator=make())
    alone = min(torchkm.kmeans(many, 20, generator=make(s)).inertia for s in range(3))
    assert results[20].inertia < 1.1 * alone


def test_the_clusters_that_part_best_are_parted():
    centres = torch.tensor([[0.0], [10.0], [100.0], [110.0], [300.0]])
    x = (centres + torch.randn(5, 50, 1, generator=make())[..., 0]).flatten().unsqueeze(1)
    start = torch.tensor([[5.0], [105.0], [300.0]])
    descent = Descent(as_problem(x, None, "euclidean"), None, start, "float32", None)
    descent.admit(len(x))
    descent.settle(0, 10)
    (grown,) = grown_to(descent, 5, make())
    torch.testing.assert_close(grown.sort(dim=0).values, centres, rtol=0, atol=0.5)
    assert grown_to(descent, 7, make()) == grown_to(descent, 0, make()) == []


def test_the_seeds_of_a_large_k_begin_with_those_of_a_small_one():
    """What lets all k share one seeding: greedy k-means++ keeps the order of its choices."""
    x = torch.cat([torch.zeros(500, 2), torch.full((3, 2), 1e3), torch.full((20, 2), 30.0)])
    x += torch.randn(x.shape, generator=make())
    for s in range(5):
        first = seed(x, 40, generator=make(s))[:3]
        near = [round(float(row.mean()) / 10) * 10 for row in first]
        assert set(near) == {0, 30, 1000}


@pytest.mark.parametrize("n", [300, 4096, 6000, 9000])
def test_few_rows_come_in_at_once(many, n):
    """Then some of them tell which clusters to part."""
    for k, result in sweep(many[:n], [2, 3, 6], refine=2, generator=make()).items():
        alone = torchkm.kmeans(many[:n], k, refine=2, generator=make())
        assert result.inertia == pytest.approx(alone.inertia, rel=0.05)


def test_weights_count_rows(many):
    few = many[:300]
    weight = torch.randint(0, 3, (300,), generator=make()).float()
    rows = few.repeat_interleave(weight.long(), dim=0)
    weighted = sweep(few, [20, 1], sample_weight=weight, tol=0, generator=make())
    for k, result in sweep(rows, [1, 20], tol=0, generator=make()).items():
        assert weighted[k].inertia == pytest.approx(result.inertia, rel=0.1 if k > 1 else 1e-5)


def test_every_row_a_cluster_of_its_own():
    x = torch.arange(6.0).unsqueeze(1)
    results = sweep(x, [6, 1, 6, 5], generator=make())
    assert {k: round(result.inertia, 4) for k, result in results.items()} == {1: 17.5, 5: 0.5, 6: 0}


def test_rows_that_repeat_leave_clusters_empty():
    x = torch.tensor([[0.0], [5.0]]).repeat(30, 1)
    with pytest.warns(EmptyClusterWarning, match="2 of 4 clusters hold no row"):
        results = sweep(x, [2, 4], generator=make())
    assert [result.inertia for result in results.values()] == [0, 0]


def test_the_rows_stay_as_they_were(many):
    copy = many.clone()
    sweep(many, [2, 3], generator=make())
    assert torch.equal(many, copy)


@pytest.mark.parametrize(
    ("ks", "error", "message"),
    [
        ([], ValueError, "ks must hold at least one k"),
        ([2, 0], ValueError, "each of ks must be at least 1, got 0"),
        (
            [2, 101],
            ValueError,
            "each of ks must be at most the number of rows: got k=101 for n=100",
        ),
        ([2.5], TypeError, "each of ks must be an integer, got 2.5"),
        (3, TypeError, "ks must be several integers, got 3"),
        ("23", TypeError, "ks must be several integers, got '23'"),
    ],
)
def test_what_does_not_fit(many, ks, error, message):
    with pytest.raises(error, match=message):
        sweep(many[:100], ks)


def test_other_arguments_are_checked_before_work(many):
    for settings, message in (
        ({"tol": -1.0}, "tol must be finite and at least 0"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"refine": -1}, "refine must be at least 0"),
        ({"metric": "manhattan"}, "metric must be one of"),
        ({"precision": "half"}, "precision must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep(many, [2], **settings)
    with pytest.raises(ValueError, match="refine is for dense rows, got refine=1 with sparse ones"):
        sweep(many.to_sparse_csr(), [2], refine=1)
    with pytest.raises(ValueError, match="finite"):
        sweep(torch.tensor([[0.0], [float("nan")], [1.0]]), [2])
