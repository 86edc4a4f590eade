"""Warnings that name the line of a program which they are about."""

from __future__ import annotations

import sys
import warnings

# Their frames lie between a program and this package: decorators, searches, autograd.
_BETWEEN = ("torchkm", "torch", "sklearn", "joblib", "contextlib")


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn as of the last line that is not of this package, nor of one that called it.

    Warns:
        category: with the message.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)
