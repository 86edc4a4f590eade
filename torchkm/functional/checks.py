"""Numbers, names and functions as a public door accepts them, with errors that say what came."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch


def check_k(k: Any, n: int | None = None, name: str = "k") -> int:
    """Return ``k`` as an int, at least 1 and at most the number of rows ``n``.

    Raises:
        TypeError: not an integer.
        ValueError: below 1, or above ``n``.
    """
    k = check_integer(name, k, 1)
    if n is not None and k > n:
        raise ValueError(f"{name} must be at most the number of rows: got k={k} for n={n}")
    return k


def check_integer(name: str, value: Any, least: int) -> int:
    """Return ``value`` as an int of at least ``least``.

    Raises:
        TypeError: not an integer.
        ValueError: below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_count(name: str, value: torch.Tensor) -> None:
    """Raise where a tensor is no single integer; its value stays on the device, unread.

    Raises:
        TypeError: another dtype or shape.
    """
    if value.is_floating_point() or value.is_complex() or value.ndim:
        raise TypeError(
            f"{name} must be one integer, got a tensor of shape {tuple(value.shape)} and "
            f"{value.dtype}"
        )


def check_number(name: str, value: Any, least: float, *, above: bool = False) -> float:
    """Return ``value`` as a finite float of at least (or ``above``) ``least``.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    number = float(value)
    if not math.isfinite(number) or number < least or (above and number == least):
        bound = "above" if above else "at least"
        raise ValueError(f"{name} must be finite and {bound} {least:g}, got {value!r}")
    return number


def check_known(name: str, value: Any, known: Iterable[str]) -> str:
    """Return ``value``, one of the ``known`` names.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    names = sorted(known)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}; got {value!r}")
    return value


def check_callable(name: str, value: Any) -> None:
    """Raise where ``value`` is neither None nor to be called.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, got {value!r}")


def as_generator(generator: Any) -> torch.Generator:
    """Return ``generator``, or a fresh one seeded by the operating system where it is None.

    Raises:
        TypeError: not a ``torch.Generator``.
    """
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {generator!r}; "
            "for a fixed seed pass torch.Generator().manual_seed(seed)"
        )
    return generator
