"""What the parameters of an estimator may be, and an error that names the one that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from torchkm.functional.checks import check_integer, check_known, check_number

Check = Callable[[str, Any], object]


class InvalidParameterError(ValueError, TypeError):
    """A parameter of a type or value that it may not have.

    Both a ``ValueError`` and a ``TypeError``, as scikit-learn's own is.
    """


def integer(least: int) -> Check:
    """Return a check for integers of at least ``least``."""
    return lambda name, value: check_integer(name, value, least)


def number(name: str, value: Any) -> None:
    """Check for finite numbers from 0."""
    check_number(name, value, 0)


def share(name: str, value: Any) -> None:
    """Check for a number from 0 to 1."""
    if check_number(name, value, 0) > 1:
        raise ValueError(f"{name} must be at most 1, got {value!r}")


def flag(name: str, value: Any) -> None:
    """Check for what says yes or no."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def level(name: str, value: Any) -> None:
    """Check for how much to say: a number, or yes or no."""
    if not isinstance(value, (bool, np.bool_)):
        check_integer(name, value, 0)


def one_of(*known: str) -> Check:
    """Return a check for ``known`` names."""
    return lambda name, value: check_known(name, value, known)


def either(word: str | None, check: Check) -> Check:
    """Return a check that also lets one ``word`` pass, or None."""

    def run(name: str, value: Any) -> None:
        if value is None or isinstance(value, str):
            if value != word:
                raise ValueError(f"{name} must be a number or {word!r}, got {value!r}")
            return
        check(name, value)

    return run


def start(name: str, value: Any) -> None:
    """Check for ``init``: a known name, a function or what may be an array."""
    if isinstance(value, str):
        check_known(name, value, STARTS)
    elif value is None or isinstance(value, (bool, int, float)):
        raise TypeError(
            f"{name} must be one of {', '.join(map(repr, STARTS))}, a function or an array of "
            f"shape (n_clusters, n_features), got {value!r}"
        )


def drawn_start(name: str, value: Any) -> None:
    """Check for ``init`` where an array would not do."""
    if not callable(value):
        check_known(name, value, STARTS)


def place(name: str, value: Any) -> None:
    """Check for what names a device of this machine, or None."""
    if value is None:
        return
    try:
        torch.empty(0, device=value)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{name} must name a device that this machine has, or be None, got {value!r}: {reason}"
        ) from error


def randomness(name: str, value: Any) -> None:
    """Check for what ``sklearn.utils.check_random_state`` takes."""
    if value is None or isinstance(value, np.random.RandomState) or value is np.random:
        return
    if check_integer(name, value, 0) > _LARGEST_SEED:
        raise ValueError(f"{name} must be at most {_LARGEST_SEED}, got {value}")


_LARGEST_SEED = 2**32 - 1  # NumPy's

STARTS = ("k-means++", "k-means||", "random")


def check_parameters(estimator: BaseEstimator, checks: dict[str, Check]) -> None:
    """Check the parameters of ``estimator`` that ``checks`` knows.

    Raises:
        InvalidParameterError: the message names the estimator, the parameter, what came and what
            was expected.
    """
    for name, check in checks.items():
        check_parameter(type(estimator).__name__, name, getattr(estimator, name), check)


def check_parameter(owner: str, name: str, value: Any, check: Check) -> None:
    """Check the ``value`` of one parameter of what an error is to call ``owner``.

    Raises:
        InvalidParameterError: as ``check_parameters``.
    """
    try:
        check(name, value)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(f"{owner}: {error}") from error
