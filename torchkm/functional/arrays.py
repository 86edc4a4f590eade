"""Arrays as a public door accepts them: each error names what came and what was expected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels import CsrRows, Rows, compute_dtype

ROW_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8)
ROW_NAMES = "float32, float64, bfloat16, float16 or uint8"

# Bytes of the widest number that a tensor can hold.
_WIDEST = 8

# Numbers that are looked through before torch's threads are awake, of what NumPy knows.
_FEW, _IN_NUMPY = 2**17, (torch.float32, torch.float64)

# Sums of weights times rows are taken in float32 as well: the largest weight is to lie between.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-15, 1e15


def as_rows(x: Any, name: str = "x") -> Tensor:
    """Return ``x`` as a checked ``(n, d)`` tensor of finite numbers, copied only where it must be.

    Raises:
        TypeError: as ``as_matrix``.
        ValueError: as ``as_matrix`` and ``check_finite``.
    """
    rows = as_matrix(x, name)
    check_finite(rows, name)
    return rows


def as_matrix(x: Any, name: str = "x") -> Tensor:
    """Return ``x`` as an ``(n, d)`` tensor without looking at its values.

    Raises:
        TypeError: not an array of float or uint8 numbers.
        ValueError: not two-dimensional, or empty.
    """
    rows = as_tensor(x, name)
    if rows.dtype not in ROW_DTYPES:
        raise TypeError(f"{name} must hold {ROW_NAMES} numbers, got {_name_of(rows.dtype)}")
    if rows.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {_shape(rows)}")
    if rows.numel() == 0:
        raise ValueError(f"{name} must have at least one row and one column, got {_shape(rows)}")
    return rows


def as_tensor(value: Any, name: str) -> Tensor:
    """Return ``value`` as a dense tensor of real numbers, copied only where it must be.

    A NumPy array that is read-only, or whose strides a tensor cannot express, is copied.

    Raises:
        TypeError: not an array of numbers, or a sparse one.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
        return value.detach()
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} must be a dense array, got a sparse {type(value).__name__}")
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise TypeError(f"{name} must be an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > _WIDEST:
        raise TypeError(f"{name} must hold real numbers, got an array of dtype {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    expressible = native.flags.writeable and all(
        stride >= 0 and stride % native.itemsize == 0 for stride in native.strides
    )
    return torch.from_numpy(native if expressible else native.copy())


def check_finite(rows: Rows, name: str = "x", dtype: torch.dtype | None = None) -> None:
    """Raise where ``rows (n, d)`` hold NaN, infinity or a number too large to square.

    Args:
        rows: ``(n, d)``.
        name: what the message calls them.
        dtype: in which they are to be squared; None is the one that they are computed in.

    Raises:
        ValueError: the message counts the rows and names the first.
    """
    dtype = dtype or compute_dtype(rows.dtype)
    # A squared distance is at most d (2 largest)^2, and an expanded one passes through twice that.
    most = (torch.finfo(dtype).max / (8 * rows.shape[1])) ** 0.5
    numbers = rows.values if isinstance(rows, CsrRows) else rows
    if _sum_of_squares(numbers) <= most**2:
        return
    largest = _largest(numbers)
    if np.isfinite(largest):
        if largest <= most:
            return
        raise ValueError(
            f"{name} must be small enough to square in {_name_of(dtype)}, "
            f"got values up to {largest:g}"
        )
    each = rows.largest if isinstance(rows, CsrRows) else rows.abs().amax(dim=1)
    bad = ~torch.isfinite(each)  # (n,)
    first = int(bad.to(torch.uint8).argmax())
    raise ValueError(
        f"{name} must be finite: {int(bad.sum())} of {len(rows)} rows hold NaN or infinity, "
        f"the first is row {first}"
    )


def as_centroids(centroids: Any, x: Rows, name: str = "centroids") -> Tensor:
    """Return ``centroids`` as a checked ``(k, d)`` tensor in the dtype to compute in with ``x``.

    Raises:
        TypeError: not float numbers.
        ValueError: wrong rank, width or device, empty, or not finite.
    """
    centroids = as_rows(centroids, name)
    if not centroids.is_floating_point():
        raise TypeError(f"{name} must hold float numbers, got {_name_of(centroids.dtype)}")
    if centroids.shape[1] != x.shape[1]:
        raise ValueError(
            f"{name} must be as wide as the rows: expected (k, {x.shape[1]}) "
            f"for x {_shape(x)}, got {_shape(centroids)}"
        )
    check_same_device(x, centroids, name)
    return centroids.to(compute_dtype(x.dtype, centroids.dtype))


def as_init(init: Any, k: int, x: Rows) -> Tensor:
    """Return given centroids ``(k, d)`` in the dtype that rows ``x (n, d)`` are computed in.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape or device, or not finite.
    """
    given = as_tensor(init, "init")
    if given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"init must hold real numbers, got {_name_of(given.dtype)}")
    centroids = as_centroids(given.to(compute_dtype(x.dtype)), x, "init")
    if len(centroids) != k:
        raise ValueError(f"init must give k={k} centroids, got an array of shape {_shape(given)}")
    return centroids


def as_sample_weight(sample_weight: Any, x: Rows) -> Tensor | None:
    """Return ``sample_weight`` as a checked ``(n,)`` tensor in float32 or better, or None.

    It is contiguous: kernels read weights one after the other.

    Raises:
        TypeError: not real numbers.
        ValueError: wrong shape or device, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return None
    weight = as_tensor(sample_weight, "sample_weight")
    if weight.is_complex():
        raise TypeError(f"sample_weight must hold real numbers, got {_name_of(weight.dtype)}")
    if weight.shape != x.shape[:1]:
        raise ValueError(
            f"sample_weight must have shape ({len(x)},), one per row of x, got {_shape(weight)}"
        )
    check_same_device(x, weight, "sample_weight")
    weight = (weight if weight.dtype == torch.float64 else weight.float()).contiguous()
    low, high = (float(v) for v in torch.aminmax(weight))
    if not np.isfinite([low, high]).all():
        raise ValueError("sample_weight must be finite, got NaN or infinity")
    if low < 0:
        raise ValueError(f"sample_weight must be non-negative, got a smallest weight of {low:g}")
    if high == 0:
        raise ValueError("sample_weight must have a positive weight, got only zeros")
    if not _SMALLEST_WEIGHT <= high <= _LARGEST_WEIGHT:
        raise ValueError(
            f"sample_weight must have its largest between {_SMALLEST_WEIGHT:g} and "
            f"{_LARGEST_WEIGHT:g}, got {high:g}: scale all of them alike"
        )
    return weight


def as_labels(labels: Any, x: Rows, k: int | None = None, name: str = "labels") -> Tensor:
    """Return ``labels`` as a checked int64 ``(n,)`` tensor with values in ``[0, k)``.

    Raises:
        TypeError: not integers.
        ValueError: wrong shape or device, or out of range.
    """
    labels = as_index(labels, name)
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(x)},), one per row of x, got {_shape(labels)}"
        )
    check_same_device(x, labels, name)
    if k is not None and int(labels.max()) >= k:
        raise ValueError(f"{name} must lie in [0, {k}), got {int(labels.max())}")
    return labels


def as_index(index: Any, name: str) -> Tensor:
    """Return ``index`` as a checked int64 ``(n,)`` tensor of values from 0.

    Raises:
        TypeError: not integers.
        ValueError: another rank, empty, or negative.
    """
    index = as_tensor(index, name)
    _check_vector(index, name)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {_name_of(index.dtype)}")
    index = index.to(torch.int64)
    if int(index.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {int(index.min())}")
    return index


def as_values(values: Any, name: str) -> Tensor:
    """Return ``values`` as a checked ``(n,)`` tensor of floats from 0.

    Raises:
        TypeError: not real floats.
        ValueError: another rank, empty, negative or not finite.
    """
    values = as_tensor(values, name)
    if not values.is_floating_point():
        raise TypeError(f"{name} must hold float numbers, got {_name_of(values.dtype)}")
    _check_vector(values, name)
    bad = values[~((values >= 0) & torch.isfinite(values))]
    if len(bad):
        raise ValueError(f"{name} must be finite and not negative, got {bad[0].item():g}")
    return values


def as_device(device: Any, x: Rows) -> torch.device:
    """Return the device of a name, or that of rows ``x`` for None.

    Raises:
        ValueError: no such device here, or sparse rows, which stay where they are.
    """
    if device is None:
        return x.device
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one that torch has here, got {device!r}: {reason}"
        ) from error
    if isinstance(x, CsrRows) and found != x.device:
        raise ValueError(f"sparse rows stay where they are, on {x.device}, got device={device!r}")
    return found


def check_same_device(x: Rows, other: Tensor, name: str) -> None:
    """Raise where ``other`` does not lie on the device of the rows.

    Raises:
        ValueError: the two devices differ.
    """
    if other.device != x.device:
        raise ValueError(
            f"{name} must lie on the device of the rows: expected {x.device}, got {other.device}"
        )


def _check_vector(x: Tensor, name: str) -> None:
    if x.ndim != 1 or x.numel() == 0:
        raise ValueError(f"{name} must have shape (n,) with n above 0, got {_shape(x)}")


def _sum_of_squares(numbers: Tensor) -> float:
    """Return what no square exceeds, if a CPU finds that sooner than the largest."""
    on_cpu = numbers.device.type == "cpu" and numbers.is_contiguous()
    if not on_cpu or numbers.dtype not in _IN_NUMPY:
        return math.inf
    row = numbers.detach().view(-1)
    if len(row) <= _FEW:
        return float(np.einsum("i,i->", row.numpy(), row.numpy()))
    return torch.dot(row, row).item()


def _largest(numbers: Tensor) -> float:
    """Return the largest absolute number; NaN where there is one."""
    if not numbers.is_floating_point() or numbers.numel() == 0:
        return 0.0
    low, high = torch.stack(torch.aminmax(numbers)).tolist()
    return max(abs(low), abs(high))  # NaN is both


def _shape(x: Rows) -> str:
    return str(tuple(x.shape))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
