"""Rows that are looked at along a few directions get the labels of whole rows."""

import pytest
import torch

from torchkm.kernels import OrderedRows, Tracker, bfloat16, compiled, projected, scorer, subspace
from torchkm.kernels.direct import DirectScorer
from torchkm.kernels.projected import ProjectedScorer


@pytest.fixture(autouse=True, params=["in loops", "in products"])
def small_problems_too(request, monkeypatch):
    """Look along a few directions at rows and centroids of any size, on any machine."""
    if request.param == "in loops":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(compiled, "available", lambda: False)
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    monkeypatch.setattr(projected, "_DIRECTIONS", 12)
    monkeypatch.setattr(projected, "_IN_LOOPS", 12)
    monkeypatch.setattr(subspace, "_WIDE", 1)
    monkeypatch.setattr(scorer, "_WORTH_A_LOOK", 1)
    monkeypatch.setattr(scorer, "_WORTH_A_LOOP", 1)


def rows_of(n, d, rank, generator, noise=0.3):
    along = torch.randn(rank, d, generator=generator)
    rows = torch.randn(n, rank, generator=generator) @ along
    return rows + noise * torch.randn(n, d, generator=generator)


def drifting(x, k, generator, n_passes=6):
    """Centroids that move less from pass to pass, from random rows of ``x``."""
    centroids = x[torch.randperm(len(x), generator=generator)[:k]]
    centroids = centroids.to(torch.promote_types(x.dtype, torch.float32))
    for step in range(n_passes):
        yield centroids
        noise = torch.randn(centroids.shape, generator=generator).to(centroids.dtype)
        centroids = centroids + noise * 0.3 / 3**step


def both(x, k, monkeypatch, order=None, weight=None, unit_rows=False):
    """Return one tracker that looks along directions, and one that multiplies all rows out."""
    origin = x.to(torch.promote_types(x.dtype, torch.float32)).mean(0)
    rows = OrderedRows(x, order, 0 * origin if unit_rows else origin, unit_rows)
    looks = Tracker(rows, weight, k)
    monkeypatch.setattr(scorer, "_WORTH_A_LOOK", 2**62)
    monkeypatch.setattr(scorer, "_WORTH_A_LOOP", 2**62)
    whole = Tracker(rows, weight, k)
    assert isinstance(looks._scorer, ProjectedScorer)
    assert isinstance(whole._scorer, DirectScorer)
    return looks, whole


def follow_alike(looks, whole, centroids, **how):
    for each in (looks, whole):
        each.follow(centroids, **how)
    assert torch.equal(looks.labels, whole.labels)
    torch.testing.assert_close(looks.counts, whole.counts)
    torch.testing.assert_close(looks.sums, whole.sums, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_sums_as_those_of_whole_rows(dtype, weighted, monkeypatch, generator):
    x = rows_of(4000, 60, 9, generator)
    x = (x * 10 + 120).clamp(0, 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)
    weight = torch.rand(len(x), generator=generator) if weighted else None
    order = torch.randperm(len(x), generator=generator)
    looks, whole = both(x, 40, monkeypatch, order, weight)
    sizes = iter([500, 1000, 1200, 4000, 4000, 4000])
    for centroids in drifting(x, 40, generator):
        n_rows = next(sizes)
        looks.admit(n_rows)
        whole.admit(n_rows)
        follow_alike(looks, whole, centroids)


def test_unit_rows(monkeypatch, generator):
    x = rows_of(1500, 50, 9, generator)
    looks, whole = both(x, 20, monkeypatch, unit_rows=True)
    looks.admit(len(x))
    whole.admit(len(x))
    for centroids in drifting(torch.nn.functional.normalize(x), 20, generator, 3):
        follow_alike(looks, whole, centroids)


def test_rows_without_directions_are_multiplied_out(monkeypatch, generator):
    x = torch.randn(3000, 300, generator=generator)
    looks, whole = both(x, 30, monkeypatch)
    for n_rows in (700, 1500, 3000):
        looks.admit(n_rows)
        whole.admit(n_rows)
        follow_alike(looks, whole, x[:30])
        follow_alike(looks, whole, x[:30] + 0.1 * x[30:60])
    assert looks._scorer.n_rescored > len(x)


def test_hardly_a_row_is_multiplied_out_where_directions_tell_centroids_apart(generator):
    x = rows_of(5000, 200, 6, generator, noise=0.1)
    looks = Tracker(OrderedRows(x, None, x.mean(0), False), None, 25)
    looks.admit(len(x))
    looks.follow(x[:25])
    followed = looks.follow(x[:25] + 0.2 * x[25:50])
    assert followed.n_scored > 1000
    assert followed.n_rescored < 0.02 * len(x)


def test_directions_are_chosen_again_as_rows_grow_in_number(monkeypatch, generator):
    x = rows_of(4000, 80, 20, generator)
    chosen = []
    choose = projected.Subspace
    monkeypatch.setattr(
        projected, "Subspace", lambda *args: chosen.append(len(args[0])) or choose(*args)
    )
    looks, whole = both(x, 30, monkeypatch)
    sizes = iter([1000, 1100, 2000, 4000, 4000])
    for centroids, n_chosen in zip(drifting(x, 30, generator, 5), (1, 1, 2, 3, 3), strict=True):
        n_rows = next(sizes)
        looks.admit(n_rows)
        whole.admit(n_rows)
        follow_alike(looks, whole, centroids)
        assert len(chosen) == n_chosen


def test_labels_on_the_way_are_those_of_whole_rows_too(monkeypatch, generator):
    x = rows_of(3000, 60, 9, generator, noise=1.0)
    looks, whole = both(x, 40, monkeypatch)
    for n_rows, centroids in zip((900, 3000, 3000), drifting(x, 40, generator, 3), strict=True):
        looks.admit(n_rows)
        whole.admit(n_rows)
        follow_alike(looks, whole, centroids, proven=False)


def test_of_equal_centroids_the_first_even_on_the_way(monkeypatch, generator):
    x = rows_of(900, 60, 9, generator)
    looks, whole = both(x, 40, monkeypatch)
    looks.admit(900)
    whole.admit(900)
    follow_alike(looks, whole, torch.cat([x[:20], x[:20]]), proven=False)
    assert looks.labels.max() < 20


def test_distances_are_never_less_than_the_true_ones_and_leads_never_more(generator):
    x = rows_of(2000, 60, 9, generator).double()
    rows = OrderedRows(x.float(), None, torch.zeros(60), False)
    looks = ProjectedScorer(rows, 30)
    looks.aim(x[:30].float())
    scored = next(looks.enter(slice(0, 2000))).scored
    two = torch.cdist(x.float().double(), x[:30].float().double()).square()
    two = two.topk(2, largest=False).values
    assert (scored.sq_distances.double() >= two[:, 0]).all()
    assert (scored.leads.double() <= (two[:, 1] - two[:, 0]) / 2).all()
    assert scored.leads.gt(0).double().mean() > 0.99


def test_losses_as_those_of_whole_rows(monkeypatch, generator):
    x = rows_of(2000, 60, 9, generator, noise=1.0)
    looks, whole = both(x, 40, monkeypatch)
    for each in (looks, whole):
        each.admit(len(x))
        each.follow(x[:40])
    torch.testing.assert_close(looks.losses(x[:40], 1500), whole.losses(x[:40], 1500))


def test_equal_rows_and_equal_centroids(monkeypatch):
    x = torch.ones(600, 40)
    looks, whole = both(x, 5, monkeypatch)
    looks.admit(600)
    whole.admit(600)
    follow_alike(looks, whole, torch.ones(5, 40))
    assert not looks.labels.any()
