"""Sums by guessed labels: nearly those of the nearest."""

import pytest
import torch
from proving import mixture, need_eight_bits

from torchkm.kernels import Directions, bfloat16, int8, rough, rough_sums, subspace


def nearest_in_float64(x, centroids):
    apart = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1), apart.amin(1).square()


@pytest.fixture(autouse=True)
def nothing_in_eight_bits(monkeypatch):
    """Guess in eight bits only where a test asks for it."""
    monkeypatch.setattr(int8, "pays", lambda: False)


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def in_bfloat16(request, monkeypatch):
    """Guess in bfloat16 on any machine, or in float32."""
    monkeypatch.setattr(bfloat16, "pays", lambda: request.param)
    return request.param


@pytest.fixture
def in_eight_bits(monkeypatch):
    """Guess in eight bits, on any machine that can; count the batches that are."""
    need_eight_bits()
    monkeypatch.setattr(int8, "pays", lambda: True)
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    guessed, multiply = [], int8.RoundedCentroids.multiply
    monkeypatch.setattr(
        int8.RoundedCentroids,
        "multiply",
        lambda self, numbers, out: guessed.append(len(numbers)) or multiply(self, numbers, out),
    )
    return guessed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("unit_rows", [False, True])
def test_guessed_sums_are_nearly_those_of_the_nearest(unit_rows, dtype, in_bfloat16, generator):
    x, centroids = mixture(3000, 80, 120, generator, spread=0.5)
    x, centroids = (x + 3).to(dtype), centroids + 3
    if unit_rows:
        x, centroids = (t / t.norm(dim=1, keepdim=True) for t in (x, centroids))
    origin = x.to(torch.promote_types(dtype, torch.float32)).mean(0)
    counts, sums, inertia = rough.sums(
        5 * x if unit_rows else x, centroids, unit_rows, origin, Directions()
    )
    rows = torch.nn.functional.normalize(x.double()) if unit_rows else x.double()
    truth, sq_distances = nearest_in_float64(rows, centroids)
    wrong = (counts - torch.bincount(truth, minlength=120)).abs().sum()
    assert wrong < 0.02 * len(x) if in_bfloat16 else wrong == 0
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
    torch.testing.assert_close(sums.sum(0).double(), rows.sum(0), rtol=1e-4, atol=1e-2)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_sums_of_float64_rows_keep_their_digits(in_bfloat16, generator):
    x, centroids = (t.double() for t in mixture(2000, 90, 100, generator, spread=0.01))
    counts, sums, inertia = rough.sums(x, centroids, False, x.mean(0), Directions())
    truth, sq_distances = nearest_in_float64(x, centroids)
    assert torch.equal(counts, torch.bincount(truth, minlength=100).double())
    torch.testing.assert_close(
        sums, torch.zeros_like(sums).index_add_(0, truth, x), rtol=1e-12, atol=0
    )
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_rows_beyond_the_digits_are_not_guessed(scale, in_bfloat16, generator):
    x, centroids = (t.double() * scale for t in mixture(500, 90, 100, generator, spread=0.01))
    assert rough.sums(x, centroids, False, 0 * x[0], Directions()) is None
    counts, _, inertia = rough_sums(x, centroids, False, 0 * x[0], Directions())
    truth, sq_distances = nearest_in_float64(x, centroids)
    assert torch.equal(counts, torch.bincount(truth, minlength=100).double())
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-6)


@pytest.fixture
def seen_along(monkeypatch):
    """Guess along 8 directions, whatever the rows; give the bases that guesses were made along."""
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    monkeypatch.setattr(subspace, "_WIDE", 1)
    monkeypatch.setattr(rough, "_WORTH_A_LOOK", 1)
    monkeypatch.setattr(rough, "_DIRECTIONS", 8)
    bases, make = [], rough._Float32.__init__

    def noting(self, centred, half_norms, basis):
        bases.append(basis)
        make(self, centred, half_norms, basis)

    monkeypatch.setattr(rough._Float32, "__init__", noting)
    return bases


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_guesses_along_directions_are_nearly_those_of_whole_rows(dtype, seen_along, generator):
    along = torch.randn(8, 90, generator=generator)
    centroids = torch.randn(70, 8, generator=generator) @ along
    at = torch.randint(70, (6000,), generator=generator)
    x = (centroids[at] + torch.randn(6000, 90, generator=generator) + 2).to(dtype)
    centroids = (centroids + 2 + 0.05 * torch.randn(70, 90, generator=generator)).to(dtype)
    directions = Directions()
    for batch in x.split(1000):
        counts, sums, inertia = rough.sums(batch, centroids, False, batch.mean(0), directions)
        truth, sq_distances = nearest_in_float64(batch, centroids)
        wrong = (counts - torch.bincount(truth, minlength=70)).abs().sum()
        assert wrong < 0.02 * len(batch)
        assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
        torch.testing.assert_close(sums.sum(0), batch.sum(0), rtol=1e-4, atol=1e-2)
    assert [basis is None for basis in seen_along] == [True, True] + 4 * [False]
    chosen = [id(basis) for basis in seen_along[2:]]
    assert chosen[0] == chosen[1] != chosen[2] == chosen[3]  # anew with every doubling


def test_what_lies_beyond_the_directions_is_not_left_out(seen_along, generator):
    x, centroids = mixture(4000, 90, 70, generator, spread=0.5)
    directions = Directions()
    for batch in x.split(1000):
        counts, _, _ = rough.sums(batch, centroids, False, batch.mean(0), directions)
        truth, _ = nearest_in_float64(batch, centroids)
        assert torch.equal(counts, torch.bincount(truth, minlength=70).double())
    assert seen_along == 4 * [None]


def test_few_digits_are_sooner_than_few_directions(seen_along, monkeypatch, generator):
    monkeypatch.setattr(bfloat16, "pays", lambda: True)
    x, centroids = mixture(4000, 90, 100, generator)
    directions = Directions()
    for batch in x.split(1000):
        rough.sums(batch, centroids, False, batch.mean(0), directions)
    assert not seen_along


@pytest.fixture
def in_loops(monkeypatch):
    """Look along directions in loops, whatever that saves; count the batches that were left."""
    pytest.importorskip("numba")
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    monkeypatch.setattr(rough, "_SAVED", 1)
    left, in_parts = [], rough._in_parts
    monkeypatch.setattr(rough, "_in_parts", lambda *args: left.append(args[0]) or in_parts(*args))
    return left


def along_few(n, k, generator, d=160):
    """Return rows and centroids that mostly lie along ten directions."""
    directions = torch.randn(10, d, generator=generator)
    x, centroids = (torch.randn(m, 10, generator=generator) @ directions for m in (n, k))
    return x + torch.randn(n, d, generator=generator), centroids + 2


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_loops_make_no_guesses(dtype, unit_rows, in_loops, generator):
    x, centroids = (t.to(dtype) for t in along_few(5000, 200, generator))
    if unit_rows:
        centroids = torch.nn.functional.normalize(centroids.double()).to(dtype)
    directions = Directions()
    for batch in x.split(1000):
        rows = torch.nn.functional.normalize(batch.double()) if unit_rows else batch.double()
        origin = rows.mean(0).to(torch.promote_types(dtype, torch.float32))
        counts, sums, inertia = rough.sums(batch, centroids, unit_rows, origin, directions)
        truth, sq_distances = nearest_in_float64(rows, centroids)
        wrong = (counts - torch.bincount(truth, minlength=200)).abs().sum()
        assert wrong == 0 or (unit_rows and dtype != torch.float64 and wrong <= 2)
        assert counts.dtype == torch.float64
        assert sums.dtype == origin.dtype
        truth = torch.zeros(200, 160, dtype=torch.float64).index_add_(0, truth, rows)
        if not wrong:
            torch.testing.assert_close(sums.double(), truth, rtol=1e-4, atol=1e-3)
        assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
    assert len(in_loops) == 2  # before there are directions


def test_a_batch_with_ties_or_of_other_directions_is_left_to_products(
    in_loops, monkeypatch, generator
):
    tried, fill = [], rough.fill
    monkeypatch.setattr(rough, "fill", lambda *args: tried.append(args[0]) or fill(*args))
    x, centroids = along_few(6000, 200, generator)
    most = nearest_in_float64(x, centroids)[0].mode().values
    centroids[199] = centroids[most]
    directions, batches = Directions(), x.split(1000)
    n_left, n_tried = (1, 2, 3, 4, 4, 4), (0, 0, 1, 1, 2, 3)  # not before the next directions
    for left, tries, batch in zip(n_left, n_tried, batches, strict=True):
        counts, _, _ = rough.sums(batch, centroids, False, 0 * batch[0], directions)
        truth, _ = nearest_in_float64(batch, centroids)
        assert torch.equal(counts, torch.bincount(truth, minlength=200).double())
        assert (len(in_loops), len(tried)) == (left, tries)
        if len(in_loops) == 4:  # from the next directions on there are no ties
            centroids[199] += 50
    random = torch.randn(1000, 160, generator=generator)
    rough.sums(random, random[:200], False, 0 * random[0], directions)
    assert len(in_loops) == 5


def test_rows_that_are_no_numbers_are_not_added_up_in_loops(in_loops, generator):
    x, centroids = along_few(3000, 200, generator)
    directions, batches = Directions(), list(x.split(1000))
    batches[2] = batches[2].clone()
    batches[2][3, 4] = torch.inf
    found = [rough.sums(batch, centroids, False, 0 * x[0], directions) for batch in batches]
    assert [part is None for part in found] == [False, False, True]


@pytest.mark.parametrize("digits", [int8, bfloat16])
def test_few_digits_are_sooner_than_loops(digits, in_loops, monkeypatch, generator):
    if digits is int8:
        need_eight_bits()
    monkeypatch.setattr(digits, "pays", lambda: True)
    x, centroids = along_few(4000, 200, generator)
    directions = Directions()
    for batch in x.split(1000):
        rough.sums(batch, centroids, False, batch.mean(0), directions)
    assert len(in_loops) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_guesses_in_eight_bits_are_nearly_those_of_whole_rows(dtype, in_eight_bits, generator):
    x, centroids = mixture(3000, 90, 150, generator, spread=0.7)
    x, centroids = (x + 3).to(dtype), (centroids + 3).to(dtype)
    directions = Directions()
    for batch in x.split(1000):
        counts, sums, inertia = rough.sums(batch, centroids, False, batch.mean(0), directions)
        truth, sq_distances = nearest_in_float64(batch, centroids)
        wrong = (counts - torch.bincount(truth, minlength=150)).abs().sum()
        assert wrong <= 0.01 * len(batch)
        assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
        torch.testing.assert_close(sums.sum(0), batch.sum(0), rtol=1e-4, atol=1e-2)
    assert in_eight_bits == [1000, 1000]  # of the first nothing was known


def test_a_batch_too_coarse_for_eight_bits_is_multiplied_whole(in_eight_bits, generator):
    x, centroids = mixture(3000, 90, 150, generator, spread=0.5)
    x[1500] = 1e4  # a step is as long as rows are wide apart
    directions = Directions()
    for batch in x.split(1000):
        counts, _, _ = rough.sums(batch, centroids, False, 0 * batch[0], directions)
        truth, _ = nearest_in_float64(batch, centroids)
        assert (counts - torch.bincount(truth, minlength=150)).abs().sum() <= 4
        directions.learn(40.0)  # but for the row far off
    assert in_eight_bits == [1000]


def test_few_centroids_are_not_guessed_in_eight_bits(in_eight_bits, generator):
    x, centroids = mixture(1000, 90, 127, generator)
    directions = Directions()
    directions.learn(90.0)
    rough.sums(x, centroids, False, x.mean(0), directions)
    assert not in_eight_bits
