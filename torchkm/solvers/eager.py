"""What no compiler follows: fits, which wait for numbers in every pass, and call loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def eagerly(function: Callable[P, T]) -> Callable[P, T]:
    """Run ``function`` as it is where ``torch.compile`` comes upon it: the graph breaks there.

    A decorator of torch's own would load the compiler for programs that never compile.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            disable: Any = torch.compiler.disable  # torch leaves it untyped
            return disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return run
