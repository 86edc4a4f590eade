"""Loops on threads of Numba's leave torch as many as it had."""

import pytest
import torch


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
