"""The two geometries: squared Euclidean distance, and cosine as Euclidean on the unit sphere.

On unit rows ``|x - c|^2 = 2 - 2 cos(x, c)``, so spherical k-means is k-means on unit rows whose
centroids go back to the sphere after each update (Dhillon and Modha 2001,
doi:10.1023/A:1007612920971).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.checks import check_known

METRICS = ("cosine", "euclidean")

# By how many units in the last place a mean of equal numbers may miss them. Sums are in float64,
# so that those of float32 numbers are exact, and only the shift and the result have been rounded.
_UNITS_OF_SUMS = {torch.float32: 2, torch.float64: 64}


def uses_unit_rows(metric: str) -> bool:
    """Return whether ``metric`` measures rows on the unit sphere.

    Raises:
        ValueError: an unknown metric.
    """
    return check_known("metric", metric, METRICS) == "cosine"


def unit(x: Tensor) -> Tensor:
    """Scale the rows of a float ``x (n, d)`` to length one; a row of zeros stays as it is.

    Example:
        >>> import torch
        >>> unit(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return kernels.unit(x)


def sq_movements(start: Tensor, end: Tensor, origin: Tensor) -> Tensor:
    """Return the squared movements ``(m,)`` from centroids ``start (m, d)`` to ``end (m, d)``.

    Numbers that moved no further than rounding can take them count as unmoved. The mean of rows
    measured from ``origin (d,)`` is off by the last place of each number, and of what was added up.
    """
    apart = end - start
    of_number, of_sum = rounding_of_means(start.dtype)
    limit = of_number * start.abs() + of_sum * (start - origin.to(start.dtype)).abs()
    return torch.where(apart.abs() > limit, apart, 0).square().sum(1)


def rounding_of_means(dtype: torch.dtype) -> tuple[float, float]:
    """Return the share of a number that a mean may miss it by, and of its way from the origin."""
    eps = torch.finfo(dtype).eps
    return eps, _UNITS_OF_SUMS[dtype] * eps


def most_rounding(start: Tensor, origin: Tensor) -> float:
    """Return a sum of squares that ``sq_movements`` from near ``start (m, d)`` takes in full.

    What it might leave out of one that large is less than a millionth.
    """
    largest = float(start.abs().max()) + float(origin.abs().max())
    limit = 2 * rounding_of_means(start.dtype)[1] * largest
    return 1e6 * start.numel() * limit * limit


def check_directions(x: kernels.Rows, metric: str, name: str = "x") -> None:
    """Raise where ``metric`` needs directions and a row of ``x (n, d)`` has none.

    Raises:
        ValueError: a row of zeros under ``"cosine"``.
    """
    if not uses_unit_rows(metric):
        return
    zero = _largest(x) == 0  # (n,)
    if bool(zero.any()):
        first = int(zero.to(torch.uint8).argmax())
        raise ValueError(
            f'metric "cosine" needs rows with a direction: {int(zero.sum())} of {len(x)} rows '
            f"of {name} are all zero, the first is row {first}"
        )


def _largest(x: kernels.Rows) -> Tensor:
    """Return the largest absolute number of each row, ``(n,)``."""
    if isinstance(x, kernels.CsrRows):
        return x.largest
    low, high = torch.aminmax(x, dim=1)
    return torch.maximum(low.abs(), high.abs())


def centroids_on(metric: str, centroids: Tensor, fallback: Tensor) -> Tensor:
    """Bring ``centroids (k, d)`` back to where ``metric`` keeps them.

    A mean of opposite directions is zero and points nowhere: that centroid stays at ``fallback``.
    """
    if not uses_unit_rows(metric):
        return centroids
    lost = centroids.abs().amax(dim=1, keepdim=True) == 0  # (k, 1)
    return torch.where(lost, fallback, unit(centroids))
