"""Rows are drawn as NumPy's ``choice`` draws them."""

import numpy as np
import pytest
import torch

from torchkm.cluster.draws import Draws
from torchkm.functional.problem import as_problem


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 7, 1000, 60_001])
def test_batches_are_those_of_choice(n, weighted, dtype):
    weight = torch.rand(n, generator=torch.Generator().manual_seed(0)).to(dtype)
    problem = as_problem(torch.zeros(n, 1, dtype=dtype), weight if weighted else None, "euclidean")
    draws = Draws(np.random.RandomState(3), problem, 500)
    state = np.random.RandomState(3)
    share = (weight if weighted else torch.ones(n, dtype=dtype)).numpy()
    share = share / share.sum()
    for _ in range(20):
        expected = state.choice(n, 500, p=share, replace=True)
        np.testing.assert_array_equal(draws.batch().numpy(), expected)
    np.testing.assert_array_equal(draws.some(50, 9), state.choice(50, replace=False, size=9))
    np.testing.assert_array_equal(draws.with_replacement(9), state.randint(0, n, 9))


class Stub:
    """A random state whose next numbers are known."""

    def __init__(self, numbers):
        self.numbers = numbers

    def random_sample(self, size):
        return self.numbers[:size]


@pytest.mark.parametrize("n", [3, 1000, 60_001])
def test_numbers_on_the_border_of_a_row(n):
    problem = as_problem(torch.zeros(n, 1), None, "euclidean")
    upto = Draws(np.random, problem, n)._upto
    for numbers in (upto[:-1], np.nextafter(upto[:-1], 0), np.nextafter(upto[:-1], 1)):
        draws = Draws(Stub(numbers), problem, n)
        expected = upto.searchsorted(numbers, side="right")
        np.testing.assert_array_equal(draws.batch().numpy(), expected)
