"""Soft assignment: by hand, in blocks and batches, and with derivatives of two orders."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torchkm.functional import free_energy, responsibilities, soft, soft_lloyd
from torchkm.functional.soft_problem import as_soft_problem
from torchkm.gradients.curvature import Curvature

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def draw(generator, *batch, n=14, k=3, d=2):
    """Return rows, centroids among them, weights and a temperature in float64."""
    x = torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)
    weight = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.2
    return x, x[..., :k, :] + 0.1, weight, torch.tensor(1.3, dtype=torch.float64)


def by_hand(x, centroids, temperature, metric):
    """Return shares and squared distances as the definition has them."""
    if metric == "cosine":
        x, centroids = (torch.nn.functional.normalize(t, dim=-1) for t in (x, centroids))
    apart = (x.unsqueeze(-2) - centroids.unsqueeze(-3)).square().sum(-1)  # (*batch, n, k)
    return (-apart / temperature).softmax(-1), apart, x


@METRICS
def test_all_of_it_by_hand(metric, generator):
    x, centroids, weight, temperature = draw(generator, 5)
    shares, apart, rows = by_hand(x, centroids, temperature, metric)
    torch.testing.assert_close(responsibilities(x, centroids, temperature, metric=metric), shares)
    energy = -temperature * (weight * (-apart / temperature).logsumexp(-1)).sum(-1)
    torch.testing.assert_close(
        free_energy(x, centroids, temperature, weight, metric=metric), energy
    )
    held = shares * weight.unsqueeze(-1)
    want = held.mT @ rows / held.sum(-2).unsqueeze(-1)
    if metric == "cosine":
        want = torch.nn.functional.normalize(want, dim=-1)
    torch.testing.assert_close(soft_lloyd(x, centroids, temperature, weight, metric=metric), want)


@METRICS
@pytest.mark.parametrize("function", [free_energy, soft_lloyd])
def test_derivatives_of_two_orders(function, metric, generator):
    inputs = [t.requires_grad_() for t in draw(generator)]

    def of(x, centroids, weight, temperature):
        return function(x, centroids, temperature, weight, metric=metric)

    assert gradcheck(of, inputs)
    assert gradgradcheck(of, inputs)


def test_shares_have_derivatives_of_two_orders(generator):
    x, centroids, _, temperature = (t.requires_grad_() for t in draw(generator, n=6))
    assert gradcheck(responsibilities, (x, centroids, temperature))
    assert gradgradcheck(responsibilities, (x, centroids, temperature))


@METRICS
def test_blocks_change_nothing(metric, generator, monkeypatch):
    inputs = [t.requires_grad_() for t in draw(generator, 2, n=40)]

    def of():
        x, centroids, weight, temperature = inputs
        out = soft_lloyd(x, centroids, temperature, weight, metric=metric).sin().sum()
        out = out + free_energy(x, centroids, temperature, weight, metric=metric).sum()
        return out, *torch.autograd.grad(out, inputs)

    whole = of()
    monkeypatch.setattr(soft, "rows_of", lambda width, device: 14)
    for in_blocks, at_once in zip(of(), whole, strict=True):
        torch.testing.assert_close(in_blocks, at_once)


def test_a_backward_pass_keeps_no_responsibilities(generator, monkeypatch):
    monkeypatch.setattr(soft, "rows_of", lambda width, device: 100)
    x = torch.randn(2000, 3, generator=generator, requires_grad=True)
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        free_energy(x, x[:50].detach(), 1.0)
    assert sum(sizes.values()) < 2 * x.untyped_storage().nbytes() + 2000 * 8 + 50 * 200
    assert sum(sizes.values()) < 2000 * 50 * 4


def test_the_hessian_of_the_free_energy_is_twice_the_curvature(generator):
    x, centroids, weight, temperature = draw(generator)
    hessian = torch.autograd.functional.hessian(
        lambda c: free_energy(x, c, temperature, weight), centroids
    ).reshape(6, 6)
    problem, at = as_soft_problem(x, centroids, temperature, weight, "euclidean")
    curvature = Curvature(problem, at)
    units = torch.eye(6, dtype=torch.float64).view(6, 3, 2)
    mine = torch.stack([curvature.product(unit).flatten() for unit in units], dim=1)
    torch.testing.assert_close(2 * mine, hessian)
    torch.testing.assert_close(mine, mine.T)


def test_steps_lower_the_free_energy(generator):
    x, centroids, weight, temperature = draw(generator, n=200, k=6)
    last = free_energy(x, centroids, temperature, weight)
    for _ in range(20):
        centroids = soft_lloyd(x, centroids, temperature, weight)
        now = free_energy(x, centroids, temperature, weight)
        assert now <= last + 1e-12
        last = now


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_half_rows_are_computed_in_float32(dtype, generator):
    x = (300 + torch.randn(50, 4, generator=generator)).to(dtype)
    centroids = x[:3].float()
    want = responsibilities(x.double(), centroids.double(), 2.0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = responsibilities(x, centroids, 2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4)


def test_a_centroid_that_nothing_belongs_to_stays():
    x = torch.tensor([[0.0], [1.0]])
    moved = soft_lloyd(x, torch.tensor([[0.0], [1e4]]), 1e-2)
    assert moved[1].item() == 1e4


def test_a_nan_does_not_come_to_rest():
    x = torch.tensor([[0.0], [1.0], [torch.nan]])
    assert soft_lloyd(x, torch.tensor([[0.0], [1.0]]), 1.0).isnan().all()


def test_each_problem_may_have_a_temperature(generator):
    x, centroids, _, _ = draw(generator, 3)
    temperature = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    found = responsibilities(x, centroids, temperature)
    for one, rows, at, shares in zip(temperature, x, centroids, found, strict=True):
        torch.testing.assert_close(responsibilities(rows, at, float(one)), shares)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"x": [[1.0]]}, TypeError, "x must be a tensor of float numbers, got list"),
        ({"x": torch.ones(3, 2, dtype=torch.int64)}, TypeError, "x must .* got torch.int64"),
        ({"x": torch.ones(3)}, ValueError, r"x must have shape \(\*batch, n, d\)"),
        ({"centroids": torch.ones(2, 3)}, ValueError, "as wide as the rows"),
        ({"centroids": torch.ones(4, 2, 2), "x": torch.ones(3, 5, 2)}, ValueError, "broadcast"),
        ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0.0"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
        ({"temperature": torch.ones(3)}, ValueError, "temperature must be one number"),
        ({"sample_weight": torch.ones(4)}, ValueError, "one number for each row"),
        ({"metric": "manhattan"}, ValueError, "metric must be one of"),
    ],
)
def test_bad_input_is_named(arguments, error, match):
    given = {"x": torch.ones(3, 2), "centroids": torch.ones(2, 2), "temperature": 1.0}
    with pytest.raises(error, match=match):
        soft_lloyd(**{**given, **arguments})
