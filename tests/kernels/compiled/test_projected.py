"""Labels from a look along directions: those of the nearest, or in doubt."""

import pytest
import torch
from proving import nearest_in_float64

pytest.importorskip("numba")

from torchkm.kernels.compiled.look import ProjectedLoops
from torchkm.kernels.looks import fill
from torchkm.kernels.rivals import Found


def settle(x, centroids):
    product, found = ProjectedLoops.about(centroids), Found.room(len(x), centroids.dtype)
    n_found = fill(found, 0, x, product)
    return n_found, found.labels, found.leads, product


def along_few(n, k, generator, d=150, beyond=0.1):
    """Return rows and centroids that mostly lie along ten directions, and ``beyond`` a little."""
    directions = torch.randn(10, d, generator=generator, dtype=torch.float64)
    x, centroids = (
        torch.randn(m, 10, generator=generator, dtype=torch.float64) @ directions
        + beyond * torch.randn(m, d, generator=generator, dtype=torch.float64)
        for m in (n, k)
    )
    return x, centroids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("beyond", [0.0, 0.1, 0.5])
def test_labels_are_those_of_the_nearest(beyond, offset, n_threads, dtype, generator):
    torch.set_num_threads(n_threads)
    x, centroids = along_few(900, 150, generator, beyond=beyond)
    x, centroids = (x + offset).to(dtype), (centroids + offset).to(dtype)
    n_found, labels, leads, _ = settle(x, centroids)
    assert n_found == len(x)
    assert torch.equal(labels, nearest_in_float64(x, centroids))
    assert (leads > 0).all()


def test_what_lies_beyond_the_directions_decides_where_nothing_else_does(generator):
    """Pairs of centroids that are alike along all that is looked along."""
    _, centroids = along_few(1, 40, generator, beyond=0.0)
    apart = torch.zeros(80, 150, dtype=torch.float64)
    apart[:, 149] = torch.tensor([0.02, -0.02]).repeat(40)
    centroids = (centroids.repeat_interleave(2, 0) + apart).float()
    x = centroids.repeat(5, 1) + 1e-3 * torch.randn(400, 150, generator=generator)
    n_found, labels, leads, product = settle(x, centroids)
    assert n_found == 400
    assert torch.equal(labels, torch.arange(80).repeat(5))
    assert (leads > 0).all()
    assert product.n_scored >= 800


def test_leads_that_rounding_may_have_made_prove_nothing(generator):
    """Rows a long way out between two centroids: numbers add up to nearly nothing."""
    apart = torch.randn(150, generator=generator, dtype=torch.float64)
    x = 1e4 * torch.randn(900, 150, generator=generator, dtype=torch.float64)
    x -= (x @ apart / (apart @ apart)).unsqueeze(1) * apart
    x, centroids = x.float(), torch.stack([apart, -apart]).float().repeat(20, 1)
    centroids[2:] *= 1e-3  # are none of the two
    product, found = ProjectedLoops.about(centroids), Found.room(len(x), x.dtype)
    product.score(x, found)
    nearest = nearest_in_float64(x, centroids)
    sure = found.leads > 0
    assert torch.equal(found.labels[sure], nearest[sure])


def test_rows_that_no_bound_holds_for_and_ties_are_in_doubt(generator):
    x, centroids = along_few(640, 100, generator)
    x, centroids = x.float(), centroids.float()
    truth = nearest_in_float64(x, centroids)
    bad = torch.tensor([3, 90, 300, 420])
    x[3, 4], x[90, 140], x[300], x[420, 0] = torch.nan, torch.inf, 1e30, -torch.inf
    centroids = torch.cat([centroids, centroids[7:8]])
    n_found, labels, leads, _ = settle(x, centroids)
    assert n_found == 640
    tied = torch.nonzero(truth == 7).squeeze(1)
    doubtful = torch.nonzero(~(leads > 0)).squeeze(1)
    assert set(doubtful.tolist()) == {*bad.tolist(), *tied.tolist()}
    assert len(tied)
    sure = leads > 0
    assert torch.equal(labels[sure], truth[sure])


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 129])
@pytest.mark.parametrize("k", [2, 4, 31, 65])
def test_rows_and_centroids_need_not_fill_a_run(n, k, generator):
    x, centroids = (t.float() for t in along_few(n, k, generator))
    n_found, labels, _, _ = settle(x, centroids)
    if n_found == n:  # of few centroids any rival is one of many
        assert torch.equal(labels, nearest_in_float64(x, centroids))
    assert n_found == n or k < 31


def test_centroids_in_all_directions_and_many_rivals_are_left_to_others(generator):
    x = torch.randn(500, 400, generator=generator)
    n_found, _, _, product = settle(x, x[:200])
    assert (n_found, product.n_scored) == (0, 0)
    _, centroids = along_few(1, 200, generator, d=400)  # rows are far from all of them
    n_found, _, _, product = settle(100 * x, centroids.float())
    assert n_found == 0
    assert product.n_scored > 64 * 200 / 16  # of the first few rows


def test_rows_in_another_order_in_memory_and_of_another_dtype(generator):
    x, centroids = along_few(300, 60, generator)
    turned = x.float().T.contiguous().T
    assert torch.equal(settle(turned, centroids.float())[1], nearest_in_float64(turned, centroids))
    assert torch.equal(settle(x.float(), centroids)[1], nearest_in_float64(x.float(), centroids))
