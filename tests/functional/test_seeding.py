"""Seeding: different rows, drawn as promised, from the generator alone."""

import pytest
import torch

from torchkm.functional import INITS, assign, plusplus, sampling, seed
from torchkm.functional.problem import as_problem


def make(value):
    return torch.Generator().manual_seed(value)


def groups(generator, n=50):
    """Three groups far from each other."""
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    return (centres.unsqueeze(1) + torch.randn(3, n, 2, generator=generator)).flatten(0, 1)


@pytest.mark.parametrize("init", sorted(INITS))
def test_seeds_are_different_rows(blobs, init, generator):
    seeds = seed(blobs, 40, init, generator=generator)
    same = (seeds.unsqueeze(1) == blobs).all(2)  # (k, n)
    assert same.any(1).all()
    assert len(seeds.unique(dim=0)) == 40


@pytest.mark.parametrize("init", sorted(INITS))
def test_the_generator_decides(blobs, init):
    before = torch.get_rng_state()
    one, two, other = (seed(blobs, 10, init, generator=make(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    seed(blobs, 10, init)  # a fresh seed from the system
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("init", sorted(INITS))
def test_k_equal_to_n_takes_every_row(init, generator):
    x = torch.randn(25, 3, generator=generator)
    seeds = seed(x, 25, init, generator=generator)
    assert torch.equal(seeds.sort(0).values, x.sort(0).values)


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_far_groups_get_a_seed_each(init, generator):
    x = groups(generator)
    for s in range(20):
        nearest = seed(x, 3, init, generator=make(s)).div(50).round().unique(dim=0)
        assert len(nearest) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("init", sorted(INITS))
def test_a_gpu_seeds_as_a_cpu_does(init, generator):
    """From the same draws, if not to the last bit of their chances."""
    x = torch.randn(3000, 5, generator=generator)
    seeds, expected = (seed(rows, 40, init, generator=make(1)) for rows in (x.cuda(), x))
    assert seeds.device.type == "cuda"
    assert (seeds.cpu().unsqueeze(1) == x).all(2).any(1).all()
    mine, theirs = (assign(x, s).sq_distances.sum() for s in (seeds.cpu(), expected))
    assert mine == pytest.approx(float(theirs), rel=0.05)


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_better_than_random(blobs, init):
    def inertia(method):
        seeds = (seed(blobs, 12, method, generator=make(s)) for s in range(10))
        return sum(assign(blobs, c).sq_distances.sum() for c in seeds)

    assert inertia(init) < 0.9 * inertia("random")


@pytest.mark.parametrize("init", sorted(INITS))
def test_rows_without_weight_are_not_drawn(blobs, init, generator):
    weight = torch.zeros(600)
    weight[100:160] = 1
    seeds = seed(blobs, 12, init, sample_weight=weight, generator=generator)
    same = (seeds.unsqueeze(1) == blobs[100:160]).all(2)
    assert same.any(1).all()


@pytest.mark.parametrize("init", sorted(INITS))
def test_heavy_rows_are_drawn_more_often(init):
    x = torch.arange(10.0).unsqueeze(1)
    weight = torch.ones(10)
    weight[7] = 1000
    hits = sum(
        (seed(x, 1, init, sample_weight=weight, generator=make(s)) == 7).item() for s in range(60)
    )
    assert hits > 50


@pytest.mark.parametrize("init", sorted(INITS))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8])
def test_dtype_of_the_seeds(blobs, init, dtype, generator):
    x = (10 * blobs).abs().to(dtype)
    seeds = seed(x, 5, init, generator=generator)
    assert seeds.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("init", sorted(INITS))
def test_cosine_seeds_have_unit_length(blobs, init, generator):
    seeds = seed(blobs, 5, init, metric="cosine", generator=generator)
    torch.testing.assert_close(seeds.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_a_given_array_is_copied(blobs):
    given = blobs[:4].clone()
    seeds = seed(blobs, 4, given)
    assert torch.equal(seeds, given)
    assert seeds.data_ptr() != given.data_ptr()
    assert torch.equal(seed(blobs, 4, given.numpy()), given)


def test_a_function_is_called_with_rows_k_and_generator(blobs, generator):
    def last(x, k, g):
        assert (x.shape, k) == ((600, 5), 3)
        assert g is generator
        return x[-k:]

    assert torch.equal(seed(blobs, 3, last, generator=generator), blobs[-3:])


def test_a_subsample_stands_for_all_rows(monkeypatch, generator):
    """k-means++ on few of many rows still finds every group, also one that is light."""
    monkeypatch.setattr(plusplus, "plusplus_rows", lambda k: 40)
    x = groups(generator, n=200)
    for s in range(10):
        found = seed(x, 3, generator=make(s)).div(50).round().unique(dim=0)
        assert len(found) == 3


def test_a_heavy_row_keeps_its_weight_in_the_subsample(generator):
    x = torch.randn(1000, 2, generator=generator)
    weight = torch.ones(1000)
    weight[3] = 500
    index, stands_for = plusplus._subsample(as_problem(x, weight, "euclidean"), 100, generator)
    heavy = index == 3
    assert heavy.sum() == 1
    assert stands_for[heavy].item() == 500
    torch.testing.assert_close(stands_for[~heavy], torch.full((99,), weight.sum().item() / 100))


def test_draws_follow_their_mass():
    mass = torch.tensor([0.0, 1.0, 3.0, 0.0])
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    index = sampling.draw_with_replacement(mass, draws, mass)
    assert torch.bincount(index, minlength=4).tolist() == [0, 250, 750, 0]
    nothing = torch.zeros(4)
    index = sampling.draw_with_replacement(nothing, draws, torch.tensor([1.0, 0, 0, 1.0]))
    assert torch.bincount(index, minlength=4).tolist() == [500, 0, 0, 500]


def test_the_largest_draw_stays_inside():
    mass = torch.tensor([0.1, 0.2, 0.3, 0.0])
    almost_one = torch.tensor([1 - 1e-16, 1.0], dtype=torch.float64)
    assert sampling.draw_with_replacement(mass, almost_one, mass).tolist() == [2, 2]
