"""Problems that the tests of gradients share."""

import pytest
import torch

from torchkm.gradients import fixed_point


@pytest.fixture
def mixture():
    """Return a function that draws rows about ``k`` points, weights, and where to start."""

    def draw(generator, n, k, d, spread=0.7):
        points = 2 * torch.randn(k, d, generator=generator, dtype=torch.float64)
        at = torch.randint(k, (n,), generator=generator)
        x = points[at] + spread * torch.randn(n, d, generator=generator, dtype=torch.float64)
        weight = torch.rand(n, generator=generator, dtype=torch.float64) + 0.2
        return x, weight, points + 0.1

    return draw


@pytest.fixture
def derivatives():
    """Return a function that finds a fixed point, and gradients of its product with a tensor."""

    def derive(x, weight, start, temperature, upstream, gradient, **options):
        inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
        temperature = torch.tensor(temperature, dtype=x.dtype, requires_grad=True)
        given = {"max_iter": 5000, "tol": 1e-14, **options}
        found = fixed_point(inputs[0], start, temperature, inputs[1], gradient=gradient, **given)
        loss = (found.centroids * upstream).sum()
        return found, torch.autograd.grad(loss, (*inputs, temperature))

    return derive
