"""Scores bounded along a few directions: what is proven is right, and bounds are bounds."""

import pytest
import torch

from torchkm.kernels import rivals, subspace
from torchkm.kernels.rivals import Found, among
from torchkm.kernels.subspace import Aim, Subspace

EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


def flat_rows(n, d, rank, generator, noise=0.05):
    """Rows that hardly leave a subspace of ``rank`` directions."""
    along = torch.randn(rank, d, generator=generator)
    rows = torch.randn(n, rank, generator=generator) @ along
    return rows + noise * torch.randn(n, d, generator=generator)


def looked_at(x, centroids, m, first=None):
    """Return the aim, what it found of rows ``x``, and their true scores in float64."""
    seen = Subspace(centroids, m, first)
    bias = torch.linalg.vector_norm(centroids, dim=1).square() / -2
    digit = 2 * (x.shape[1] + 4) * EPS[x.dtype]
    norms = torch.linalg.vector_norm(centroids, dim=1)
    rounding = digit * norms.max(), digit * bias.abs().max()
    aim = Aim(seen, centroids, bias, rounding, centroids)
    found = Found.room(len(x), x.dtype)
    torch.linalg.vector_norm(x, dim=1, out=found.norms)
    left = torch.empty(len(x), seen.width)
    seen.project(x, found.norms, left)
    aim.look(left, among(x, x.dtype), found)
    true = x.double() @ centroids.double().T - centroids.double().square().sum(1) / 2
    return aim, found, true


def check(found, true):
    """Say how many are proven, having seen that bounds hold and proven labels are right."""
    own = true.gather(1, found.labels.unsqueeze(1)).squeeze(1)
    others = true.scatter(1, found.labels.unsqueeze(1), -torch.inf).amax(1)
    proven = found.leads > 0
    assert (own > others)[proven].all()
    assert (found.leads.double() <= own - others)[proven].all()
    assert (found.best.double() <= own)[proven].all()
    return proven.float().mean().item()


@pytest.fixture
def whatever_it_costs(monkeypatch):
    """Look along directions, and multiply pairs out, even where whole products cost less."""
    monkeypatch.setattr(rivals, "_SINGLY", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 4, 16, 40, 90])
@pytest.mark.parametrize("k", [2, 3, 64, 300])
def test_what_is_proven_is_right_and_bounded(k, m, dtype, whatever_it_costs, generator):
    x = flat_rows(2000, 60, 12, generator, noise=0.3).to(dtype)
    _, found, true = looked_at(x, x[:k].clone(), m)
    assert check(found, true) > 0.97


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1.0, 30.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_at_any_scale_and_with_much_beyond_the_directions(
    noise, scale, whatever_it_costs, generator
):
    x = flat_rows(1500, 80, 5, generator, noise) * scale
    _, found, true = looked_at(x, x[:90].clone(), 8)
    assert check(found, true) > 0.9


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_lie_above_scores_and_not_far(dtype, noise, generator):
    x = flat_rows(700, 80, 6, generator, noise).to(dtype)
    centroids = x[:50].clone()
    seen = Subspace(centroids, 6)
    bias = torch.zeros_like(centroids[:, 0])
    aim = Aim(seen, centroids, bias, (torch.tensor(0.0), torch.tensor(0.0)), centroids)
    left = torch.empty(len(x), seen.width)
    seen.project(x, torch.linalg.vector_norm(x, dim=1), left)
    uppers = aim._keys.bounds.above(left @ aim._right.T).double()
    norms, others = x.double().norm(dim=1, keepdim=True), centroids.double().norm(dim=1)
    true = x.double() @ centroids.double().T
    assert (uppers >= true).all()
    share = {0.0: 0.003, 1e-3: 0.01, 1.0: 0.5}[noise]
    assert (uppers - true <= share * norms * others).float().mean() > 0.99


def test_labels_in_the_last_bits_of_large_scores_prove_nothing(
    whatever_it_costs, monkeypatch, generator
):
    monkeypatch.setattr(rivals, "_APART", 0)
    x = flat_rows(3000, 4, 2, generator, noise=0.0) + 100
    _, found, true = looked_at(x, x[:400].clone(), 3)
    assert check(found, true) < 1


def test_what_is_left_of_a_row_is_never_less_than_it_is(generator):
    x = flat_rows(500, 70, 8, generator, noise=1e-3)
    seen = Subspace(x[:50], 8)
    left = torch.empty(len(x), seen.width)
    seen.project(x, torch.linalg.vector_norm(x, dim=1), left)
    basis = torch.linalg.qr(seen.basis.double())[0]
    beyond = x.double() - x.double() @ basis @ basis.T
    assert (left[:, -2].double() >= beyond.norm(dim=1)).all()
    assert (left[:, -2].double() < 0.02 * x.double().norm(dim=1)).all()
    assert (left[:, -1] == 1).all()


def test_directions_are_those_that_vectors_lie_along(generator):
    x = flat_rows(300, 90, 6, generator, noise=0.0)
    seen = Subspace(x, 6)
    torch.testing.assert_close(seen.basis.T @ seen.basis, torch.eye(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(x @ seen.basis @ seen.basis.T, x, atol=1e-3, rtol=1e-4)


def test_a_direction_that_is_asked_for_is_among_them(generator):
    x = flat_rows(300, 90, 6, generator)
    first = torch.randn(90, generator=generator) * 50
    basis = Subspace(x, 5, first).basis
    torch.testing.assert_close(basis @ (basis.T @ first), first, atol=1e-4, rtol=1e-5)


def test_the_same_vectors_give_the_same_directions_and_no_random_number_is_drawn(generator):
    x = flat_rows(100, 50, 6, generator)
    state = torch.get_rng_state()
    assert torch.equal(Subspace(x, 7).basis, Subspace(x, 7).basis)
    assert torch.equal(torch.get_rng_state(), state)


def test_vectors_of_zeros_have_directions_too():
    basis = Subspace(torch.zeros(9, 20), 4).basis
    assert basis.isfinite().all()


def test_rows_as_far_from_two_centroids_are_in_doubt(whatever_it_costs, generator):
    x = flat_rows(400, 50, 10, generator)
    twice = torch.cat([x[:30], x[:30]])
    _, found, _ = looked_at(x, twice, 12)
    assert not (found.leads > 0).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_rows_beyond_the_numbers_are_in_doubt(bad, whatever_it_costs, generator):
    x = flat_rows(200, 50, 10, generator)
    centroids = x[:40].clone()
    x[7, 3] = bad
    _, found, _ = looked_at(x, centroids, 12)
    assert not found.leads[7] > 0
    assert (found.leads > 0).sum() > 190
    assert ((found.labels >= 0) & (found.labels < 40)).all()


def test_too_many_pairs_are_left_in_doubt_and_looking_stops_to_pay(generator):
    x = torch.randn(500, 400, generator=generator)
    aim, found, _ = looked_at(x, x[:64] + torch.randn(64, 400, generator=generator), 4)
    assert not (found.leads > 0).any()
    assert not aim.pays


def test_looking_pays_where_directions_tell_centroids_apart(generator):
    x = flat_rows(500, 400, 10, generator)
    aim, found, true = looked_at(x, x[:64].clone(), 16)
    assert aim.pays
    assert check(found, true) > 0.97


def test_only_rows_in_doubt_are_fetched(generator):
    x = flat_rows(600, 100, 8, generator, noise=0.1)
    asked = []

    def fetch(at):
        asked.append(at)
        return x[at], torch.arange(len(at))

    centroids = x[:32].clone()
    seen = Subspace(centroids, 8)
    bias = centroids.square().sum(1) / -2
    aim = Aim(seen, centroids, bias, (torch.tensor(1e-4), torch.tensor(1e-4)), centroids)
    found = Found.room(len(x), x.dtype)
    found.norms.copy_(x.norm(dim=1))
    left = torch.empty(len(x), seen.width)
    seen.project(x, found.norms, left)
    aim.look(left, fetch, found)
    assert len(asked) == 1
    assert 0 < len(asked[0]) < 0.5 * len(x)
    assert torch.equal(found.labels, torch.cdist(x.double(), centroids.double()).argmin(1))


def test_worth_it_for_wide_rows_and_many_centroids():
    assert subspace.is_worth_it(256, 784, torch.float32, 2**19)
    assert subspace.is_worth_it(128, 784, torch.float64, 2**19)
    assert not subspace.is_worth_it(128, 784, torch.float32, 2**19)
    assert not subspace.is_worth_it(2048, 128, torch.float32, 2**19)
    assert not subspace.is_worth_it(1, 2**20, torch.float32, 2**19)
