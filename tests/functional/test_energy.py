"""What a clustering costs: by hand, in blocks and batches, and by its derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import torchkm
from torchkm.functional import (
    assign,
    cluster_means,
    free_energy,
    inertia,
    responsibilities,
    soft,
    soft_inertia,
)

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])
HEAT = torch.tensor(1.3, dtype=torch.float64)


def draw(generator, *batch, n=14, k=3, d=2):
    x = torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)
    weight = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.2
    return x, x[..., :k, :] + 0.1, weight


def cost_of(function, x, centroids, weight, metric="euclidean"):
    heat = () if function is inertia else (HEAT,)
    return function(x, centroids, *heat, weight, metric=metric)


@METRICS
def test_all_of_it_by_hand(metric, generator):
    x, centroids, weight = draw(generator, 4)
    shares = responsibilities(x, centroids, HEAT, metric=metric)
    rows, at = x, centroids
    if metric == "cosine":
        rows, at = (torch.nn.functional.normalize(t, dim=-1) for t in (x, centroids))
    apart = (rows.unsqueeze(-2) - at.unsqueeze(-3)).square().sum(-1)  # (*batch, n, k)
    soft_want = (weight * (shares * apart).sum(-1)).sum(-1)
    hard_want = (weight * apart.amin(-1)).sum(-1)
    torch.testing.assert_close(cost_of(soft_inertia, x, centroids, weight, metric), soft_want)
    torch.testing.assert_close(cost_of(inertia, x, centroids, weight, metric), hard_want)
    entropy = -torch.xlogy(shares, shares).sum(-1)
    less = (weight * entropy).sum(-1) * HEAT
    torch.testing.assert_close(cost_of(free_energy, x, centroids, weight, metric), soft_want - less)


@METRICS
@pytest.mark.parametrize("function", [inertia, soft_inertia])
def test_derivatives_of_two_orders(function, metric, generator):
    inputs = [t.requires_grad_() for t in draw(generator, n=8)]

    def cost(x, centroids, weight):
        return cost_of(function, x, centroids, weight, metric)

    assert gradcheck(cost, inputs)
    assert gradgradcheck(cost, inputs)


def test_a_temperature_has_a_gradient(generator):
    x, centroids, weight = draw(generator)
    heat = HEAT.clone().requires_grad_()
    assert gradcheck(lambda heat: soft_inertia(x, centroids, heat, weight), heat)


@pytest.mark.parametrize("function", [free_energy, inertia, soft_inertia])
def test_blocks_and_batches_change_nothing(function, generator, monkeypatch):
    inputs = [t.requires_grad_() for t in draw(generator, 3, n=40)]

    def cost_and_gradients():
        cost = cost_of(function, *inputs)
        return cost, *torch.autograd.grad(cost.sin().sum(), inputs)

    whole = cost_and_gradients()
    alone = [cost_of(function, *(t[i] for t in inputs)) for i in range(3)]
    torch.testing.assert_close(whole[0], torch.stack(alone))
    mapped = torch.func.vmap(lambda *given: cost_of(function, *given))(*inputs)
    torch.testing.assert_close(mapped, whole[0])
    monkeypatch.setattr(soft, "rows_of", lambda width, device: 14)
    for in_blocks, at_once in zip(cost_and_gradients(), whole, strict=True):
        torch.testing.assert_close(in_blocks, at_once)


def test_the_inertia_is_that_of_kmeans_and_its_gradient_the_envelope(blobs, generator):
    """Held constant, attached as means, or found anew from moved rows: one gradient."""
    result = torchkm.kmeans(blobs, 6, max_iter=300, generator=generator)
    assert inertia(blobs, result.centroids).item() == pytest.approx(result.inertia, rel=1e-9)
    found = assign(blobs, result.centroids)
    x = blobs.clone().requires_grad_()
    held = torch.autograd.grad(inertia(x, result.centroids), x)[0]
    means = cluster_means(x, found.labels, result.centroids)
    attached = torch.autograd.grad(inertia(x, means), x)[0]
    torch.testing.assert_close(held, attached, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(held, 2 * (blobs - result.centroids[found.labels]))
    along = torch.randn(blobs.shape, generator=generator, dtype=torch.float64)
    ends = [
        torchkm.kmeans(
            blobs + sign * 1e-5 * along, 6, init=result.centroids, solver="lloyd", max_iter=300
        ).inertia
        for sign in (1, -1)
    ]
    want = (ends[0] - ends[1]) / 2e-5
    assert (held * along).sum().item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("function", [inertia, soft_inertia])
def test_half_rows_and_autocast_are_computed_in_float32(function, generator):
    x, centroids, _ = (t.float() for t in draw(generator, n=30))
    x = 100 + x
    want = cost_of(function, x.half().double(), (centroids + 100).double(), None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cost_of(function, x.half(), centroids + 100, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), want, rtol=1e-3, atol=1e-3)
