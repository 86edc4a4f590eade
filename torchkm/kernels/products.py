"""Products of small matrices, which are done before a call of torch's has found its kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Numbers multiplied, at most: NumPy's library gives larger products to threads of its own, which
# then keep torch's from working.
SMALL = 2**18


def multiply(left: NDArray[Any], right: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
    """Return the product of ``left (a, b)`` and ``right (b, c)``, written to ``out (a, c)``."""
    if len(left) * right.size <= SMALL:
        return np.matmul(left, right, out=out)
    torch.mm(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(out))
    return out
