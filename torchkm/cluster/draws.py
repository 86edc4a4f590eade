"""Random draws of rows from a NumPy ``RandomState``, as scikit-learn makes them."""

from __future__ import annotations

import numpy as np
import torch
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
        weight = problem.sample_weight
        self._alike = weight is None
        if weight is None:
            weight = problem.origin.new_ones(self._n)
        share = (weight / weight.sum()).double().cpu().numpy()
        # What ``choice(n, p=share)`` adds up anew in each call.
        self._upto = share.cumsum()
        self._upto /= self._upto[-1]

    def batch(self) -> Tensor:
        """Return rows ``(b,)`` of the next batch, drawn by weight, with replacement."""
        draws = self.random_state.random_sample(self._size)
        if not self._alike:
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
