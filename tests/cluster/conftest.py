"""What tests of estimators share: how two of them, or what they learnt, are compared."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def same():
    return _same


@pytest.fixture(scope="session")
def agree():
    """Whether two estimators have the same parameters and have learnt the same."""

    def compare(one, two):
        mine, others = vars(one), vars(two)
        return mine.keys() == others.keys() and all(_same(mine[n], others[n]) for n in mine)

    return compare


def _same(one, two):
    """Whether two values are equal, of one type and, for arrays, of one dtype."""
    if isinstance(one, np.ndarray):
        return isinstance(two, np.ndarray) and one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    return type(one) is type(two) and one == two
