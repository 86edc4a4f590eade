"""Rows whose features don't matter alike, with classes of some: one problem of each seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# The planted rows: of each part, features without classes, and the distance of class means.
_SIZES, _N_NOISE, _APART = (240, 120, 240), 4, 2.5


class Rows(NamedTuple):
    """Rows with their classes.

    Attributes:
        x: ``(..., n, d)``.
        classes: ``(..., n)``.
    """

    x: Tensor
    classes: Tensor

    def means(self, k: int) -> Tensor:
        """Return the mean of each class ``(..., k, d)``."""
        shares = torch.nn.functional.one_hot(self.classes, k).to(self.x)
        return shares.mT @ self.x / shares.sum(-2).unsqueeze(-1)


class Problem(NamedTuple):
    """Rows to cluster, without their classes; rows to score by, and rows to report."""

    train: Tensor
    validation: Rows
    test: Rows
    k: int


def planted(seed: int) -> Problem:
    """Three round classes that overlap in two features; in four more there is noise alone."""
    generator = torch.Generator().manual_seed(seed)
    n, k = sum(_SIZES), 3
    turns = 2 * math.pi * torch.arange(k, dtype=torch.float64) / k
    radius = _APART / (2 * math.sin(math.pi / k))
    points = radius * torch.stack([turns.cos(), turns.sin()], dim=1)
    classes = torch.arange(n)[torch.randperm(n, generator=generator)] % k
    x = torch.randn(n, 2 + _N_NOISE, generator=generator, dtype=torch.float64)
    x[:, :2] += points[classes]
    return _split(Rows(x, classes), _SIZES, k)


def wine(seed: int) -> Problem:
    """Chemistry of wines of three growers, 13 features (UCI, doi:10.24432/C5PC7J), in thirds."""
    from sklearn.datasets import load_wine

    found = load_wine()
    order = torch.randperm(len(found.data), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(found.data)[order]
    sizes = (len(x) // 3, len(x) // 3, len(x) - 2 * (len(x) // 3))
    some = x[: sizes[0]]
    rows = Rows((x - some.mean(0)) / some.std(0), torch.from_numpy(found.target)[order])
    return _split(rows, sizes, 3)


def _split(rows: Rows, sizes: Sequence[int], k: int) -> Problem:
    ends = sizes[0], sizes[0] + sizes[1]
    _, validation, test = (
        Rows(*pair)
        for pair in zip(rows.x.tensor_split(ends), rows.classes.tensor_split(ends), strict=True)
    )
    return Problem(rows.x[: ends[0]], validation, test, k)


PROBLEMS: dict[str, Callable[[int], Problem]] = {"planted": planted, "wine": wine}


def stacked(name: str, seeds: Sequence[int], times: int) -> Problem:
    """Return the problems of all seeds as one batch, that many times one after the other."""
    each = [PROBLEMS[name](seed) for seed in seeds] * times
    return Problem(
        torch.stack([one.train for one in each]),
        _beside([one.validation for one in each]),
        _beside([one.test for one in each]),
        each[0].k,
    )


def _beside(parts: Sequence[Rows]) -> Rows:
    return Rows(*(torch.stack(some) for some in zip(*parts, strict=True)))
