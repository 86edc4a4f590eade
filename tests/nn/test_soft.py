"""The soft k-means layer: starts, temperatures, assignments, and where it is put to use."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.autograd import gradcheck

from torchkm.functional import responsibilities
from torchkm.functional.soft_problem import as_soft_problem
from torchkm.gradients import Implicit, fixed_point
from torchkm.nn import AnnealedTemperature, AutoTemperature, LearntTemperature, SoftKMeans
from torchkm.nn.assignments import Balanced, Gumbel, Soft, StraightThrough, TopM


@pytest.fixture
def x(generator):
    points = 4 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    return points.repeat(20, 1) + torch.randn(60, 2, generator=generator, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def problem_of(x, centroids):
    return as_soft_problem(x, centroids, 1.0, None, "euclidean")[0]


def test_the_layer_is_the_function(x):
    out = SoftKMeans(3, temperature=1.5)(x, x[:3])
    found = fixed_point(x, x[:3], 1.5)
    torch.testing.assert_close(out.centroids, found.centroids)
    torch.testing.assert_close(out.responsibilities, responsibilities(x, out.centroids, 1.5))
    assert out.converged
    assert out.n_iter == found.n_iter
    assert out.temperature == 1.5


def test_seeds_come_from_the_generator(x):
    layer = SoftKMeans(3)
    first, again = (layer(x, generator=seeded(4)) for _ in range(2))
    torch.testing.assert_close(first.centroids, again.centroids, rtol=0, atol=0)
    stacked = layer(torch.stack([x, 5 * x]), generator=seeded(4))
    assert stacked.centroids.shape == (2, 3, 2)
    assert stacked.responsibilities.shape == (2, 60, 3)


def test_gradients_reach_rows_through_centroids_and_assignment(x):
    layer = SoftKMeans(3, temperature=1.5, gradient=Implicit(tol=1e-13), max_iter=3000, tol=1e-14)
    few = x[:12].clone().requires_grad_()

    def loss(rows):
        out = layer(rows, x[:3])
        return (out.responsibilities @ out.centroids - rows).square().sum()

    assert gradcheck(loss, few)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_auto_temperature_means_the_same_on_any_scale(x, scale):
    layer = SoftKMeans(3)
    shares = layer(x, x[:3]).responsibilities
    torch.testing.assert_close(layer(scale * x, scale * x[:3]).responsibilities, shares)


def test_auto_temperature_means_the_same_in_any_dimension(generator):
    """As soft, by the entropy of the shares, in 2 dimensions as in 784."""
    entropies = []
    for d in (2, 10, 64, 784):
        x = torch.randn(500, d, generator=generator)
        centroids = torch.randn(10, d, generator=generator)
        temperature = AutoTemperature(1.0)(problem_of(x, centroids), centroids)
        shares = responsibilities(x, centroids, temperature)
        entropies.append(-torch.xlogy(shares, shares).sum(-1).mean().item())
    assert max(entropies) < 1.3 * min(entropies)
    assert AutoTemperature()(problem_of(x, x[:1]), x[:1]) > 0


def test_a_learnt_temperature_learns(x):
    layer = SoftKMeans(3, temperature=LearntTemperature(1.0)).double()
    out = layer(x, x[:3])
    out.centroids.square().sum().backward()
    assert [name for name, _ in layer.named_parameters()] == ["temperature.log_value"]
    assert layer.temperature.log_value.grad.abs() > 0


def test_an_annealed_temperature_falls_in_training(x):
    layer = SoftKMeans(3, temperature=AnnealedTemperature(8.0, 0.5, n_steps=4))
    seen = [layer(x, x[:3]).temperature.item() for _ in range(6)]
    assert seen == pytest.approx([8, 4, 2, 1, 0.5, 0.5])
    layer.eval()
    assert layer(x, x[:3]).temperature.item() == pytest.approx(0.5)
    assert layer.temperature.n_made == 6
    assert layer.state_dict()["temperature.n_made"] == 6


def test_a_layer_of_known_width_goes_on_where_it_was(x):
    layer = SoftKMeans(3, 2, temperature=1.0)
    assert not layer.seeded
    first = layer(x, generator=seeded())
    assert layer.seeded
    torch.testing.assert_close(layer.centroids.double(), first.centroids, rtol=1e-5, atol=1e-5)
    order = first.responsibilities.argmax(1)
    for step in range(5):
        out = layer(x + 0.05 * step)
        assert torch.equal(out.responsibilities.argmax(1), order)  # no cluster changes its place
        assert out.n_iter <= 3
    layer.eval()
    before = layer.centroids.clone()
    layer(x + 3)
    assert torch.equal(layer.centroids, before)


def test_state_copies_and_pickles_come_back(x):
    layer = SoftKMeans(3, 2)
    layer(x, generator=seeded())
    other = SoftKMeans(3, 2)
    other.load_state_dict(layer.state_dict())
    for one in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(one.eval()(x).centroids, layer.eval()(x).centroids)
    assert "SoftKMeans(\n  k=3, n_features=2, metric='euclidean'" in repr(layer)
    assert "gradient=Implicit(" in repr(layer)
    assert not SoftKMeans(3).state_dict()


@pytest.mark.parametrize(
    "assignment",
    [Soft(), StraightThrough(), Gumbel(), Gumbel(0.5, hard=True), TopM(2), Balanced()],
)
def test_assignments_sum_to_one_and_pass_gradients_on(assignment, x):
    layer = SoftKMeans(3, temperature=4.0, assignment=assignment)
    rows = x.clone().requires_grad_()
    shares = layer(rows, x[:3], generator=seeded()).responsibilities
    torch.testing.assert_close(shares.sum(-1), torch.ones(60).double(), rtol=0, atol=1e-6)
    (shares * torch.arange(3)).square().sum().backward()
    assert rows.grad.abs().sum() > 0
    assert torch.isfinite(rows.grad).all()


def test_what_each_assignment_does(x):
    def shares(assignment, **options):
        return SoftKMeans(3, temperature=4.0, assignment=assignment)(x, x[:3], **options)

    soft = shares("soft")
    hard = shares("straight_through").responsibilities
    assert torch.equal(hard.argmax(1), soft.responsibilities.argmax(1))
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    top = shares(TopM(2)).responsibilities
    assert ((top > 0).sum(1) == 2).all()
    torch.testing.assert_close(shares(TopM(9)).responsibilities, soft.responsibilities)
    balanced = shares("sinkhorn").responsibilities
    torch.testing.assert_close(balanced.sum(0), torch.full((3,), 20.0).double(), rtol=0, atol=0.1)


def test_gumbel_draws_by_the_responsibilities(x):
    """Of rows that are about as near to one centroid as to another."""
    centroids = x[:3]
    problem = as_soft_problem(x, centroids, 80.0, None, "euclidean")[0]
    shares = responsibilities(x, centroids, 80.0)
    assert shares.mean(0).amax() < 0.6
    assert shares.amax(1).mean() < 0.85
    draw = Gumbel(1e-6, hard=True)
    draws = torch.stack([draw(problem, centroids, seeded(s)) for s in range(600)])
    # Five standard errors of a share, of which there are 180.
    torch.testing.assert_close(draws.mean(0), shares, rtol=0, atol=5 * (0.25 / 600) ** 0.5)


def test_it_trains_an_encoder(generator):
    """A network that is to bring rows together with their centroids does."""
    torch.manual_seed(0)
    x = torch.randn(90, 5, generator=generator) + torch.arange(3).repeat(30).unsqueeze(1)
    encoder = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    layer = SoftKMeans(3, 2)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        codes = encoder(x)
        out = layer(codes, generator=seeded())
        spread = codes.var(0).sum()
        loss = (out.responsibilities @ out.centroids - codes).square().sum(1).mean() / spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("temperature", [1.5, "auto"])
def test_autocast_leaves_it_and_its_gradient_in_float32(x, temperature):
    layer = SoftKMeans(3, temperature=temperature)
    grads = []
    for enabled in (True, False):
        rows = x.float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = layer(rows, x[:3].float())
            loss = out.centroids.sum() + out.responsibilities.square().sum()
        loss.backward()
        assert out.responsibilities.dtype == torch.float32
        grads.append((out.centroids, rows.grad))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_temperature_keeps_its_digits(x):
    out = SoftKMeans(3, temperature=1.3)(x, x[:3])
    torch.testing.assert_close(
        out.centroids, fixed_point(x, x[:3], 1.3).centroids, rtol=0, atol=1e-14
    )


def test_a_fixed_number_of_steps_compiles(x):
    layer = SoftKMeans(
        3, temperature=1.5, max_iter=20, tol=0, gradient=Implicit(tol=0, max_iter=10)
    )
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, x[:3]).centroids, layer(x, x[:3]).centroids)


@pytest.mark.parametrize("temperature", [1.5, "auto"])
@pytest.mark.parametrize("assignment", ["soft", "straight_through", "top"])
def test_a_fixed_number_of_steps_maps(x, assignment, temperature):
    options = {"max_iter": 20, "tol": 0, "gradient": Implicit(tol=0, max_iter=10)}
    layer = SoftKMeans(3, temperature=temperature, assignment=assignment, **options)
    stacked, starts = torch.stack([x, 2 * x.flip(0)]), torch.stack([x[:3], x[3:6]])

    def loss(x, start):
        out = layer(x, start)
        return (out.responsibilities @ out.centroids - x).square().sum()

    each = torch.func.vmap(torch.func.grad(loss))(stacked, starts)
    for rows, start, mapped in zip(stacked, starts, each, strict=True):
        rows = rows.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(loss(rows, start), rows)[0], mapped)


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: SoftKMeans(0), ValueError, "k must be at least 1"),
        (
            lambda: SoftKMeans(2, temperature="hot"),
            ValueError,
            "temperature must be a number, 'auto'",
        ),
        (
            lambda: SoftKMeans(2, temperature=0),
            ValueError,
            "temperature must be finite and above 0",
        ),
        (lambda: SoftKMeans(2, gradient="exact"), ValueError, "gradient must be one of"),
        (lambda: SoftKMeans(2, assignment="nearest"), ValueError, "assignment must be one of"),
        (lambda: SoftKMeans(2, assignment=3), TypeError, "assignment must be a name"),
        (lambda: SoftKMeans(2, metric="l1"), ValueError, "metric must be one of"),
        (lambda: SoftKMeans(2)(torch.ones(3)), ValueError, r"x must have shape \(\*batch, n, d\)"),
        (lambda: SoftKMeans(4)(torch.randn(3, 2)), ValueError, "k must be at most the number"),
        (
            lambda: SoftKMeans(2)(torch.ones(3, 2), torch.ones(3, 2)),
            ValueError,
            "centroids must have",
        ),
        (
            lambda: SoftKMeans(2, 5)(torch.randn(9, 2), torch.ones(2, 2)),
            ValueError,
            "a layer with n_features=5 takes",
        ),
    ],
)
def test_bad_input_is_named(build, error, match):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error, match=match):
            build()
