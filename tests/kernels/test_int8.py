"""Eight bits: whatever is rounded, bounds hold, and labels go with them."""

import pytest
import torch
from proving import need_eight_bits

from torchkm.kernels import cpu, int8
from torchkm.kernels.int8 import BoundedCentroids, Grid, RoundedCentroids, RoundedRows


@pytest.fixture(autouse=True)
def products_to_rely_on():
    need_eight_bits()


def multiplied(centroids, x, grid):
    """Return the products ``(n, k)`` of rows, rounded to a grid."""
    out = torch.empty(len(x), len(centroids._right.T), dtype=torch.int32)
    centroids.multiply(RoundedRows(len(x), x.shape[1]).round(x, grid), out)
    return out


def grid_over(x):
    return Grid.over(x.min().item(), x.max().item())


def rows_and_centroids(kind, generator, dtype=torch.float32):
    x = torch.randn(300, 70, generator=generator)
    centroids = torch.randn(40, 70, generator=generator)
    if kind == "far off":
        x, centroids = x + 300, centroids + 300
    if kind == "farther off":
        x, centroids = x + 1e7, centroids + 1e7
    if kind == "far apart":
        x[3], centroids[5, 7] = 1e3, -1e3
    if kind == "small":
        x, centroids = 1e-12 * x, 1e-12 * centroids
    if kind == "rows next to nothing":
        x = 1e-30 * x
    if kind == "large":
        x, centroids = 1e15 * x, 1e15 * centroids
    if kind == "bytes":
        x = torch.randint(256, x.shape, generator=generator).float() / 255
        centroids = x[:40] + 0.1
    if kind == "zeros":
        x, centroids = 0 * x, 0 * centroids
    return x.to(dtype), centroids.to(dtype)


KINDS = [
    "normal",
    "far off",
    "farther off",
    "far apart",
    "small",
    "rows next to nothing",
    "large",
    "bytes",
    "zeros",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_lie_above_scores_and_no_further_than_they_say(kind, dtype, generator):
    x, centroids = rows_and_centroids(kind, generator, dtype)
    bias = centroids.double().square().sum(1).to(dtype) / -2
    bounded, grid = BoundedCentroids(centroids, bias, bias.new_zeros(())), grid_over(x)
    keys, product = bounded.keys(grid), multiplied(bounded, x, grid)
    norms = torch.linalg.vector_norm(x, dim=1).float()
    short = keys.scores(product.clone()).double()  # of a share of the norms
    keys.mark(product)
    true = x.double() @ centroids.double().T + bias.double()
    bounds, every = keys.bounds, torch.arange(40)
    for label in (0, 7, 39):
        at = torch.full((len(x),), label)
        assert torch.equal(keys.labels(product[:, label]), at.int())
        upper = keys.uppers(product[:, label], norms)
        assert (bounds.above(upper).double() >= true[:, label]).all()
        lower = 2 * upper - bounds.above(upper) - bounds.loose(at, norms)
        assert (lower.double() <= true[:, label]).all()
        assert torch.allclose(short[:, label] + norms * keys._per_length, upper.double())
    if kind in ("normal", "bytes"):
        loose = bounds.loose(every, norms[:1].expand(40))
        assert loose.max() < 0.2 * (true.amax(1) - true.amin(1)).median()


def worst_rows(generator):
    """Rows that lie half a step off the grid, all to one side."""
    x = torch.randint(0, 255, (50, 70), generator=generator) + 0.499
    x[0, 0], x[0, 1] = 0, 255
    return x, torch.full((2, 70), 127.0)


def worst_centroids(generator):
    """Centroids that are nearly half a grain off, all the way along the rows."""
    centroids = torch.full((2, 70), 50.499)
    centroids[:, 0] = 127
    x = torch.full((50, 70), 255.0)
    x[0, 0] = 0
    return x, centroids


@pytest.mark.parametrize("worst", [worst_rows, worst_centroids])
def test_bounds_hold_where_all_that_is_lost_adds_up(worst, generator):
    x, centroids = worst(generator)
    bounded, grid = BoundedCentroids(centroids, torch.zeros(2), torch.zeros(())), grid_over(x)
    keys, product = bounded.keys(grid), multiplied(bounded, x, grid)
    keys.mark(product)
    norms = torch.linalg.vector_norm(x, dim=1)
    upper = keys.bounds.above(keys.uppers(product[:, 1], norms))
    true = x.double() @ centroids[1].double()
    assert (upper.double() >= true).all()
    assert (upper.double() - true < 0.05 * true)[1:].all()


def test_the_highest_key_is_that_of_the_highest_bound(generator):
    x, centroids = rows_and_centroids("normal", generator)
    bounded, grid = BoundedCentroids(centroids, 0 * centroids[:, 0], torch.zeros(())), grid_over(x)
    keys, product = bounded.keys(grid), multiplied(bounded, x, grid)
    bounds = keys.scores(product.clone())
    keys.mark(product)
    best = product.amax(1)
    assert (bounds.amax(1) == bounds.gather(1, keys.labels(best).long().unsqueeze(1))[:, 0]).all()
    norms = torch.linalg.vector_norm(x, dim=1)
    least = keys.least(keys.uppers(best, norms) - 1e-4, norms)
    assert (least <= best).all()
    assert ((keys.uppers(best, norms) - keys.uppers(least, norms)) < 0.1).all()


@pytest.mark.parametrize("k", [2, 300, 5000])
@pytest.mark.parametrize("d", [8, 3000])
def test_the_largest_products_have_room_beside_their_label(k, d):
    x = torch.tensor([[1.0], [-1.0]]).expand(2, d).contiguous()
    centroids = torch.linspace(-1, 1, k).unsqueeze(1).expand(k, d).contiguous()
    grid = grid_over(x)
    for rounded in (
        RoundedCentroids(centroids, 0 * centroids[:, 0]),
        BoundedCentroids(centroids, 0 * centroids[:, 0], torch.zeros(())),
    ):
        marks, product = rounded.marks(grid), multiplied(rounded, x, grid)
        true = product.double() * grid.step * rounded._grain + grid.zero * centroids.sum(1)
        marks.write(product)
        scores = (product >> marks.bits).double() * marks.unit
        reach = true.abs().max()
        assert (scores - true).abs().max() < 0.02 * reach + 3 * marks.unit
        assert marks.unit < 0.01 * reach


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_no_further_from_their_numbers_than_half_a_step(kind, generator):
    x, _ = rows_and_centroids(kind, generator)
    grid = grid_over(x)
    numbers = RoundedRows(len(x), 70).round(x, grid)
    again = grid.zero + grid.step * numbers.double()
    assert (again - x.double()).abs().max() <= grid.step * (0.5 + grid.lost)
    assert grid.lost < 0.1


def test_a_grid_stays_as_long_as_it_reaches():
    grid = Grid.over(-1.0, 2.0)
    assert grid.reaching(-0.9, 1.9) is grid
    for low, high in ((-3.0, 0.0), (0.0, 4.0)):
        wider = grid.reaching(low, high)
        assert wider.step > grid.step
        assert wider.reaching(min(low, -1.0), max(high, 2.0)) is wider


def test_bytes_lie_on_the_grid_themselves(generator):
    x = torch.randint(256, (50, 30), generator=generator).float()
    x[0, :2] = torch.tensor([0.0, 255.0])
    numbers = RoundedRows(50, 30).round(x, grid_over(x))
    assert torch.equal(numbers.float() + 128, x)


def test_the_error_is_about_what_scores_are_off_by(generator):
    x, centroids = rows_and_centroids("normal", generator)
    rounded, grid = RoundedCentroids(centroids, 0 * centroids[:, 0]), grid_over(x)
    marks, product = rounded.marks(grid), multiplied(rounded, x, grid)
    marks.write(product)
    scores = (product >> marks.bits).double() * marks.unit
    off = scores - x.double() @ centroids.double().T
    said = rounded.error(grid, 70.0, 70.0)
    assert 0.5 * said < (off - off.mean(1, keepdim=True)).std() < 2 * said


def test_the_middle_is_near_the_mean_and_reaches_no_further_than_half_way(generator):
    centroids = torch.rand(50, 20, generator=generator)
    centroids[:, 4] = 0
    centroids[7, 4] = 1
    middle = int8.middle(centroids)
    reach = (centroids.amax(0) - centroids.amin(0)).max() / 2
    assert (centroids - middle).abs().max() <= reach * (1 + 1e-6)
    assert abs(middle[4] - 0.5) < 0.02  # its mean is 0.02
    others = torch.arange(20) != 4
    torch.testing.assert_close(middle[others], centroids.mean(0)[others], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("has", "pays", "in_loops"),
    [({"vnni"}, True, True), ({"vnni", "amx_tile"}, False, True), (set(), False, False)],
)
def test_it_pays_where_instructions_are_and_tiles_are_not(has, pays, in_loops, monkeypatch):
    monkeypatch.setattr(cpu, "has", lambda name: name in has)
    monkeypatch.setattr(int8, "is_fast", int8.is_fast.__wrapped__)
    monkeypatch.setattr(int8, "pays", int8.pays.__wrapped__)
    assert int8.pays_for(torch.empty(1, 64), 128) == pays
    assert int8.pays_in_loops_for(torch.empty(1, 64), 128, 48) == in_loops


@pytest.mark.parametrize(
    ("d", "k", "pays", "in_loops"),
    [
        (64, 128, True, True),
        (64, 127, False, False),  # too few numbers
        (200, 127, False, True),
        (200, 48, False, True),
        (200, 47, False, False),
        (2**17, 200, False, False),
    ],
)
def test_few_numbers_and_too_wide_rows_do_not_pay(d, k, pays, in_loops, monkeypatch):
    monkeypatch.setattr(int8, "is_fast", lambda: True)
    monkeypatch.setattr(int8, "pays", lambda: True)
    assert int8.pays_for(torch.empty(1, d), k) == pays
    assert int8.pays_in_loops_for(torch.empty(1, d), k, 48) == in_loops


def test_torch_without_such_products_does_without(monkeypatch):
    monkeypatch.delattr(torch, "_int_mm")
    assert not int8.adds_in_int32.__wrapped__()


def test_an_unknown_torch_has_no_instructions(monkeypatch):
    assert not cpu.has("instructions of another time")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not cpu.has("avx2")
