"""Labels from scores in the dtype of the rows: what rounding leaves is told apart."""

import pytest
import torch
from proving import nearest_in_float64

pytest.importorskip("numba")

from torchkm.kernels.compiled.look import FewLoops
from torchkm.kernels.rivals import Found


def settle(x, centroids):
    product, found = FewLoops(centroids), Found.room(len(x), centroids.dtype)
    for start in range(0, len(x), product.size):
        part = slice(start, start + product.size)
        assert product.score(x[part], found.part(part))
    return found.labels, found.leads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_labels_are_those_of_the_nearest(n_threads, dtype, offset, generator):
    torch.set_num_threads(n_threads)
    x = (torch.randn(900, 150, generator=generator, dtype=torch.float64) + offset).to(dtype)
    found, leads = settle(x, x[:20])
    assert torch.equal(found, nearest_in_float64(x, x[:20]))
    assert (leads > 0).all()


def test_what_scores_cannot_tell_is_told_by_distances(generator):
    close = 100 + torch.randn(1, 150, generator=generator)
    close = close + 2e-5 * torch.randn(8, 150, generator=generator)
    found, leads = settle(close, close)
    assert torch.equal(found, torch.arange(8))
    assert (leads > 0).all()
    _, leads = settle(close, close[:4].repeat(2, 1))  # and ties by nothing
    assert (leads[:4] <= 0).all()


def test_leads_that_rounding_may_have_made_prove_nothing(generator):
    """Rows a long way out between two centroids: numbers add up to nearly nothing."""
    apart = torch.randn(150, generator=generator, dtype=torch.float64)
    x = 1e4 * torch.randn(900, 150, generator=generator, dtype=torch.float64)
    x -= (x @ apart / (apart @ apart)).unsqueeze(1) * apart
    x, centroids = x.float(), torch.stack([apart, -apart]).float()
    found, leads = settle(x, centroids)
    nearest = nearest_in_float64(x, centroids)
    assert torch.equal(found[leads > 0], nearest[leads > 0])
    assert not torch.equal((x @ centroids.T).argmax(1), nearest)  # or nothing is tried here


def test_rows_that_no_bound_holds_for_are_in_doubt(generator):
    centroids = torch.randn(20, 150, generator=generator)
    x = centroids.repeat(10, 1)
    bad = torch.tensor([3, 8, 50, 90])
    x[3, 4], x[8, 140], x[50], x[90, 0] = torch.nan, torch.inf, 1e30, -torch.inf
    found, leads = settle(x, centroids)
    assert torch.equal(torch.nonzero(~(leads > 0)).squeeze(1), bad)
    sure = torch.ones(200, dtype=torch.bool).index_fill_(0, bad, False)
    assert torch.equal(found[sure], torch.arange(20).repeat(10)[sure])


def test_rows_in_another_order_in_memory_and_a_single_centroid(generator):
    x = torch.randn(300, 150, generator=generator)
    turned = x.T.contiguous().T
    assert torch.equal(settle(turned, x[:7])[0], nearest_in_float64(x, x[:7]))
    x[7, 3] = torch.nan
    found, leads = settle(x, x[:1])
    assert not found.any()
    assert torch.equal(torch.nonzero(~(leads > 0)).squeeze(1), torch.tensor([7]))


@pytest.mark.parametrize("d", [16, 127, 128, 129, 260, 784])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_need_not_fill_registers(d, dtype, generator):
    x = torch.randn(300, d, generator=generator, dtype=dtype)
    found, leads = settle(x, x[:9])
    assert torch.equal(found, nearest_in_float64(x, x[:9]))
    assert (leads > 0).all()


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 129])
@pytest.mark.parametrize("k", [2, 4, 5, 6, 11])
def test_rows_and_centroids_need_not_fill_a_tile(n, k, generator):
    x = torch.randn(n + k, 150, generator=generator)
    assert torch.equal(settle(x[k:], x[:k])[0], nearest_in_float64(x[k:], x[:k]))
