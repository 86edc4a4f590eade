"""What instructions the CPU has for products in few digits."""

from __future__ import annotations

from typing import Any

import torch


def has(instructions: str) -> bool:
    """Return whether the CPU has ``instructions``, as torch calls them, and torch uses them."""
    backend: Any = torch.backends.mkldnn
    if not (backend.is_available() and backend.enabled):
        return False
    return bool(getattr(torch.cpu, f"_is_{instructions}_supported", lambda: False)())
