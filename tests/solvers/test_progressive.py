"""The default solver: progressive, with momentum, restarts as one problem, and swaps."""

import numpy as np
import pytest
import torch

import torchkm
from torchkm import kernels
from torchkm.functional import assign
from torchkm.functional.problem import as_problem
from torchkm.functional.splitting import halves
from torchkm.solvers import Status
from torchkm.solvers.descent import Momentum
from torchkm.solvers.restarts import race


def make(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(n, d, k, generator, spread=4.0):
    """Rows around ``k`` centres of very different sizes."""
    centres = spread * torch.randn(k, d, generator=generator)
    sizes = torch.rand(k, generator=generator) ** 2 + 0.01
    label = torch.multinomial(sizes, n, replacement=True, generator=generator)
    return centres[label] + torch.randn(n, d, generator=generator)


@pytest.fixture(scope="module")
def many():
    return mixture(20_000, 12, 30, make(5))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_ends_where_lloyds_passes_rest(many, precision):
    result = torchkm.kmeans(many, 20, tol=0, precision=precision, generator=make())
    assert result.status is Status.LABELS_UNCHANGED
    again = torchkm.kmeans(many, 20, init=result.centroids, solver="lloyd", max_iter=1)
    torch.testing.assert_close(again.centroids, result.centroids, rtol=0, atol=1e-4)
    assert result.inertia == pytest.approx(again.inertia, rel=1e-6)
    assert result.precision == precision


def test_labels_and_inertia_belong_to_the_centroids(many):
    for settings in ({}, {"max_iter": 1}, {"tol": 100.0}, {"refine": 3}):
        result = torchkm.kmeans(many, 20, generator=make(), **settings)
        found = assign(many, result.centroids)
        assert (result.labels != found.labels).sum() <= 2  # near ties
        want = found.sq_distances.double().sum().item()
        assert result.inertia == pytest.approx(want, rel=1e-6)


def test_precisions_agree_and_a_seed_repeats_to_the_bit(many, monkeypatch):
    monkeypatch.setattr(kernels, "is_compact", lambda x, precision: False)
    one, two = (torchkm.kmeans(many, 20, precision="bfloat16", generator=make(1)) for _ in "12")
    assert torch.equal(one.centroids, two.centroids)
    assert one.history == two.history
    plain = torchkm.kmeans(many, 20, precision="float32", generator=make(1))
    assert plain.inertia == pytest.approx(one.inertia, rel=1e-4)


def test_it_begins_with_a_part_and_ends_with_all(many):
    result = torchkm.kmeans(many, 20, precision="bfloat16", generator=make())
    rows = [record.n_rows for record in result.history]
    assert rows == sorted(rows)
    assert rows[0] < len(many) == rows[-1]
    assert result.n_iter == sum(n == len(many) for n in rows)
    for record in result.history:
        assert record.n_rescored <= record.n_scored <= record.n_rows
    assert result.history[-1].n_scored < len(many) / 2  # leads outlast the last small moves


def test_it_is_no_worse_than_lloyd(many):
    ours, lloyd = (
        [torchkm.kmeans(many, 30, solver=s, generator=make(seed)).inertia for seed in range(10)]
        for s in ("auto", "lloyd")
    )
    assert np.median(ours) <= np.median(lloyd) * 1.001


def test_rows_past_the_first_part_are_seen(generator):
    """A far group that the first part cannot hold gets its centroid all the same."""
    x = torch.cat([torch.randn(30_000, 4, generator=generator), torch.full((40, 4), 300.0)])
    result = torchkm.kmeans(x, 3, generator=make())
    assert len(result.labels[-40:].unique()) == 1
    assert result.centroids.amax() == pytest.approx(300, abs=0.1)


def test_rows_that_are_not_finite_are_found_wherever_they_lie(many):
    for row in (0, 12_345, len(many) - 1):
        x = many.clone()
        x[row, 3] = torch.nan
        with pytest.raises(ValueError, match=f"1 of 20000 rows.*first is row {row}"):
            torchkm.kmeans(x, 5, generator=make())
        x[row, 3] = 1e30
        with pytest.raises(ValueError, match="small enough to square in float32"):
            torchkm.kmeans(x, 5, generator=make())


def test_weights_count_and_rows_without_weight_do_not(many):
    weight = torch.zeros(len(many))
    weight[:6000] = torch.rand(6000, generator=make()) + 0.5
    result = torchkm.kmeans(many, 8, sample_weight=weight, tol=0, generator=make())
    alone = torchkm.kmeans(
        many[:6000],
        8,
        sample_weight=weight[:6000],
        init=result.centroids,
        solver="lloyd",
        max_iter=1,
    )
    torch.testing.assert_close(alone.centroids, result.centroids, rtol=0, atol=1e-3)


def test_rows_with_weight_come_first_however_few(many):
    """Of the first part drawn from all rows, not one in a hundred would weigh anything."""
    weight = torch.zeros(len(many))
    weight[torch.randperm(len(many), generator=make(2))[:60]] = 1
    seen = []
    settings = {"sample_weight": weight, "precision": "bfloat16"}
    result = torchkm.kmeans(
        many, 12, **settings, generator=make(), callback=lambda r: seen.append(r)
    )
    heavy = many[weight > 0]
    # The first pass has all that weighs: its inertia is near the last one's.
    assert seen[0].inertia < 3 * result.inertia
    assert seen[0].n_rows < len(many)
    counts = torch.bincount(result.labels[weight > 0], minlength=12)
    assert len(heavy) == 60
    assert (counts > 0).all()
    first = torchkm.kmeans(many, 12, **settings, generator=make(), callback=lambda r: True)
    found = assign(heavy, first.centroids).sq_distances.double().sum().item()
    assert seen[0].inertia >= 0.999 * found  # nothing that weighs was missing from it


def test_steps_go_further_until_they_go_uphill():
    momentum = Momentum()
    at = [torch.tensor([[float(i)]]) for i in range(5)]
    assert momentum.ahead(at[0], 9.0).item() == 0  # nothing to go on from
    ahead = [momentum.ahead(means, 9.0 - i).item() for i, means in enumerate(at[1:], 1)]
    assert ahead == pytest.approx([1 + 1 / 4, 2 + 2 / 5, 3 + 3 / 6, 4 + 4 / 7])
    assert momentum.ahead(torch.tensor([[7.0]]), 99.0).item() == 7  # uphill: begin anew
    for i in range(200):
        last = momentum.ahead(torch.tensor([[8.0 + i]]), 50.0 - 0.1 * i).item()
    assert last == pytest.approx(8 + 199 + 0.9)


def test_inertia_keeps_its_digits_where_clusters_are_tight(generator):
    centres = 1000 * torch.randn(5, 3, generator=generator)
    x = (centres.unsqueeze(1) + 0.01 * torch.randn(5, 100, 3, generator=generator)).flatten(0, 1)
    result = torchkm.kmeans(x, 5, init=centres, generator=make())
    means = torch.stack([part.double().mean(0) for part in x.split(100)])
    want = (x.double() - means.repeat_interleave(100, 0)).square().sum().item()
    assert result.inertia == pytest.approx(want, rel=1e-2)


def test_cosine_centroids_lie_on_the_sphere(many):
    result = torchkm.kmeans(many, 9, metric="cosine", generator=make())
    torch.testing.assert_close(result.centroids.norm(dim=1), torch.ones(9))
    assert torch.equal(result.labels, assign(many, result.centroids, metric="cosine").labels)


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_a_callback_stops_it_on_a_part_of_the_rows_too(many, stop_at):
    result = torchkm.kmeans(
        many, 20, generator=make(), callback=lambda record: record.n_iter == stop_at
    )
    assert result.status is Status.CALLBACK
    assert len(result.history) == stop_at
    assert len(result.labels) == len(many)


def test_spare_centroids_get_rows(generator):
    x = torch.randn(9000, 3, generator=generator)
    init = torch.cat([x[:5], torch.full((4, 3), 1e3)])
    result = torchkm.kmeans(x, 9, init=init, generator=make())
    assert (torch.bincount(result.labels, minlength=9) > 0).all()
    assert sum(record.n_reseeded for record in result.history) >= 4


def test_restarts_run_as_one_and_the_best_wins(many):
    problem = as_problem(many[:4000], None, "euclidean")
    good = torchkm.kmeans(many[:4000], 10, generator=make()).centroids
    bad = [torch.randn(10, 12, generator=make(i)) * 1e-3 for i in range(4)]
    assert torch.equal(race([], [good]), good)
    won = race([problem], [bad[0], bad[1], good, bad[2], bad[3]])
    assert (won - good).norm() < 0.1 * good.norm()


def test_restarts_share_the_reads_of_single_runs(many):
    result = torchkm.kmeans(many, 10, n_init=4, generator=make())
    alone = [torchkm.kmeans(many, 10, generator=make(seed)).inertia for seed in range(6)]
    assert result.inertia <= max(alone) * 1.001


def test_halves_part_two_groups_and_know_the_gain(generator):
    one, two = torch.randn(2, 200, 3, generator=generator).unbind(0)
    x = torch.cat([one, two + torch.tensor([20.0, 0.0, 0.0]), one - 50])
    labels = torch.tensor([0] * 400 + [1] * 200)
    found = halves(as_problem(x, None, "euclidean"), 2, labels, make())
    want = torch.stack([x[:200].mean(0), x[200:400].mean(0)])
    got = found.centroids[0][found.centroids[0][:, 0].argsort()]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    whole = (x[:400] - x[:400].mean(0)).square().sum()
    parts = sum((p - p.mean(0)).square().sum() for p in x[:400].split(200))
    assert found.gains[0].item() == pytest.approx((whole - parts).item(), rel=1e-4)
    assert found.gains[1] < found.gains[0] / 10


def test_refine_mends_what_no_small_step_can(generator):
    """Two centroids in one group and one between two others: only a swap helps."""
    groups = [torch.randn(300, 2, generator=generator) + torch.tensor(c) for c in CORNERS]
    x = torch.cat(groups)
    init = torch.stack([x[0], x[1], (groups[1].mean(0) + groups[2].mean(0)) / 2, x[-1]])
    stuck = torchkm.kmeans(x, 4, init=init, generator=make())
    mended = torchkm.kmeans(x, 4, init=init, refine=10, generator=make())
    best = sum((g - g.mean(0)).square().sum().item() for g in groups)
    assert stuck.inertia > 10 * best
    assert mended.inertia == pytest.approx(best, rel=1e-3)
    assert mended.n_iter > stuck.n_iter


CORNERS = ([0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0])


def test_refine_never_makes_it_worse(many):
    for seed in range(3):
        plain = torchkm.kmeans(many, 12, generator=make(seed)).inertia
        refined = torchkm.kmeans(many, 12, refine=8, generator=make(seed)).inertia
        assert refined <= plain * (1 + 1e-6)


@pytest.mark.mnist
def test_mnist_labels_are_those_of_float32(mnist_rows):
    result = torchkm.kmeans(mnist_rows, 64, max_iter=5, precision="bfloat16", generator=make())
    assert torch.equal(result.labels, assign(mnist_rows, result.centroids).labels)
    assert result.inertia < 1_800_000


def unequal_groups(n, n_groups, d=6):
    """Rows around centres far apart, of which few hold most."""
    random = make(1)
    centres = 10 * torch.randn(n_groups, d, generator=random)
    share = torch.rand(n_groups, generator=random) ** 4 + 0.002
    which = torch.multinomial(share, n, replacement=True, generator=random)
    return centres[which] + torch.randn(n, d, generator=random)


def test_swaps_come_early_where_they_promise_much(monkeypatch):
    from torchkm.solvers import progressive

    x = unequal_groups(60_000, 120)
    settings = {"init": "random", "max_iter": 1}
    with_swaps = [torchkm.kmeans(x, 60, generator=make(s), **settings) for s in range(3)]
    monkeypatch.setattr(progressive, "_WORTH", 2.0)
    without = [torchkm.kmeans(x, 60, generator=make(s), **settings) for s in range(3)]
    for one, other in zip(with_swaps, without, strict=True):
        assert one.inertia < 0.95 * other.inertia
        on_part = [record for record in one.history if record.n_rows < len(x)]
        assert len(on_part) > sum(record.n_rows < len(x) for record in other.history)


def test_no_swaps_are_tried_early_where_they_promise_little(monkeypatch):
    from torchkm.solvers import progressive

    x = torch.rand(60_000, 2, generator=make(2))
    monkeypatch.setattr(progressive, "search", None)  # would fail
    torchkm.kmeans(x, 100, generator=make(), max_iter=2)


def test_halves_of_many_wide_rows_are_found_in_few_dimensions():
    x = torch.randn(6000, 200, generator=make(3))
    x[::2] += 3 * torch.randn(200, generator=make(4)) / 200**0.5 * 5
    found = halves(as_problem(x, None, "euclidean"), 1, torch.zeros(6000).long(), make())
    whole = (x - x.mean(0)).square().sum()
    parts = sum((part - part.mean(0)).square().sum() for part in (x[::2], x[1::2]))
    assert found.gains[0].item() == pytest.approx((whole - parts).item(), rel=1e-3)


def test_refine_sees_rows_that_stand_as_they_lie(generator):
    x = mixture(5000, 4, 20, generator)
    plain, refined = (torchkm.kmeans(x, 12, refine=r, generator=make()).inertia for r in (0, 6))
    assert refined <= plain * (1 + 1e-6)
