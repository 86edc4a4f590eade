"""What a public door accepts: each check names what came and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm.kernels import compute_dtype

ROW_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8)
_ROW_NAMES = "float32, float64, bfloat16, float16 or uint8"


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

    A NumPy array that is read-only or has negative strides is copied, because a tensor can
    express neither.

    Raises:
        TypeError: not an array of float or uint8 numbers.
        ValueError: not two-dimensional, or empty.
    """
    rows = _as_tensor(x, name)
    if rows.dtype not in ROW_DTYPES:
        raise TypeError(f"{name} must hold {_ROW_NAMES} numbers, got {_dtype_name(rows)}")
    if rows.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {_shape(rows)}")
    if rows.numel() == 0:
        raise ValueError(f"{name} must have at least one row and one column, got {_shape(rows)}")
    return rows


def check_finite(rows: Tensor, name: str = "x") -> None:
    """Raise where ``rows (n, d)`` hold NaN, infinity or a number too large to square.

    Raises:
        ValueError: the message counts the rows and names the first.
    """
    if not rows.is_floating_point():
        return
    largest = torch.stack(torch.aminmax(rows)).abs().max().item()  # NaN comes through
    if np.isfinite(largest):
        _check_squares(largest, rows, name)
        return
    bad = ~torch.isfinite(rows).all(dim=1)  # (n,)
    first = int(bad.to(torch.uint8).argmax())
    raise ValueError(
        f"{name} must be finite: {int(bad.sum())} of {len(rows)} rows hold NaN or infinity, "
        f"the first is row {first}"
    )


def as_centroids(centroids: Any, x: Tensor, name: str = "centroids") -> Tensor:
    """Return ``centroids`` as a checked ``(k, d)`` tensor in the dtype to compute in with ``x``.

    Raises:
        TypeError: not float numbers.
        ValueError: wrong rank, width or device, empty, or not finite.
    """
    centroids = as_rows(centroids, name)
    if not centroids.is_floating_point():
        raise TypeError(f"{name} must hold float numbers, got {_dtype_name(centroids)}")
    if centroids.shape[1] != x.shape[1]:
        raise ValueError(
            f"{name} must be as wide as the rows: expected (k, {x.shape[1]}) "
            f"for x {_shape(x)}, got {_shape(centroids)}"
        )
    check_same_device(x, centroids, name)
    return centroids.to(compute_dtype(x.dtype, centroids.dtype))


def as_sample_weight(sample_weight: Any, x: Tensor) -> Tensor | None:
    """Return ``sample_weight`` as a checked ``(n,)`` tensor in float32 or better, or None.

    Raises:
        TypeError: not real numbers.
        ValueError: wrong shape or device, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return None
    weight = _as_tensor(sample_weight, "sample_weight")
    if weight.is_complex():
        raise TypeError(f"sample_weight must hold real numbers, got {_dtype_name(weight)}")
    if weight.shape != x.shape[:1]:
        raise ValueError(
            f"sample_weight must have shape ({len(x)},), one per row of x, got {_shape(weight)}"
        )
    check_same_device(x, weight, "sample_weight")
    weight = weight if weight.dtype == torch.float64 else weight.float()
    low, high = (float(v) for v in torch.aminmax(weight))
    if not np.isfinite([low, high]).all():
        raise ValueError("sample_weight must be finite, got NaN or infinity")
    if low < 0:
        raise ValueError(f"sample_weight must be non-negative, got a smallest weight of {low:g}")
    if high == 0:
        raise ValueError("sample_weight must have a positive weight, got only zeros")
    return weight


def as_labels(labels: Any, x: Tensor, k: int | None = None) -> Tensor:
    """Return ``labels`` as a checked int64 ``(n,)`` tensor with values in ``[0, k)``.

    Raises:
        TypeError: not integers.
        ValueError: wrong shape or device, or out of range.
    """
    labels = as_index(labels, "labels")
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(x)},), one per row of x, got {_shape(labels)}"
        )
    check_same_device(x, labels, "labels")
    if k is not None and int(labels.max()) >= k:
        raise ValueError(f"labels must lie in [0, {k}), got {int(labels.max())}")
    return labels


def as_index(index: Any, name: str) -> Tensor:
    """Return ``index`` as a checked int64 ``(n,)`` tensor of values from 0.

    Raises:
        TypeError: not integers.
        ValueError: another rank, empty, or negative.
    """
    index = _as_tensor(index, name)
    _check_vector(index, name)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {_dtype_name(index)}")
    index = index.to(torch.int64)
    if int(index.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {int(index.min())}")
    return index


def as_values(values: Any, name: str) -> Tensor:
    """Return ``values`` as a checked ``(n,)`` tensor of floats.

    Raises:
        TypeError: not real floats.
        ValueError: another rank, or empty.
    """
    values = _as_tensor(values, name)
    if not values.is_floating_point():
        raise TypeError(f"{name} must hold float numbers, got {_dtype_name(values)}")
    _check_vector(values, name)
    return values


def check_k(k: Any, n: int | None = None) -> int:
    """Return ``k`` as an int, at least 1 and at most the number of rows ``n``.

    Raises:
        TypeError: not an integer.
        ValueError: below 1, or above ``n``.
    """
    k = check_integer("k", k, 1)
    if n is not None and k > n:
        raise ValueError(f"k must be at most the number of rows: got k={k} for n={n}")
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


def check_number(name: str, value: Any, least: float, *, above: bool = False) -> float:
    """Return ``value`` as a finite float of at least (or ``above``) ``least``.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    number = float(value)
    if not np.isfinite(number) or number < least or (above and number == least):
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


def check_same_device(x: Tensor, other: Tensor, name: str) -> None:
    """Raise where ``other`` does not lie on the device of the rows.

    Raises:
        ValueError: the two devices differ.
    """
    if other.device != x.device:
        raise ValueError(
            f"{name} must lie on the device of the rows: expected {x.device}, got {other.device}"
        )


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got an array of dtype {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    expressible = native.flags.writeable and all(stride >= 0 for stride in native.strides)
    return torch.from_numpy(native if expressible else native.copy())


def _check_vector(x: Tensor, name: str) -> None:
    if x.ndim != 1 or x.numel() == 0:
        raise ValueError(f"{name} must have shape (n,) with n above 0, got {_shape(x)}")


def _check_squares(largest: float, rows: Tensor, name: str) -> None:
    dtype = compute_dtype(rows.dtype)
    # A squared distance is at most d (2 largest)^2, and an expanded one passes through twice that.
    if largest > (torch.finfo(dtype).max / (8 * rows.shape[1])) ** 0.5:
        raise ValueError(
            f"{name} must be small enough to square in {str(dtype).removeprefix('torch.')}, "
            f"got values up to {largest:g}"
        )


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _dtype_name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
