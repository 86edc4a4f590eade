"""Gradients where steps shrink slowly: up to a contraction factor of 0.9, by chance in all else."""

import pytest
import torch

from torchkm.gradients import Implicit, OneStep, fixed_point

FAR = {"max_iter": 20000, "tol": 1e-14}


def at_contraction(x, weight, start, wanted):
    """Return the temperature, by bisection, at which steps shrink by the factor that is wanted."""
    low, high = 0.05, 2 * x.var(0).sum().item()
    for _ in range(40):
        middle = (low + high) / 2
        found = fixed_point(x, start, middle, weight, gradient="envelope", max_iter=1000, tol=1e-8)
        apart = (found.centroids - found.centroids.mean(0)).norm() > 1e-3
        if apart and found.contraction < wanted - 0.01:
            low = middle
        elif apart and found.contraction <= wanted:
            return middle
        else:
            high = middle
    return None


def draw(seed, mixture):
    """Return a problem of random size, and a temperature at which it is as sensitive as said."""
    generator = torch.Generator().manual_seed(seed)
    n, k, d = (
        int(torch.randint(low, high, (), generator=generator))
        for low, high in ((25, 70), (2, 5), (1, 5))
    )
    wanted = (0.5, 0.7, 0.9)[seed % 3]
    x, weight, start = mixture(generator, n, k, d)
    heat = at_contraction(x, weight, start, wanted)
    assert heat is not None, "no temperature makes this draw as sensitive"
    upstream = torch.randn(k, d, generator=generator, dtype=torch.float64)
    return generator, (x, weight, start, heat, upstream), wanted


def difference(inputs, start, upstream, directions):
    """Return the derivative of the loss along ``directions``, by differences of four points."""
    step = 3e-5

    def loss(times):
        rows, weight, heat = (t + times * step * v for t, v in zip(inputs, directions, strict=True))
        found = fixed_point(rows, start, heat, weight, gradient="envelope", **FAR)
        return (found.centroids * upstream).sum().item()

    return (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * step)


@pytest.mark.parametrize("seed", range(6))
def test_implicit_is_unrolled_is_what_differences_say(seed, mixture, derivatives):
    generator, given, wanted = draw(seed, mixture)
    x, weight, start, heat, upstream = given
    found, implicit = derivatives(*given, Implicit(tol=1e-13), **FAR)
    assert wanted - 0.02 < found.contraction < wanted + 0.01
    _, unrolled = derivatives(*given, "unroll", **FAR)
    for mine, theirs in zip(implicit, unrolled, strict=True):
        assert (mine - theirs).norm() <= 1e-6 * theirs.norm()
    inputs = x, weight, torch.tensor(heat, dtype=torch.float64)
    for i, grad in enumerate(implicit):
        directions = [torch.zeros_like(t) for t in inputs]
        directions[i] = torch.randn(inputs[i].shape, generator=generator, dtype=torch.float64)
        along = (grad * directions[i]).sum().item()
        want = difference(inputs, start, upstream, directions)
        assert along == pytest.approx(want, rel=1e-6, abs=1e-6 * grad.norm().item())


@pytest.mark.parametrize("seed", range(3))
def test_steps_shrink_the_error_by_the_factor(seed, mixture, derivatives):
    """Each more step takes the error down by the contraction factor, no less and no more."""
    _, given, _ = draw(seed, mixture)
    found, exact = derivatives(*given, Implicit(tol=1e-13), **FAR)
    errors = []
    for steps in (6, 12):
        _, few = derivatives(*given, OneStep(steps), **FAR)
        errors.append((few[0] - exact[0]).norm() / exact[0].norm())
    rate = (errors[1] / errors[0]) ** (1 / 6)
    assert rate == pytest.approx(found.contraction.item(), rel=0.1)
