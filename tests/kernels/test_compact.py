"""Narrow rows scored in every pass: labels and totals are those of a fresh look in float64."""

import pytest
import torch

from torchkm.kernels import OrderedRows, Pace, Tracker, compiled, is_compact, nearest, track
from torchkm.kernels.compact import Compact
from torchkm.kernels.compact_products import CompactProducts


@pytest.fixture(params=["products", "loops"])
def keep(request):
    """Return what keeps rows."""
    if request.param == "products":
        return CompactProducts
    pytest.importorskip("numba")
    from torchkm.kernels.compiled.compact import CompactLoops

    return CompactLoops


def fresh(x, centroids, weight):
    """Return labels, counts, sums and inertia of ``x (n, d)``."""
    apart = torch.cdist(x.double(), centroids.double()).square()
    best, labels = apart.min(1)
    one_hot = torch.nn.functional.one_hot(labels, len(centroids)).double() * weight.unsqueeze(1)
    return labels, one_hot.sum(0), one_hot.T @ x.double(), best @ weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 1, 1), (700, 3, 5), (9000, 6, 30), (5000, 9, 70), (900, 70, 7)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_totals_are_those_of_a_fresh_look(keep, n, d, k, weighted, dtype, generator):
    x = 5 + torch.randn(n, d, generator=generator, dtype=dtype)
    weight = torch.rand(n, generator=generator).round(decimals=1) if weighted else None
    order = torch.randperm(n, generator=generator)
    compact = keep(OrderedRows(x, order, x.mean(0), False), weight, k)
    before = None
    for share in (3, 2, 1, 1, 1):
        compact.admit((n + share - 1) // share)
        rows = x[order[: compact.n_rows]]
        centroids = x[:k] + 0.2 * torch.randn(k, d, generator=generator, dtype=dtype)
        followed = compact.follow(centroids)
        weights = torch.ones(n) if weight is None else weight
        labels, counts, sums, inertia = fresh(rows, centroids, weights[order].double()[: len(rows)])
        wrong = compact.labels != labels
        assert wrong.sum() <= 2  # near ties
        if not wrong.any():
            torch.testing.assert_close(compact.counts, counts)
            torch.testing.assert_close(compact.sums, sums, rtol=1e-6, atol=1e-6)
        assert compact.inertia(centroids) == pytest.approx(float(inertia), rel=1e-5, abs=1e-5)
        old = torch.full_like(labels, -1)
        if before is not None:
            old[: len(before)] = before
        before = compact.labels
        assert followed.n_changed == (old != before).sum()
        assert followed.n_scored == compact.n_rows
        assert (followed.largest_norm is None) == bool((old >= 0).all())
    assert torch.equal(compact.by_row(compact.labels)[order], compact.labels)


@pytest.mark.parametrize(("n", "d", "k"), [(2000, 4, 6), (2000, 4, 3), (20_000, 30, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_totals_follow_the_few_rows_that_move(keep, n, d, k, weighted, generator):
    x = torch.randn(n, d, generator=generator)
    weight = torch.rand(n, generator=generator) if weighted else None
    compact = keep(OrderedRows(x, None, x.mean(0), False), weight, k)
    compact.admit(n)
    centroids = x[:k].clone()
    compact.follow(centroids)
    for _ in range(3):
        centroids = centroids + 0.004 * torch.randn(k, d, generator=generator)
        assert 0 < compact.follow(centroids).n_changed < n * min(1 / 4, k / 32)
        weights = torch.ones(n) if weight is None else weight
        one_hot = torch.nn.functional.one_hot(compact.labels, k).double() * weights.unsqueeze(1)
        torch.testing.assert_close(compact.counts, one_hot.sum(0))
        torch.testing.assert_close(compact.sums, one_hot.T @ x.double(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16])
def test_any_dtype_and_unit_rows(keep, dtype, generator):
    x = (torch.rand(900, 20, generator=generator) * 250 + 1).to(dtype)
    unit = torch.nn.functional.normalize(x.float())
    compact = keep(OrderedRows(x, None, unit.mean(0), True), None, 6)
    compact.admit(900)
    compact.follow(unit[:6])
    labels, counts, sums, inertia = fresh(unit, unit[:6], torch.ones(900).double())
    assert torch.equal(compact.labels, labels)
    torch.testing.assert_close(compact.counts, counts)
    torch.testing.assert_close(compact.sums, sums, rtol=1e-6, atol=1e-5)
    assert compact.inertia(unit[:6]) == pytest.approx(float(inertia), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("repeats", [2, 20])
def test_of_equal_centroids_the_first_takes_the_rows(keep, repeats, generator):
    x = torch.randn(3000, 4, generator=generator)
    centroids = x[:4].repeat(repeats, 1)
    compact = keep(OrderedRows(x, None, x.mean(0), False), None, len(centroids))
    compact.admit(3000)
    for _ in range(2):
        assert compact.follow(centroids.clone()).n_empty == len(centroids) - 4
        assert torch.equal(compact.labels, nearest(x, centroids, False, x.mean(0))[0])
        assert compact.counts.sum() == 3000


@pytest.mark.parametrize("k", [5, 60])
def test_nothing_is_left_of_a_cluster_whose_rows_have_gone(keep, k, generator):
    x = torch.randn(500, 3, generator=generator)
    weight = torch.rand(500, generator=generator) * 10 ** torch.linspace(-6, 6, 500)
    weight[::9] = 0
    compact = keep(OrderedRows(x, None, x.mean(0), False), weight, k)
    compact.admit(500)
    compact.follow(x[:k])
    far = torch.full((k, 3), 1e3)
    far[2] = 0
    assert compact.follow(far).n_empty == k - 1
    assert compact.counts.nonzero().flatten().tolist() == [2]
    assert (compact.sums[compact.counts == 0] == 0).all()
    compact.recount()
    torch.testing.assert_close(compact.sums[2], weight.double() @ x.double(), rtol=1e-6, atol=1e-3)


def test_losses_are_what_the_inertia_rises_by(keep, generator):
    x = torch.randn(800, 5, generator=generator)
    weight = torch.rand(800, generator=generator)
    compact = keep(OrderedRows(x, None, x.mean(0), False), weight, 6)
    compact.admit(800)
    compact.follow(x[:6])
    for n_rows in (300, 800):
        apart = torch.cdist(x[:n_rows].double(), x[:6].double()).square()
        for cluster, loss in enumerate(compact.losses(x[:6], n_rows).tolist()):
            others = apart[:, [j for j in range(6) if j != cluster]].amin(1)
            want = ((others - apart.amin(1)) @ weight[:n_rows].double()).item()
            assert loss == pytest.approx(want, rel=1e-4)


def test_inertia_lasts_as_far_as_it_says(keep, generator):
    centroids = 100 * torch.rand(8, 6, generator=generator)
    at = torch.randint(8, (2000,), generator=generator)
    x = centroids[at] + 1.5 * torch.randn(2000, 6, generator=generator)
    compact = keep(OrderedRows(x, None, x.mean(0), False), None, 8)
    compact.admit(2000)
    compact.follow(centroids)
    found = compact.inertia(centroids)
    assert compact.cancelled < found / compact.sq_norms < 2 * compact.cancelled
    _, _, _, inertia = fresh(x, centroids, torch.ones(2000).double())
    assert found == pytest.approx(inertia.item(), rel=3e-8)


def test_few_numbers_are_compact_and_bfloat16_is_as_asked(generator):
    rows = torch.randn(50, 3, generator=generator), None, None, torch.zeros(3), False
    assert isinstance(track(*rows, 4, "auto"), Compact)
    assert isinstance(track(*rows, 4, "bfloat16"), Tracker)


@pytest.mark.parametrize("loops", [True, False])
def test_narrow_rows_are_compact_and_more_of_them_in_loops(loops, monkeypatch):
    monkeypatch.setattr(compiled, "available", lambda: loops)
    number = torch.zeros(1, 1)
    assert is_compact(number.expand(2**14, 128))
    assert not is_compact(number.expand(2**14, 129))
    assert is_compact(number.expand(2**17, 64))
    assert is_compact(number.expand(2**17 + 1, 64)) is loops
    assert is_compact(number.expand(2**20, 128)) is loops
    assert not is_compact(number.expand(2**20 + 1, 128))


@pytest.mark.parametrize("k", [3, 40])
def test_a_cluster_of_rows_without_weight_is_empty(keep, k, generator):
    x = torch.randn(600, 3, generator=generator)
    weight = torch.ones(600)
    x[::2, 0] += 100
    weight[::2] = 0
    centroids = torch.randn(k, 3, generator=generator)
    centroids[1, 0] = 100
    compact = keep(OrderedRows(x, None, x.mean(0), False), weight, k)
    compact.admit(600)
    labels = fresh(x, centroids, weight.double())[0]
    n_empty = (torch.bincount(labels[1::2], minlength=k) == 0).sum()
    assert compact.follow(centroids).n_empty == n_empty >= 1
    assert compact.counts[1] == 0


def passing(x, weight, k):
    """Return rows that make passes by themselves."""
    pytest.importorskip("numba")
    from torchkm.kernels.compiled.compact import CompactLoops

    compact = CompactLoops(OrderedRows(x, None, x.mean(0), False), weight, k)
    compact.admit(len(x))
    assert compact.enter() is not None
    return compact


def test_passes_aim_and_what_follows_aims_again(generator):
    x = torch.randn(500, 3, generator=generator)
    compact, centroids = passing(x, None, 4), x[:4].clone()
    pace = Pace(0, float("inf"), 0.9, 0.0, (1e-7, 2e-7))
    compact.follow(centroids)
    before = compact.inertia(centroids), compact.labels
    assert len(compact.descend(centroids, centroids, pace, 5).figures) == 5
    compact.follow(centroids)
    assert torch.equal(compact.labels, before[1])
    assert compact.inertia(centroids) == pytest.approx(before[0])


def test_passes_leave_nothing_of_a_cluster_whose_few_rows_have_gone(generator):
    x = torch.randn(500, 3, generator=generator)
    x[:9] += 50
    start = x[torch.tensor([20, 21, 22, 3])]
    gone = start.clone()
    gone[3] = -500
    for _ in range(6):  # by luck rounding may leave nothing, too
        weight = torch.ones(500)
        weight[:9] = 10 ** torch.linspace(-6, 6, 9) * (1 + torch.rand(9, generator=generator))
        compact = passing(x, weight, 4)
        assert compact.follow(start).n_empty == 0
        went = compact.descend(gone, gone, Pace(0, float("inf"), 0.9, 0.0, (1e-7, 2e-7)), 5)
        assert went.unfinished is not None
        assert went.unfinished.n_empty == 1
        assert 0 < went.unfinished.n_changed < 20
        assert torch.equal(went.centroids, gone)
        assert compact.counts[3] == 0
        assert not compact.sums[3].any()
