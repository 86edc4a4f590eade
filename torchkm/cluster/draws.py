"""Random draws of rows from a NumPy ``RandomState``, as scikit-learn makes them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchkm.functional.problem import Problem


class Draws:
    """Draws rows of a problem; for the same state, those that scikit-learn would draw.

    Attributes:
        random_state: where chance comes from.
    """

    def __init__(
        self, random_state: np.random.RandomState, problem: Problem, batch_size: int
    ) -> None:
        self.random_state = random_state
        self._n, self._size = len(problem.x), batch_size
        self._weight, self._dtype = problem.sample_weight, problem.origin.dtype

    def batch(self) -> Tensor:
        """Return rows ``(b,)`` of the next batch, drawn by weight, with replacement."""
        draws = self.random_state.random_sample(self._size)
        if self._weight is not None:
            return torch.from_numpy(self._upto.searchsorted(draws, side="right"))
        # The same, as rounding puts a row's share off by next to nothing.
        index = np.minimum((draws * self._n).astype(np.int64), self._n - 1)
        index += self._upto[index] <= draws
        index -= (index > 0) & (self._upto[index - 1] > draws)
        return torch.from_numpy(index)

    def some(self, n: int, size: int) -> Tensor:
        """Return ``size`` different numbers below ``n``."""
        return torch.from_numpy(self.random_state.choice(n, replace=False, size=size))

    def with_replacement(self, size: int) -> Tensor:
        """Return ``size`` rows, drawn alike."""
        return torch.from_numpy(self.random_state.randint(0, self._n, size))

    @cached_property
    def _upto(self) -> NDArray[np.float64]:
        """The share of the weight ``(n,)`` up to each row: what ``choice`` adds up in each call."""
        weight = self._weight
        if weight is None:
            weight = torch.ones(self._n, dtype=self._dtype, device="cpu")
        share = (weight / weight.sum()).double().cpu().numpy()
        upto: NDArray[np.float64] = share.cumsum()
        upto /= upto[-1]
        return upto
