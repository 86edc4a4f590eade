"""Greedy k-means++ from given draws: the choices of a plain loop in float64."""

import numpy as np
import pytest
import torch

from torchkm.kernels import plusplus
from torchkm.kernels.products import SMALL, multiply


def plain(rows, weight, first, draws):
    """Return the rows chosen, and the potential that they leave."""
    rows, weight = rows.double().numpy(), weight.double().numpy()
    chosen, potential = [first], np.square(rows - rows[first]).sum(1)
    for some in draws.numpy():
        mass = potential * weight
        chances = np.cumsum(mass if mass.any() else weight)
        drawn = np.searchsorted(chances, some * chances[-1])
        left = [np.minimum(potential, np.square(rows - rows[at]).sum(1)) for at in drawn]
        best = int(np.argmin([after @ weight for after in left]))
        chosen.append(int(drawn[best]))
        potential = left[best]
    return chosen, potential


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("m", "d", "k", "trials"), [(1, 1, 1, 1), (200, 3, 20, 4), (3000, 40, 9, 5)]
)
def test_choices_are_those_of_a_plain_loop(m, d, k, trials, dtype, generator):
    rows = torch.randn(m, d, generator=generator, dtype=dtype)
    weight = torch.rand(m, generator=generator)
    draws = torch.rand(k - 1, trials, dtype=torch.float64, generator=generator)
    chosen, potential = plusplus(rows, k, weight, torch.tensor([m // 2]), draws)
    expected, left = plain(rows, weight, m // 2, draws)
    assert chosen.tolist() == expected
    assert potential.dtype == dtype
    np.testing.assert_allclose(potential.numpy(), left, atol=1e-4)


def test_equal_rows_are_drawn_by_weight():
    weight = torch.zeros(20)
    weight[13] = 1.0
    draws = torch.full((3, 2), 0.5, dtype=torch.float64)
    chosen, potential = plusplus(torch.zeros(20, 2), 4, weight, torch.tensor([13]), draws)
    assert chosen.tolist() == [13] * 4
    assert not potential.any()


@pytest.mark.parametrize("b", [16, 1 + SMALL // 64])
def test_products_of_either_size(b, generator):
    left, right = torch.randn(2, b, generator=generator), torch.randn(b, 32, generator=generator)
    out = np.empty((2, 32), np.float32)
    assert multiply(left.numpy(), right.numpy(), out=out) is out
    torch.testing.assert_close(torch.from_numpy(out), left @ right, rtol=1e-4, atol=1e-2)
