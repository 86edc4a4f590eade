"""Temperatures: given, learnt, lowered step by step, or taken from the rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from torchkm.functional.checks import check_integer, check_number
from torchkm.functional.soft import in_own_precision, sq_distances
from torchkm.functional.soft_problem import SoftProblem

# Rows that the scale of distances is taken from.
_ROWS = 1024


class Temperature(nn.Module):
    """A temperature that stays as it is given.

    Args:
        value: above 0, in units of squared distance.

    Example:
        >>> Temperature(0.5)
        Temperature(0.5)
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = check_number("temperature", value, 0, above=True)

    def forward(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        """Return the temperature of each problem ``(*batch,)``."""
        return problem.x.new_full(problem.x.shape[:-2], self.value)

    def extra_repr(self) -> str:
        """Name the temperature."""
        return f"{self.value:g}"


class LearntTemperature(nn.Module):
    """A temperature that is a parameter, by its logarithm, so that it stays above 0.

    Args:
        value: to start from.

    Example:
        >>> LearntTemperature(1.0).log_value
        Parameter containing:
        tensor(0., requires_grad=True)
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        number = check_number("temperature", value, 0, above=True)
        self.log_value = nn.Parameter(torch.tensor(math.log(number)))

    def forward(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        """Return the temperature of each problem ``(*batch,)``."""
        return self.log_value.exp().to(problem.x).expand(problem.x.shape[:-2])


class AnnealedTemperature(nn.Module):
    """A temperature that falls from one value to another, by the same factor in each step.

    Args:
        first: to start from; above the critical one all centroids begin as one, and no seeding
            is needed (Rose, Gurewitz and Fox 1990, doi:10.1103/PhysRevLett.65.945).
        last: to end at.
        n_steps: calls in training mode from one to the other.

    Attributes:
        n_made: calls in training mode so far.

    Example:
        >>> temperature = AnnealedTemperature(8.0, 0.5, n_steps=4)
        >>> [round(temperature.at(n_made), 3) for n_made in range(6)]
        [8.0, 4.0, 2.0, 1.0, 0.5, 0.5]
    """

    n_made: Tensor

    def __init__(self, first: float, last: float, n_steps: int) -> None:
        super().__init__()
        self.first = check_number("first", first, 0, above=True)
        self.last = check_number("last", last, 0, above=True)
        self.n_steps = check_integer("n_steps", n_steps, 1)
        self.register_buffer("n_made", torch.tensor(0))

    def at(self, n_made: int) -> float:
        """Return the temperature after so many calls."""
        share = min(n_made, self.n_steps) / self.n_steps
        return self.first ** (1 - share) * self.last**share

    def forward(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        """Return the temperature of each problem ``(*batch,)``; in training mode go on."""
        share = (self.n_made / self.n_steps).clamp(max=1).to(problem.x)
        value = self.first ** (1 - share) * self.last**share
        if self.training:
            self.n_made += 1
        return value.expand(problem.x.shape[:-2])


class AutoTemperature(nn.Module):
    """A temperature by the scale of the rows: how much their distances differ among centroids.

    The median over some rows of the standard deviation of a row's squared distances, times a
    number without unit: so the same number is as soft in 2 dimensions as in 784. It is taken where
    the centroids start, and held constant. On several ranks it is the mean of
    their medians.

    Args:
        times: of that scale.
    """

    def __init__(self, times: float = 0.25) -> None:
        super().__init__()
        self.times = check_number("times", times, 0, above=True)

    def forward(self, problem: SoftProblem, centroids: Tensor) -> Tensor:
        """Return the temperature of each problem ``(*batch,)``."""
        x = problem.x.detach()
        some = x[..., :: max(1, x.shape[-2] // _ROWS), :]
        with in_own_precision(x):
            apart = sq_distances(some, centroids.detach())  # (*batch, m, k)
        if centroids.shape[-2] == 1:
            scale = apart.squeeze(-1).median(-1).values
        else:
            scale = apart.std(-1, correction=0).median(-1).values
        if problem.ranks is not None:
            scale = problem.total(scale) / problem.total(torch.ones_like(scale))
        return (self.times * scale).clamp_min(torch.finfo(x.dtype).tiny)


def as_temperature_module(temperature: Any) -> nn.Module:
    """Return a module that gives temperatures: itself, of a number, or ``"auto"``.

    Raises:
        TypeError: something else.
        ValueError: a number that is not above 0, or another name.
    """
    if isinstance(temperature, nn.Module):
        return temperature
    if isinstance(temperature, str):
        if temperature != "auto":
            raise ValueError(
                f"temperature must be a number, 'auto' or a module, got {temperature!r}"
            )
        return AutoTemperature()
    return Temperature(temperature)
