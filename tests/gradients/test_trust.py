"""Which gradients are warned of, refused or bounded, and what is not let in."""

import warnings

import pytest
import torch

from torchkm.gradients import Implicit, OneStep, UntrustedGradientWarning, as_gradient, fixed_point


def test_detached_centroids_refuse_a_backward_pass(generator, mixture):
    x, weight, start = mixture(generator, 30, 3, 2)
    found = fixed_point(x.requires_grad_(), start, 1.0, weight, gradient="detach")
    with pytest.raises(RuntimeError, match="gradient='implicit'"):
        found.centroids.sum().backward()
    assert torch.isfinite(found.centroids.detach()).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_iter": 2}, "2 steps left a residual"),
        ({"temperature": 1e3, "max_iter": 500}, "all centroids have merged"),
    ],
)
def test_gradients_that_mean_little_are_warned_of(change, match, generator, mixture):
    x, weight, start = mixture(generator, 40, 3, 2)
    given = {"temperature": 1.0, "sample_weight": weight, **change}
    with pytest.warns(UntrustedGradientWarning, match=match):
        fixed_point(x, start, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed_point(x, start, gradient="envelope", **given)


def test_steps_that_hardly_shrink_are_warned_of(generator):
    """Just below the temperature at which two clusters become one."""
    x = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    critical = 2 * x.var(correction=0).item()
    start = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    with pytest.warns(UntrustedGradientWarning, match="steps shrink by a factor of 0.99"):
        found = fixed_point(x, start, 0.998 * critical, max_iter=20000, tol=1e-10)
    assert found.contraction < 1


def test_a_saddle_and_a_short_solve_are_warned_of(generator, mixture):
    x, weight, start = mixture(generator, 40, 3, 2)
    x.requires_grad_()
    found = fixed_point(x, start, 1.0, weight, gradient=Implicit(max_iter=1))
    with pytest.warns(UntrustedGradientWarning, match="1 products left"):
        found.centroids.square().sum().backward()
    assert found.adjoint.n_iter == 1
    both = (
        x.detach().mean(0).expand(2, 2).clone()
    )  # on the mean, and below the critical temperature
    with pytest.warns(UntrustedGradientWarning, match="merged"):
        found = fixed_point(x, both, 0.1)
    with pytest.warns(UntrustedGradientWarning, match="no strict minimum"):
        (found.centroids * torch.tensor([[1.0], [-1.0]])).sum().backward()
    assert not found.adjoint.definite


def test_a_ridge_bounds_the_gradient(generator, derivatives):
    x = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    heat = 0.99 * 2 * x.var(correction=0).item()
    start = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    upstream = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    weight = torch.ones(400, dtype=torch.float64)
    sizes = [
        derivatives(x, weight, start, heat, upstream, Implicit(ridge=ridge))[1][0].norm()
        for ridge in (0.0, 0.1, 1.0)
    ]
    assert sizes[0] > 2 * sizes[1] > 2 * sizes[2]


def test_a_ridge_means_the_same_to_both_solvers(generator, mixture, derivatives):
    x, weight, start = mixture(generator, 40, 3, 2)
    upstream = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    given = x, weight, start, 1.0, upstream
    grads = [
        derivatives(*given, Implicit(tol=1e-12, ridge=0.3, solver=solver))[1]
        for solver in ("cg", "gmres")
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_gmres_refuses_a_second_order(generator, mixture):
    x, weight, start = mixture(generator, 20, 2, 2)
    found = fixed_point(x.requires_grad_(), start, 1.0, weight, gradient=Implicit(solver="gmres"))
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(found.centroids.square().sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"temperature": torch.tensor(-1.0)}, "temperature must be above 0, got -1"),
        ({"sample_weight": -torch.ones(20)}, "sample_weight must not be negative, got -1"),
    ],
)
def test_numbers_of_a_wrong_sign_raise(change, match, generator, mixture):
    x, weight, start = mixture(generator, 20, 2, 2)
    with pytest.raises(ValueError, match=match):
        fixed_point(x, start, **{"temperature": 1.0, "sample_weight": weight, **change})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_raise(bad, generator, mixture):
    x, weight, start = mixture(generator, 20, 3, 2)
    x[4, 1] = bad
    with pytest.raises(ValueError, match="must be finite"):
        fixed_point(x, start, 1.0, weight)


def test_strategies_have_names_and_options():
    assert as_gradient("implicit") == Implicit()
    assert as_gradient(OneStep(3)).steps == 3
    with pytest.raises(ValueError, match="gradient must be one of 'detach', 'envelope'"):
        as_gradient("autodiff")
    with pytest.raises(TypeError, match="gradient must be a name"):
        as_gradient(3)
    with pytest.raises(ValueError, match="max_iter must be at least 1"):
        Implicit(max_iter=0)
    with pytest.raises(ValueError, match="ridge must be"):
        Implicit(ridge=-1.0)
    with pytest.raises(ValueError, match="solver must be one of"):
        Implicit(solver="lu")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        OneStep(0)
