"""Loops over rows in eight bits: bounds hold, and what is told apart is told rightly."""

import numpy as np
import pytest
import torch
from proving import need_eight_bits

pytest.importorskip("numba")

from torchkm.kernels import int8
from torchkm.kernels.compiled import eight_bits
from torchkm.kernels.compiled.look import InInt8Loops
from torchkm.kernels.looks import Centred
from torchkm.kernels.rivals import Found

ROWS = {
    "about zero": lambda x: x,
    "above zero": lambda x: x.abs(),
    "far off": lambda x: x + 1000,
    "mostly zero": lambda x: x * (x.abs() > 1.5),
    "one number far off": lambda x: torch.cat([x[:, 1:], x[:, :1] * 1e4], dim=1),
    "tiny": lambda x: x * 1e-25,
    "large": lambda x: x * 1e15,
    "of all sizes": lambda x: x * 10 ** torch.linspace(-6, 6, len(x), dtype=x.dtype).unsqueeze(1),
    "all alike": lambda x: x[:, :1].expand_as(x).contiguous(),
}


def rounded(x):
    single = x.float()
    numbers, grids = np.empty(x.shape, np.int8), np.empty((len(x), 3), np.float32)
    bits = single.view(torch.int32).numpy()
    eight_bits.round_rows(single.numpy(), bits, numbers, grids)
    return numbers, grids


def settle(x, centroids):
    """Return labels, leads, and how many scores were multiplied out."""
    need_eight_bits()
    product, found, start = InInt8Loops(centroids, len(x)), Found.room(len(x), centroids.dtype), 0
    while start < len(x):
        part = slice(start, start + product.size)
        product.score(x[part], found.part(part))
        start = part.stop
    return found.labels, found.leads, product.n_scored


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_at_most_half_a_step_off_their_grid(rows, dtype, generator):
    x = ROWS[rows](torch.randn(200, 70, generator=generator, dtype=dtype))
    numbers, grids = rounded(x)
    step, zero, norm = grids.astype(np.float64).T
    again = zero[:, None] + step[:, None] * numbers
    lost = 2.0**-22 * (np.abs(zero) + 256 * step)
    assert (np.abs(again - x.double().numpy()) <= (0.5 * step + lost)[:, None]).all()
    if rows not in ("tiny", "far off"):
        assert np.unique(numbers[0]).size > 5 or rows in ("one number far off", "all alike")
    np.testing.assert_allclose(norm, x.double().norm(dim=1), rtol=1e-5, atol=1e-22)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_hold(rows, dtype, generator):
    x = ROWS[rows](torch.randn(120, 70, generator=generator, dtype=dtype))
    given = x[torch.randperm(120, generator=generator)[:40]].clone()
    centred = Centred.about(int8.middle(given), given)
    centroids = int8.BoundedCentroids(centred.centroids, centred.bias, centred.rounding()[1])
    numbers, grids = rounded(x)
    product = numbers.astype(np.int32) @ centroids._right.numpy().astype(np.int32)
    exact = x.double() @ centred.centroids.double().T + centred.bias.double()
    lower, upper = np.empty((2, 40), np.float32)
    width = 0.0
    for row, grid, scores in zip(product, grids, exact.numpy(), strict=True):
        eight_bits._bound(row, grid, centroids.as_arrays(), lower, upper)
        assert (lower <= scores).all()
        assert (scores <= upper).all()
        width = max(width, np.median(upper.astype(np.float64) - lower))
    spread = exact.std().item()
    assert width < 20 * spread or rows in ("far off", "of all sizes", "tiny", "all alike")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_rivals_are_told_apart(n_threads, dtype, generator):
    torch.set_num_threads(n_threads)
    centroids = torch.randn(50, 90, generator=generator, dtype=dtype)
    x = centroids[torch.randint(50, (700,), generator=generator)]
    x = x + 4 * torch.randn(700, 90, generator=generator, dtype=dtype)
    found, leads, n_scored = settle(x, centroids)
    assert (leads > 0).all()
    assert torch.equal(found, torch.cdist(x.double(), centroids.double()).argmin(1))
    assert 0 < n_scored < 700 * 10


def test_rows_that_no_bound_holds_for_are_in_doubt(generator):
    centroids = torch.randn(20, 90, generator=generator)
    x = centroids.repeat(10, 1)
    x[3, 4], x[8, 80], x[50] = torch.nan, torch.inf, 1e30
    found, leads, _ = settle(x, centroids)
    assert (leads[[3, 8, 50]] <= 0).all()
    sure = torch.ones(200, dtype=torch.bool)
    sure[[3, 8, 50]] = False
    assert (leads[sure] > 0).all()
    assert torch.equal(found[sure], torch.arange(20).repeat(10)[sure])


def test_ties_are_in_doubt_and_what_float32_cannot_tell_is_told(generator):
    centroids = torch.randn(20, 90, generator=generator)
    twice = torch.cat([centroids, centroids])
    _, leads, _ = settle(centroids.repeat(4, 1), twice)
    assert (leads <= 0).all()
    # Centroids that lie together, and rows on them: products of float32 cannot tell them apart.
    close = centroids[:1] + 1e-5 * torch.randn(8, 90, generator=generator)
    found, leads, _ = settle(close, torch.cat([centroids[1:], close]))
    assert torch.equal(found, torch.arange(19, 27))
    assert (leads > 0).all()


def test_a_sample_comes_first_and_bounds_that_tell_little_do_not_pay(generator):
    need_eight_bits()
    x = torch.randn(500, 90, generator=generator)
    x[:, 0] = 0
    blurred = x.clone()
    blurred[:, 0] = 1e4  # a grid that reaches so far is too coarse for the other numbers
    product, found = InInt8Loops(x[:100], 500), Found.room(500, torch.float32)
    assert product.size == 64
    assert not product.score(blurred[:64], found.part(slice(0, 64)))
    product = InInt8Loops(x[:100], 500)
    assert product.score(x[:64], found.part(slice(0, 64)))
    assert product.size == 500


def test_bounds_hold_where_all_numbers_are_rounded_one_way():
    x = torch.full((1, 70), 100.49)
    x[0, 0], x[0, 1] = 0, 255  # a step of one
    given = torch.stack([torch.ones(70), -torch.ones(70)])
    centred = Centred.about(int8.middle(given), given)
    centroids = int8.BoundedCentroids(centred.centroids, centred.bias, centred.rounding()[1])
    numbers, grids = rounded(x)
    product = numbers.astype(np.int32) @ centroids._right.numpy().astype(np.int32)
    lower, upper = np.empty((2, 2), np.float32)
    eight_bits._bound(product[0], grids[0], centroids.as_arrays(), lower, upper)
    exact = (x @ given.T - given.square().sum(1) / 2)[0].numpy()
    assert (lower <= exact).all()
    assert (exact <= upper).all()
