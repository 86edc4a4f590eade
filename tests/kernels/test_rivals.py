"""From bounds of scores to labels: whatever the bounds, what is proven is right."""

import pytest
import torch

from torchkm.kernels import rivals
from torchkm.kernels.rivals import Bounds, Found, Rivals, among, in_doubt


def problem(n, k, generator, dtype=torch.float32):
    """Rows, centroids, the bias of these, and true scores in float64."""
    x = torch.randn(n, 30, generator=generator).to(dtype)
    centroids = torch.randn(k, 30, generator=generator).to(dtype)
    bias = centroids.square().sum(1) / -2
    return x, centroids, bias, x.double() @ centroids.double().T + bias.double()


def settled(x, centroids, bias, uppers, looseness, per_size=0.0):
    """Return what rivals make of bounds that lie above scores by no more than ``looseness``."""
    bounds = Bounds(torch.full_like(bias, looseness).float(), torch.tensor(1e-4), per_size)
    digit = torch.finfo(x.dtype).eps * 100
    compared = Rivals(centroids, bias, bounds, (torch.tensor(digit), torch.tensor(digit)))
    found, fetched = Found.room(len(x), x.dtype), []
    torch.linalg.vector_norm(x, dim=1, out=found.norms)

    def fetch(at):
        fetched.append(at)
        return among(x, x.dtype)(at)

    compared.settle(uppers.float(), torch.ones(len(x)), fetch, found)
    return compared, found, torch.cat(fetched) if fetched else torch.empty(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("looseness", [1e-3, 1.0, 8.0, 60.0])
@pytest.mark.parametrize("k", [9, 40, 700])
def test_what_is_proven_is_right(k, looseness, dtype, monkeypatch, generator):
    monkeypatch.setattr(rivals, "_SINGLY", 0)
    x, centroids, bias, true = problem(2000, k, generator, dtype)
    uppers = true + looseness * torch.rand(true.shape, generator=generator)
    _, found, _ = settled(x, centroids, bias, uppers, looseness)
    proven = found.leads > 0
    assert proven.float().mean() > 0.99
    assert torch.equal(found.labels[proven], true.argmax(1)[proven])
    best, second = true.topk(2, dim=1).values.unbind(1)
    assert (found.best.double() <= best + 1e-4)[proven].all()
    assert (found.leads.double() <= best - second + 1e-3)[proven].all()


def test_tight_bounds_need_no_row(generator):
    x, centroids, bias, true = problem(500, 40, generator)
    best, second = true.topk(2, dim=1).values.unbind(1)
    apart = best - second > 0.1
    _, found, fetched = settled(x, centroids, bias, true, 0.01)
    assert not set(fetched.tolist()) & set(torch.nonzero(apart).squeeze(1).tolist())
    assert torch.equal(found.labels[apart], true.argmax(1)[apart])


def test_a_guess_that_others_cannot_reach_is_all_that_is_multiplied(generator):
    x, centroids, bias, true = problem(500, 40, generator)
    best = true.argmax(1, keepdim=True)
    uppers = (true - 20).scatter(1, best, true.amax(1, keepdim=True))
    compared, found, fetched = settled(x, centroids, bias, uppers, 100.0)
    assert len(fetched) == 500  # as far as bounds tell the guess may be far below them
    assert compared._n_pairs == 500
    assert not len(in_doubt(found.leads))
    assert torch.equal(found.labels, best.squeeze(1))


def test_more_rivals_than_pay_stay_in_doubt(generator):
    x, centroids, bias, true = problem(400, 40, generator)
    compared, found, _ = settled(x, centroids, bias, true * 0 + true.max(), 1e3)
    assert len(in_doubt(found.leads)) == 400
    assert not compared.are_few


def test_with_few_centroids_no_pair_pays(generator):
    x, centroids, bias, true = problem(400, 8, generator)
    _, found, fetched = settled(x, centroids, bias, true * 0, 1e3)
    assert not len(fetched)
    assert len(in_doubt(found.leads)) == 400


def test_bounds_that_are_off_by_a_share_of_their_size(monkeypatch, generator):
    monkeypatch.setattr(rivals, "_SINGLY", 0)
    x, centroids, bias, true = problem(3000, 60, generator)
    off = 1 + 0.02 * (2 * torch.rand(true.shape, generator=generator) - 1)
    _, found, _ = settled(x, centroids, bias, true * off, 0.0, per_size=0.03)
    proven = found.leads > 0
    assert proven.float().mean() > 0.99
    assert torch.equal(found.labels[proven], true.argmax(1)[proven])


def test_equals_and_what_is_not_a_number_stay_in_doubt(monkeypatch, generator):
    monkeypatch.setattr(rivals, "_SINGLY", 0)
    x, centroids, _, _ = problem(300, 30, generator)
    centroids = torch.cat([centroids, centroids])
    bias = centroids.square().sum(1) / -2
    true = x.double() @ centroids.double().T + bias.double()
    _, found, _ = settled(x, centroids, bias, true, 0.01)
    assert len(in_doubt(found.leads)) == 300
    _, found, _ = settled(x, centroids, bias, true * torch.nan, 0.01)
    assert len(in_doubt(found.leads)) == 300
    assert ((found.labels >= 0) & (found.labels < 60)).all()


def test_rows_of_another_dtype_are_converted_as_they_are_fetched(generator):
    rows = torch.randint(256, (50, 4), generator=generator).to(torch.uint8)
    fetched, at = among(rows, torch.float32)(torch.tensor([3, 40]))
    assert torch.equal(fetched[at], rows[[3, 40]].float())
    assert len(fetched) == 2
