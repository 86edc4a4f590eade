"""Number formats and block sizes: what each device is given to work on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from torchkm.kernels.csr import Rows

# Elements of rows plus scores held at once. On a CPU the block should stay in the last level of
# cache between the product, the minimum and the sums; a GPU needs enough rows to fill the chip.
_BLOCK_ELEMENTS = {"cpu": 2**20}
_BLOCK_ELEMENTS_ELSEWHERE = 2**26
_FEWEST_ROWS, _MOST_ROWS = 256, 2**13

# Rows whose scores lie side by side; see runs.py. A block is best made of whole runs.
RUN = 256

# Numbers turned into float64 at once to be added up: few on a CPU, where they should stay in cache.
_PART_ELEMENTS = {"cpu": 2**17}

# Enough that some rows far off do not move their median, and too few to cost time.
_ORIGIN_ROWS = 17

# A mean so many times as far from their median as half of them are costs half of float32's digits.
_FAR = 2**6


def compute_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 when any operand is."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype that counts, sums and inertia add in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def unit(rows: Tensor) -> Tensor:
    """Scale float ``rows (n, d)`` to length one; a row of zeros stays as it is.

    By their largest number first, so that no square vanishes or overflows.
    """
    tiny = torch.finfo(rows.dtype).tiny
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(tiny)


def most_square(dtype: torch.dtype, d: int) -> float:
    """Return what squares of rows of ``d`` numbers may come to.

    So far below overflow that the numbers themselves can be squared and added up.
    """
    return torch.finfo(dtype).max / (32 * d)


def sq_norms_of_centroids(centred: Tensor) -> Tensor:
    """Squared norms ``(k,)`` of centroids ``(k, d)``, on a CPU in the order of ``sq_norms_of``."""
    if centred.device.type != "cpu":
        return centred.square().sum(1)
    return torch.from_numpy(sq_norms_of(centred.numpy()))


def sq_norms_of(centred: NDArray[Any]) -> NDArray[Any]:
    """Squared norms ``(k,)``, added up in the order of NumPy and so of scikit-learn.

    Rows of whole numbers often have two centroids at the same distance. Rounding decides, and
    this is what makes it decide for both libraries alike.
    """
    norms: NDArray[Any] = np.einsum("ij,ij->i", centred, centred)
    return norms


def origin_of(x: Tensor, unit_rows: bool, mean: Tensor | None = None) -> Tensor:
    """Return a point ``(d,)`` amid the rows ``x (n, d)``: the median of some, evenly spaced.

    It stays there when single rows are far off, as their mean may not. Where the ``mean`` is given
    and lies amid these rows as well, it is that.
    """
    median, some = _median_of_some(x, unit_rows)
    if mean is None:
        return median
    *spread, off = (torch.cat([some, mean.unsqueeze(0)]) - median).square_().sum(1).tolist()
    return mean if off <= _FAR**2 * sorted(spread)[len(spread) // 2] else median


def _median_of_some(x: Tensor, unit_rows: bool) -> tuple[Tensor, Tensor]:
    """Return the median ``(d,)`` of some rows, and these ``(m, d)``."""
    rows = x[:: max(1, len(x) // _ORIGIN_ROWS)].to(compute_dtype(x.dtype))
    rows = unit(rows) if unit_rows else rows
    if rows.is_cuda:  # where a median is refused if algorithms are to be deterministic
        return rows.sort(dim=0).values[(len(rows) - 1) // 2], rows
    if rows.device.type == "cpu" and not torch.compiler.is_compiling():  # in a third of the time
        middle = np.sort(rows.detach().numpy(), axis=0)[(len(rows) - 1) // 2]
        return torch.from_numpy(middle), rows
    return rows.median(dim=0).values, rows


def rows_per_block(x: Rows, k: int) -> int:
    """Return how many rows of ``x (n, d)`` to score at once against ``k`` centroids."""
    return rows_of(x.shape[1] + k, x.device)


def rows_of(width: int, device: torch.device) -> int:
    """Return how many rows to hold at once where each takes ``width`` numbers."""
    budget = _BLOCK_ELEMENTS.get(device.type, _BLOCK_ELEMENTS_ELSEWHERE)
    rows = min(max(budget // width, _FEWEST_ROWS), _MOST_ROWS)
    return rows - rows % RUN if rows > RUN else rows


def rows_per_part(d: int, device: torch.device) -> int:
    """Return how many rows of a block to add up at once, of ``d`` numbers each."""
    budget = _PART_ELEMENTS.get(device.type, _BLOCK_ELEMENTS_ELSEWHERE)
    return min(max(budget // d, _FEWEST_ROWS), _MOST_ROWS)
