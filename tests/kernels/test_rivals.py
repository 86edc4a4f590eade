"""From bounds of scores to labels: whatever the bounds, what is proven is right."""

import pytest
import torch

from torchkm.kernels import rivals
from torchkm.kernels.keys import Bounds, FloatKeys, IntegerKeys, IntegerMarks
from torchkm.kernels.rivals import Found, Rivals, among, in_doubt


def problem(n, k, generator, dtype=torch.float32):
    """Rows, centroids, the bias of these, and true scores in float64."""
    x = torch.randn(n, 30, generator=generator).to(dtype)
    centroids = torch.randn(k, 30, generator=generator).to(dtype)
    bias = centroids.square().sum(1) / -2
    return x, centroids, bias, x.double() @ centroids.double().T + bias.double()


def floats(k, looseness, per_size=0.0):
    """Keys of bounds that lie above scores by no more than ``looseness``, and a share of them."""
    looseness = torch.full((k,), looseness)
    return FloatKeys(Bounds(looseness, torch.tensor(1e-4), per_size, torch.zeros(k)))


def rivals_of(centroids, bias, guess_first=True):
    digit = torch.tensor(torch.finfo(centroids.dtype).eps * 100)
    return Rivals(centroids, bias, (digit, digit), centroids, guess_first)


def settled(x, centroids, bias, uppers, looseness, per_size=0.0, guess_first=True):
    """Return what rivals make of bounds that lie above scores by no more than ``looseness``."""
    compared = rivals_of(centroids, bias, guess_first)
    found, fetched = Found.room(len(x), x.dtype), []
    torch.linalg.vector_norm(x, dim=1, out=found.norms)

    def fetch(at):
        fetched.append(at)
        return among(x, x.dtype)(at)

    keys = floats(len(bias), looseness, per_size)
    compared.settle(uppers.float(), keys, torch.ones(len(x)), fetch, found)
    return compared, found, torch.cat(fetched) if fetched else torch.empty(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("looseness", [1e-3, 1.0, 8.0, 60.0])
@pytest.mark.parametrize("k", [9, 40, 700])
@pytest.mark.parametrize("guess_first", [True, False])
def test_what_is_proven_is_right(guess_first, k, looseness, dtype, monkeypatch, generator):
    monkeypatch.setattr(rivals, "_SINGLY", 0)
    x, centroids, bias, true = problem(2000, k, generator, dtype)
    uppers = true + looseness * torch.rand(true.shape, generator=generator)
    _, found, _ = settled(x, centroids, bias, uppers, looseness, guess_first=guess_first)
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


def test_without_a_guess_first_only_rivals_are_multiplied(generator):
    x, centroids, bias, true = problem(500, 40, generator)
    best = true.amax(1)
    uppers = true + 1.0
    compared, found, fetched = settled(x, centroids, bias, uppers, 1.0, guess_first=False)
    close = true >= (best - 1).unsqueeze(1)  # what the lower bound of the guess does not exclude
    doubtful = close.sum(1) > 1
    assert abs(len(fetched) - doubtful.sum()) <= 2  # but for what lies at the border
    assert abs(compared._n_pairs - close[doubtful].sum()) <= 4
    assert not len(in_doubt(found.leads))
    assert torch.equal(found.labels, true.argmax(1))


def test_what_the_digits_leave_open_is_decided_by_differences(generator, monkeypatch):
    """Two centroids so near each other that float32 scores of far-off rows cannot tell them."""
    monkeypatch.setattr(rivals, "_SINGLY", 0)
    x, centroids, _, _ = problem(5000, 40, generator)
    centroids[1] = centroids[0] + 3e-5 * torch.randn(30, generator=generator)
    bias = centroids.double().square().sum(1).float() / -2
    true = -torch.cdist(x.double(), centroids.double()).square() / 2
    near = true.argmax(1) < 2
    uppers = x.double() @ centroids.double().T + bias
    _, found, _ = settled(x, centroids, bias, uppers, 1e-3)
    proven = found.leads > 0
    assert torch.equal(found.labels[proven], true.argmax(1)[proven])
    monkeypatch.setattr(rivals, "_APART", 30)
    _, left, _ = settled(x, centroids, bias, uppers, 1e-3)
    assert near.sum() > 20
    assert proven[near].sum() >= 4 + (left.leads > 0)[near].sum()


def test_few_rivals_are_told_before_they_are_looked_for(generator):
    _, centroids, bias, true = problem(3000, 200, generator)
    numbers, marks = (1000 * true).round().int(), torch.arange(200, dtype=torch.int32)
    before, compared = numbers.clone(), rivals_of(centroids, bias)

    def few(looseness):
        bounds = floats(200, looseness).bounds
        keys = IntegerKeys(IntegerMarks(marks, 0, 1e-3), torch.tensor(0.0), bounds)
        return compared.promise_few(numbers, keys, torch.ones(3000))

    assert few(0.01)
    assert not few(1e3)
    # Two rivals to a row are what 200 centroids are worth.
    best = true.topk(8, dim=1).values
    gaps = best[:, :1] - best
    assert few(gaps[:, 1].median().item())
    assert not few(gaps[:, 5].median().item())
    assert torch.equal(numbers, before)


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
