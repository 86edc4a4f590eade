"""The two geometries: squared Euclidean distance, and cosine as Euclidean on the unit sphere.

On unit rows ``|x - c|^2 = 2 - 2 cos(x, c)``, so spherical k-means is k-means on unit rows whose
centroids go back to the sphere after each update (Dhillon and Modha 2001,
doi:10.1023/A:1007612920971).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.functional.checks import check_known

METRICS = ("cosine", "euclidean")


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
    return torch.nn.functional.normalize(x, dim=1, eps=torch.finfo(x.dtype).tiny)


def rounding(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the squared distance ``(m,)`` of one unit in the last place of ``rows (m, d)``.

    Example:
        >>> import torch
        >>> rounding(torch.tensor([[1.0, 0.0]]), torch.float32).sqrt()
        tensor([1.1921e-07])
    """
    return torch.finfo(dtype).eps ** 2 * rows.square().sum(1)


def check_directions(x: Tensor, metric: str, name: str = "x") -> None:
    """Raise where ``metric`` needs directions and a row of ``x (n, d)`` has none.

    Raises:
        ValueError: a row of zeros under ``"cosine"``.
    """
    if not uses_unit_rows(metric):
        return
    low, high = torch.aminmax(x, dim=1)
    zero = (low == 0) & (high == 0)  # (n,)
    if bool(zero.any()):
        first = int(zero.to(torch.uint8).argmax())
        raise ValueError(
            f'metric "cosine" needs rows with a direction: {int(zero.sum())} of {len(x)} rows '
            f"of {name} are all zero, the first is row {first}"
        )


def centroids_on(metric: str, centroids: Tensor, fallback: Tensor) -> Tensor:
    """Bring ``centroids (k, d)`` back to where ``metric`` keeps them.

    A mean of opposite directions is zero and points nowhere: that centroid stays at ``fallback``.
    """
    if not uses_unit_rows(metric):
        return centroids
    lost = centroids.abs().amax(dim=1, keepdim=True) == 0  # (k, 1)
    return torch.where(lost, fallback, unit(centroids))
