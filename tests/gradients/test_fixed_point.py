"""Gradients of converged centroids: against each other, finite differences and their bounds."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torchkm.functional import free_energy, soft_lloyd
from torchkm.functional.soft_problem import as_soft_problem
from torchkm.gradients import (
    Implicit,
    OneStep,
    Unroll,
    fixed_point,
)
from torchkm.gradients.curvature import Curvature

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])
FAR = {"max_iter": 5000, "tol": 1e-14}


def differences(x, weight, start, temperature, upstream, metric, directions):
    """Return the derivative along ``directions`` of the inputs, by central differences."""
    step = 1e-5

    def loss(sign):
        inputs = x, weight, temperature
        moved = (t + sign * step * v for t, v in zip(inputs, directions, strict=True))
        rows, held, heat = moved
        with torch.no_grad():
            found = fixed_point(rows, start, heat, held, metric=metric, **FAR)
        return (found.centroids * upstream).sum().item()

    return (loss(1) - loss(-1)) / (2 * step)


@METRICS
@pytest.mark.parametrize("seed", range(6))
def test_implicit_is_unrolled_is_what_differences_say(metric, seed, mixture, derivatives):
    generator = torch.Generator().manual_seed(seed)
    n, k, d = (
        int(torch.randint(low, high, (), generator=generator))
        for low, high in ((30, 80), (2, 6), (2, 5))
    )
    x, weight, start = mixture(generator, n, k, d)
    temperature = (0.2 if metric == "cosine" else 1.0) * (0.3 + seed / 3)
    upstream = torch.randn(k, d, generator=generator, dtype=torch.float64)
    given = x, weight, start, temperature, upstream
    found, implicit = derivatives(*given, Implicit(tol=1e-12), metric=metric)
    assert found.converged
    assert found.contraction < 0.9  # beyond, differences lose their digits
    _, unrolled = derivatives(*given, "unroll", metric=metric)
    for mine, theirs in zip(implicit, unrolled, strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm() + 1e-10
    directions = [
        torch.randn(t.shape, generator=generator, dtype=torch.float64)
        for t in (x, weight, torch.tensor(temperature))
    ]
    along = sum((g * v).sum().item() for g, v in zip(implicit, directions, strict=True))
    heat = torch.tensor(temperature, dtype=torch.float64)
    want = differences(x, weight, start, heat, upstream, metric, directions)
    assert along == pytest.approx(want, rel=1e-6, abs=1e-7)


@METRICS
@pytest.mark.parametrize(
    "gradient", [Implicit(tol=1e-13), Implicit(tol=1e-13, solver="gmres"), Unroll(), Unroll(True)]
)
def test_gradcheck_of_every_exact_way(gradient, metric, generator, mixture):
    x, weight, start = mixture(generator, 12, 3, 2)
    heat = torch.tensor(0.8 if metric == "euclidean" else 0.2, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, weight, heat, start)]

    def centroids(x, weight, heat, start):
        options = {"gradient": gradient, "metric": metric}
        return fixed_point(x, start, heat, weight, **options, **FAR).centroids

    assert gradcheck(centroids, inputs)


@METRICS
def test_two_orders_of_the_implicit_gradient_and_of_steps(metric, generator, mixture):
    x, weight, start = mixture(generator, 9, 2, 2)
    heat = torch.tensor(0.8 if metric == "euclidean" else 0.2, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, weight, heat)]

    def implicit(x, weight, heat):
        options = {"gradient": Implicit(tol=1e-13), "metric": metric}
        return fixed_point(x, start, heat, weight, **options, **FAR).centroids

    def few_steps(x, weight, heat, start):
        options = {"gradient": "unroll", "metric": metric, "max_iter": 4, "tol": 0}
        return fixed_point(x, start, heat, weight, **options).centroids

    assert gradgradcheck(implicit, inputs)
    assert gradcheck(few_steps, (*inputs, start.requires_grad_()))
    assert gradgradcheck(few_steps, (*inputs, start))


def test_the_start_is_forgotten(generator, mixture):
    x, weight, start = mixture(generator, 40, 3, 2)
    start.requires_grad_()
    found = fixed_point(x.requires_grad_(), start, 1.0, weight)
    found.centroids.sum().backward()
    assert not start.grad.any()
    assert x.grad.any()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 6.0])
def test_steps_miss_the_gradient_by_no_more_than_their_bound(temperature, generator, mixture):
    """Along any change of the rows, as the masses measure length: by JVP, one row at a time."""
    x, weight, start = mixture(generator, 30, 3, 2)
    found = fixed_point(x, start, temperature, weight, **FAR)
    problem, at = as_soft_problem(x, found.centroids, temperature, weight, "euclidean")
    curvature = Curvature(problem, at)
    masses = curvature.diagonal
    units = torch.eye(6, dtype=torch.float64).view(6, 3, 2)
    bent = torch.stack([(masses * u - curvature.product(u)).flatten() for u in units], dim=1)
    root = masses.sqrt().expand(3, 2).flatten()
    contraction = torch.linalg.eigvalsh(bent / root / root.unsqueeze(1)).max().item()
    assert found.contraction.item() == pytest.approx(contraction, rel=0.05, abs=1e-2)

    def changes(gradient):
        def centroids(x):
            return fixed_point(x, start, temperature, weight, gradient=gradient, **FAR).centroids

        return torch.autograd.functional.jacobian(centroids, x).flatten(
            2
        ) * masses.sqrt().unsqueeze(-1)

    exact = changes(Implicit(tol=1e-13)).flatten(0, 1)  # (k d, n d)
    for steps in (1, 2, 4):
        missed = (changes(OneStep(steps)).flatten(0, 1) - exact).norm(dim=0)
        assert (missed <= 1.0001 * contraction**steps * exact.norm(dim=0) + 1e-9).all()


@pytest.mark.parametrize("gradient", ["implicit", "one_step"])
def test_memory_does_not_grow_with_the_steps(gradient, generator, mixture):
    x, weight, start = mixture(generator, 300, 4, 3, spread=1.5)
    x.requires_grad_()

    def kept(max_iter):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = fixed_point(x, start, 2.0, weight, gradient=gradient, max_iter=max_iter, tol=0)
        assert out.n_iter == max_iter
        return sum(sizes.values())

    assert kept(5) == kept(50)


def test_a_batch_is_its_problems_one_by_one(generator, mixture, derivatives):
    problems = [mixture(generator, 40, 3, 2, spread) for spread in (0.3, 0.8, 1.2)]
    x, weight, start = (torch.stack(parts) for parts in zip(*problems, strict=True))
    heats = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    upstream = torch.randn(3, 3, 2, generator=generator, dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (x, weight, heats)]
    found = fixed_point(inputs[0], start, inputs[2], inputs[1], gradient=Implicit(tol=1e-13), **FAR)
    together = torch.autograd.grad((found.centroids * upstream).sum(), inputs)
    assert len(set(found.n_iter.tolist())) == 3
    for i in range(3):
        one, alone = derivatives(
            x[i], weight[i], start[i], heats[i].item(), upstream[i], Implicit(tol=1e-13)
        )
        assert one.n_iter == found.n_iter[i]
        assert torch.equal(one.converged, found.converged[i])
        torch.testing.assert_close(one.centroids, found.centroids[i])
        for mine, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(mine, whole[i], rtol=1e-7, atol=1e-9)


def test_a_problem_that_rests_waits_for_the_others(generator, mixture):
    """To the bit where it would be alone, however loosely that is asked for."""
    problems = [mixture(generator, 40, 3, 2, spread) for spread in (0.7, 1.2)]
    x, _, start = (torch.stack(parts) for parts in zip(*problems, strict=True))
    options = {"gradient": "envelope", "max_iter": 500, "tol": 1e-2}
    whole = fixed_point(x, start, 1.0, **options)
    assert whole.n_iter[0] < whole.n_iter[1]
    assert (soft_lloyd(x, whole.centroids, 1.0) - whole.centroids)[0].abs().max() > 1e-4
    for i in range(2):
        alone = fixed_point(x[i], start[i], 1.0, **options)
        torch.testing.assert_close(whole.centroids[i], alone.centroids, rtol=0, atol=1e-13)
        torch.testing.assert_close(whole.residual[i], alone.residual, rtol=1e-9, atol=0)
        torch.testing.assert_close(whole.contraction[i], alone.contraction, rtol=1e-9, atol=0)


@METRICS
@pytest.mark.parametrize("steps", [1, 3])
def test_one_step_is_that_many_from_the_fixed_point_held_constant(
    steps, metric, generator, mixture, derivatives
):
    x, weight, start = mixture(generator, 30, 3, 2)
    upstream = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    given = x, weight, start, 0.5, upstream
    found, mine = derivatives(*given, OneStep(steps), metric=metric)
    inputs = [t.clone().requires_grad_() for t in (x, weight, torch.tensor(0.5).double())]
    at = found.centroids.detach()
    for _ in range(steps):
        at = soft_lloyd(inputs[0], at, inputs[2], inputs[1], metric=metric)
    want = torch.autograd.grad((at * upstream).sum(), inputs)
    for one, other in zip(mine, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_float32_is_near_float64(generator, mixture, derivatives):
    x, weight, start = mixture(generator, 200, 4, 3)
    upstream = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    _, exact = derivatives(x, weight, start, 1.0, upstream, "implicit")
    given = (t.float() for t in (x, weight, start))
    found, rough = derivatives(*given, 1.0, upstream.float(), "implicit", max_iter=200, tol=1e-6)
    assert found.centroids.dtype == torch.float32
    for mine, theirs in zip(rough, exact, strict=True):
        assert (mine.double() - theirs).norm() <= 1e-3 * theirs.norm()


def test_no_temperature_is_hard_assignment(generator, mixture, derivatives):
    x, weight, start = mixture(generator, 40, 3, 2, spread=0.2)
    upstream = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    found, (by_x, _, _) = derivatives(x, weight, start, 1e-3, upstream, "implicit")
    labels = torch.cdist(x, found.centroids).argmin(1)
    masses = torch.zeros(3, dtype=torch.float64).index_add_(0, labels, weight)
    torch.testing.assert_close(by_x, (weight / masses[labels]).unsqueeze(1) * upstream[labels])


def test_rows_and_centroids_move_along(generator, mixture, derivatives):
    """Shift and scale the rows, and the gradient goes along."""
    x, weight, start = mixture(generator, 40, 3, 2)
    upstream = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    found, plain = derivatives(x, weight, start, 1.0, upstream, "implicit")
    moved, scaled = derivatives(3 * x + 50, weight, 3 * start + 50, 9.0, upstream, "implicit")
    torch.testing.assert_close(moved.centroids, 3 * found.centroids + 50)
    torch.testing.assert_close(scaled[0], plain[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(scaled[2], plain[2] / 3, rtol=1e-6, atol=1e-9)


def test_the_envelope_is_exact_for_the_objective_and_constant(generator, mixture):
    x, weight, start = mixture(generator, 30, 3, 2)

    def energy(x):
        found = fixed_point(x, start, 1.0, weight, gradient="envelope", **FAR)
        assert not found.centroids.requires_grad
        return free_energy(x, found.centroids, 1.0, weight)

    assert gradcheck(energy, x.requires_grad_())


def fixed(x, start):
    options = {"max_iter": 40, "tol": 0, "gradient": Implicit(tol=0, max_iter=12)}
    return fixed_point(x, start, 1.0, **options).centroids


@pytest.fixture
def batch(generator, mixture):
    problems = [mixture(generator, 20, 3, 2) for _ in range(3)]
    x, _, start = (torch.stack(parts) for parts in zip(*problems, strict=True))
    return x, start


def test_transforms_of_a_fixed_number_of_steps(batch):
    x, start = batch
    torch.testing.assert_close(torch.func.vmap(fixed)(x, start), fixed(x, start))
    jacobian = torch.func.jacrev(fixed)(x[0], start[0])
    want = torch.autograd.functional.jacobian(lambda rows: fixed(rows, start[0]), x[0])
    torch.testing.assert_close(jacobian, want)
    each = torch.func.vmap(torch.func.grad(lambda x, start: fixed(x, start).sin().sum()))(x, start)
    rows = x.clone().requires_grad_()
    fixed(rows, start).sin().sum().backward()
    torch.testing.assert_close(each, rows.grad)


def test_a_fixed_number_of_steps_compiles_whole(batch):
    x, start = batch
    compiled = torch.compile(fixed, backend="eager", fullgraph=True)
    grads = []
    for function in (fixed, compiled):
        rows = x.clone().requires_grad_()
        function(rows, start).sin().sum().backward()
        grads.append(rows.grad)
    torch.testing.assert_close(*grads)


def test_one_cluster_is_the_mean(generator, mixture):
    x, _, _ = mixture(generator, 20, 3, 2)
    found = fixed_point(x.requires_grad_(), x[:1].detach(), 1.0)
    found.centroids.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 20))


@METRICS
@pytest.mark.parametrize("solver", ["cg", "gmres"])
def test_a_cluster_that_nothing_belongs_to_has_no_gradient(
    solver, metric, generator, mixture, derivatives
):
    x, weight, start = mixture(generator, 40, 3, 2, spread=0.1)
    x, start = x.abs() + 1, start.abs() + 1
    start[2] = -start[2] * (1 if metric == "cosine" else 100)
    upstream = torch.ones(3, 2, dtype=torch.float64)
    given = x, weight, start, 1e-3, upstream
    found, implicit = derivatives(*given, Implicit(solver=solver), metric=metric, max_iter=300)
    _, unrolled = derivatives(*given, "unroll", metric=metric, max_iter=300)
    assert (found.centroids[2] * start[2] > 0).all()
    for mine, theirs in zip(implicit, unrolled, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
