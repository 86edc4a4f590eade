"""Losses: what they reduce is what the functions return, and networks learn by them."""

import copy

import pytest
import torch
from torch.autograd import gradcheck

from torchkm.functional import free_energy, inertia, sinkhorn, soft_inertia
from torchkm.nn import (
    FreeEnergyLoss,
    HardKMeans,
    InertiaLoss,
    KMeansLoss,
    LearntTemperature,
    SoftKMeans,
    TransportLoss,
)

LOSSES = [InertiaLoss, lambda **options: KMeansLoss(1.3, **options)]
LOSSES += [lambda **options: FreeEnergyLoss(1.3, **options)]


def draw(generator, *batch, n=14, k=3, d=2):
    x = torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)
    weight = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.2
    return x, x[..., :k, :] + 0.1, weight


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_reductions_of_what_the_functions_return(metric, weighted, generator):
    x, centroids, weight = draw(generator, 2, 3)
    weight = weight if weighted else None
    each = [
        inertia(x, centroids, weight, metric=metric),
        soft_inertia(x, centroids, 1.3, weight, metric=metric),
        free_energy(x, centroids, 1.3, weight, metric=metric),
    ]
    total = weight.sum() if weighted else 6 * 14
    for build, want in zip(LOSSES, each, strict=True):
        of = {how: build(metric=metric, reduction=how) for how in ("none", "sum", "mean")}
        rows = of["none"](x, centroids, weight)
        assert rows.shape == (2, 3, 14)
        torch.testing.assert_close(rows.sum(-1), want)
        torch.testing.assert_close(of["sum"](x, centroids, weight), want.sum())
        torch.testing.assert_close(of["mean"](x, centroids, weight), want.sum() / total)


@pytest.mark.parametrize("build", [*LOSSES, lambda: TransportLoss(0.5, max_iter=2000, tol=1e-12)])
def test_gradients_reach_rows_and_centroids(build, generator):
    x, centroids, weight = (t.requires_grad_() for t in draw(generator, n=7))
    loss = build()
    assert gradcheck(lambda x, centroids: loss(x, centroids, weight.detach()), (x, centroids))


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (HardKMeans(3), InertiaLoss()),
        (SoftKMeans(3, temperature=1.0, max_iter=2000, tol=1e-13), FreeEnergyLoss(1.0)),
    ],
)
def test_centroids_that_minimise_a_loss_need_no_gradient(layer, loss, generator):
    x, start, weight = draw(generator, n=40)
    x.requires_grad_()
    centroids = layer(x, start, weight).centroids
    attached = torch.autograd.grad(loss(x, centroids, weight), x)[0]
    held = torch.autograd.grad(loss(x, centroids.detach(), weight), x)[0]
    torch.testing.assert_close(attached, held, rtol=1e-6, atol=1e-9)


def test_centroids_do_not_minimise_the_soft_inertia(generator):
    x, start, _ = draw(generator, n=15)
    layer = SoftKMeans(3, temperature=1.0, max_iter=2000, tol=1e-12)
    loss = KMeansLoss(1.0)

    def of(x):
        return loss(x, layer(x, start).centroids)

    assert gradcheck(of, x.requires_grad_(), rtol=1e-4)
    centroids = layer(x, start).centroids
    attached = torch.autograd.grad(of(x), x)[0]
    held = torch.autograd.grad(loss(x, centroids.detach()), x)[0]
    assert (attached - held).norm() > 1e-2 * attached.norm()


def test_transport_is_of_masses_that_sum_to_one(generator):
    x, centroids, weight = draw(generator, 3)
    mass = torch.tensor([0.5, 0.3, 0.2]).double()
    loss = TransportLoss(0.5, mass, reduction="none", max_iter=500, tol=1e-10)
    cost = torch.cdist(x, centroids).square()
    share = weight / weight.sum(-1, keepdim=True)
    want = sinkhorn(cost, 0.5, share, mass, max_iter=500, tol=1e-10).cost
    torch.testing.assert_close(loss(x, centroids, weight), want)
    torch.testing.assert_close(loss(x, centroids, 7 * weight), want)
    given = {"column_mass": mass, "max_iter": 500, "tol": 1e-10}
    torch.testing.assert_close(TransportLoss(0.5, **given)(x, centroids, weight), want.mean())
    summed = TransportLoss(0.5, reduction="sum", **given)(x, centroids, weight)
    torch.testing.assert_close(summed, want.sum())
    free = TransportLoss(0.5, mass, column_penalty=0.1, reduction="none")(x, centroids, weight)
    assert (free < want).all()
    assert torch.equal(loss.state_dict()["column_mass"], mass)


def test_balanced_clusters_cost_more_to_leave(generator):
    """Rows in clusters of unequal size are pulled apart to equal ones."""
    x = torch.cat([torch.zeros(30, 1), torch.full((10, 1), 4.0)]).double().requires_grad_()
    centroids = torch.tensor([[0.0], [4.0]]).double()
    TransportLoss(0.05, max_iter=2000)(x, centroids).backward()
    assert (x.grad[:30] < 0).all()  # down the gradient is towards the smaller
    assert x.grad[30:].abs().max() < 1e-3
    x.grad = None
    InertiaLoss()(x, centroids).backward()
    assert not x.grad.any()


@pytest.mark.parametrize("build", [KMeansLoss, FreeEnergyLoss])
def test_a_temperature_may_be_learnt_and_is_by_the_rows_else(build, generator):
    x, centroids, _ = draw(generator)
    loss = build(LearntTemperature(1.0))
    loss(x, centroids).backward()
    assert loss.temperature.log_value.grad.abs() > 0
    torch.testing.assert_close(build()(3 * x, 3 * centroids), 9 * build()(x, centroids))


@pytest.mark.parametrize("build", [InertiaLoss, KMeansLoss, FreeEnergyLoss, TransportLoss])
def test_autocast_compile_and_copies(build, generator):
    x, centroids, weight = (t.float() for t in draw(generator))
    options = {"max_iter": 20, "tol": 0} if build is TransportLoss else {}
    loss = build(**options)
    want = loss(x, centroids, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x, centroids, weight), want)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, centroids, weight), want)
    assert torch.equal(copy.deepcopy(loss)(x, centroids, weight), want)
    assert "reduction='mean'" in repr(loss)


@pytest.mark.parametrize("build", [InertiaLoss, KMeansLoss, FreeEnergyLoss, TransportLoss])
def test_bad_input_is_named(build):
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'none', 'sum'"):
        build(reduction="max")
    with pytest.raises(ValueError, match="metric must be one of"):
        build(metric="l1")
    with pytest.raises(ValueError, match="as wide as the rows"):
        build()(torch.ones(3, 2), torch.ones(2, 3))


@pytest.mark.parametrize(("name", "value"), [("max_iter", 0), ("tol", -1), ("column_penalty", -1)])
def test_bad_options_of_transport_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        TransportLoss(**{name: value})
