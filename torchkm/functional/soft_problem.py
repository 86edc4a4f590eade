"""The rows of a soft k-means problem, as every step is given them, and what may come in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.checks import check_number
from torchkm.functional.geometry import uses_unit_rows
from torchkm.functional.ranks import Ranks
from torchkm.kernels import compute_dtype


@dataclass(frozen=True)
class SoftProblem:
    """Rows as soft assignment takes them, and how it measures them.

    Attributes:
        x: ``(*batch, n, d)``, in float32 or float64; under cosine of unit length.
        sample_weight: ``(*batch, n)``, or None where each row counts once.
        temperature: ``(*batch, 1, 1)``.
        metric: ``"euclidean"`` or ``"cosine"``.
        recompute: whether a backward pass computes responsibilities again, or finds them kept.
        ranks: the processes that the rows are spread over, or None.
    """

    x: Tensor
    sample_weight: Tensor | None
    temperature: Tensor
    metric: str
    recompute: bool = True
    ranks: Ranks | None = None

    @property
    def unit_rows(self) -> bool:
        """Whether rows and centroids are of unit length."""
        return uses_unit_rows(self.metric)

    @property
    def weight(self) -> Tensor:
        """The weights, ``(*batch, n)``; ones where there are none."""
        if self.sample_weight is None:
            return self.x.new_ones(self.x.shape[:-1])
        return self.sample_weight

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of what each rank knows of its rows."""
        return value if self.ranks is None else self.ranks.sum(value)

    def of(self, x: Tensor, weight: Tensor, temperature: Tensor) -> SoftProblem:
        """Return the same problem of other tensors."""
        return replace(self, x=x, sample_weight=weight, temperature=temperature)


def as_soft_problem(
    x: Any, centroids: Any, temperature: Any, sample_weight: Any, metric: str
) -> tuple[SoftProblem, Tensor]:
    """Return the problem and the centroids ``(*batch, k, d)``, checked and in one dtype.

    Raises:
        TypeError: as ``responsibilities``.
        ValueError: as ``responsibilities``.
    """
    x = as_floats(x, "x", "(*batch, n, d)", 2)
    centroids = as_floats(centroids, "centroids", "(*batch, k, d)", 2)
    dtype = compute_dtype(x.dtype, centroids.dtype)
    batch = _broadcast(x, centroids)
    x, centroids = x.to(dtype), centroids.to(dtype).expand(*batch, *centroids.shape[-2:])
    if uses_unit_rows(metric):
        x, centroids = (torch.nn.functional.normalize(t, dim=-1) for t in (x, centroids))
    x = x.expand(*batch, *x.shape[-2:])
    weight = as_weights(sample_weight, x)
    return SoftProblem(x, weight, as_temperature(temperature, x), metric), centroids


def as_floats(value: Any, name: str, shape: str, ndim: int) -> Tensor:
    """Return a tensor of float numbers, of ``ndim`` dimensions or more.

    Raises:
        TypeError: something else.
        ValueError: fewer dimensions, or no numbers; the message has the ``shape`` to give.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        what = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of float numbers, got {what}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
    if value.ndim < ndim or value.numel() == 0:
        raise ValueError(f"{name} must have shape {shape} and numbers, got {tuple(value.shape)}")
    return value


def as_weights(sample_weight: Any, x: Tensor) -> Tensor | None:
    """Return weights ``(*batch, n)`` of rows ``x (*batch, n, d)`` in their dtype, or None.

    Raises:
        TypeError: as ``as_floats``.
        ValueError: as ``as_floats``, or a shape that does not broadcast to ``(*batch, n)``.
    """
    if sample_weight is None:
        return None
    weight = as_floats(sample_weight, "sample_weight", "(*batch, n)", 1).to(x.dtype)
    try:
        if weight.shape[-1] == x.shape[-2]:
            return weight.expand(x.shape[:-1])
    except RuntimeError:  # of other batches
        pass
    raise ValueError(
        f"sample_weight must have one number for each row: expected {tuple(x.shape[:-1])}, "
        f"got {tuple(weight.shape)}"
    )


def _broadcast(x: Tensor, centroids: Tensor) -> torch.Size:
    """Return the batch that rows and centroids make.

    Raises:
        ValueError: they do not fit.
    """
    if x.shape[-1] != centroids.shape[-1]:
        raise ValueError(
            f"centroids must be as wide as the rows: expected (..., {x.shape[-1]}), "
            f"got {tuple(centroids.shape)} for x {tuple(x.shape)}"
        )
    if x.device != centroids.device:
        raise ValueError(f"centroids must be on {x.device} as x is, got {centroids.device}")
    try:
        shapes = x.shape[:-2], centroids.shape[:-2]
        # torch gives this one function no types.
        return torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ValueError(
            f"x {tuple(x.shape)} and centroids {tuple(centroids.shape)} must be of batches that "
            "broadcast"
        ) from error


def as_temperature(temperature: Any, x: Tensor) -> Tensor:
    """Return the temperature as ``(*batch, 1, 1)``, for problems ``x (*batch, n, d)``.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a number not above 0 (those in a tensor are not looked at), or a shape that does
            not broadcast to ``(*batch,)``.
    """
    if not isinstance(temperature, Tensor):
        number = check_number("temperature", temperature, 0, above=True)
        return x.new_tensor(number).expand(*x.shape[:-2], 1, 1)
    given = temperature.to(x)
    try:
        return given.expand(x.shape[:-2]).unsqueeze(-1).unsqueeze(-1)
    except RuntimeError as error:
        raise ValueError(
            f"temperature must be one number, or one for each problem of {tuple(x.shape[:-2])}, "
            f"got shape {tuple(temperature.shape)}"
        ) from error
