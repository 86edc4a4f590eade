"""Sparse rows as a public door accepts them: CSR from SciPy, known by its fields, or from torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import ROW_DTYPES, ROW_NAMES, as_tensor
from torchkm.kernels import CsrRows, compute_dtype


def is_sparse(x: Any) -> bool:
    """Return whether ``x`` is a sparse matrix or tensor, of whatever form."""
    if isinstance(x, CsrRows):
        return True
    return x.layout != torch.strided if isinstance(x, Tensor) else hasattr(x, "tocsr")


def as_csr(x: Any, name: str = "x") -> CsrRows:
    """Return the sparse ``x`` as checked CSR rows ``(n, d)``, in float32 or float64.

    Numbers are shared with ``x`` where they can be. Several at one place are added up.

    Raises:
        TypeError: another form than CSR, or other than float or uint8 numbers.
        ValueError: not two-dimensional, empty, or fields that do not fit together.
    """
    if isinstance(x, CsrRows):  # checked before
        return x
    crow, cols, values = (as_tensor(field, name) for field in _fields(x, name))
    if values.dtype not in ROW_DTYPES:
        dtype = str(values.dtype).removeprefix("torch.")
        raise TypeError(f"{name} must hold {ROW_NAMES} numbers, got {dtype}")
    if len(x.shape) != 2:
        raise ValueError(f"{name} must have shape (n, d), got {tuple(x.shape)}")
    n, d = x.shape
    if n == 0 or d == 0:
        raise ValueError(f"{name} must have at least one row and one column, got {(n, d)}")
    if crow.dtype != cols.dtype:
        crow, cols = crow.long(), cols.long()
    _check_fields(crow, cols, values, (n, d), name)
    n_values = int(crow[-1])
    values = values[:n_values].to(compute_dtype(values.dtype))
    return _without_repeats(CsrRows(crow, cols[:n_values], values, d))


def _fields(x: Any, name: str) -> tuple[Any, Any, Any]:
    """Return where rows start, columns and numbers."""
    if isinstance(x, Tensor):
        if x.layout != torch.sparse_csr:
            raise TypeError(
                f"{name} must be dense or CSR, got layout {x.layout}: "
                "convert it with .to_sparse_csr()"
            )
        x = x.detach()
        return x.crow_indices(), x.col_indices(), x.values()
    if getattr(x, "format", None) != "csr":
        raise TypeError(
            f"{name} must be dense or CSR, got a {type(x).__name__}: convert it with .tocsr()"
        )
    return x.indptr, x.indices, x.data


def _check_fields(
    crow: Tensor, cols: Tensor, values: Tensor, shape: tuple[int, int], name: str
) -> None:
    """Raise where a kernel would read beside the fields of rows ``(n, d)``."""
    n, d = shape
    fits = crow.shape == (n + 1,) and cols.ndim == 1 and cols.shape == values.shape
    fits = fits and int(crow[0]) == 0 and int(crow[-1]) <= len(cols)
    if not fits or bool((crow.diff() < 0).any()):
        raise ValueError(f"{name} must be a valid CSR matrix: its rows do not fit its numbers")
    if len(cols) and not 0 <= int(cols.min()) <= int(cols.max()) < d:
        raise ValueError(
            f"{name} must be a valid CSR matrix: columns must lie in [0, {d}), "
            f"got {int(cols.min())} to {int(cols.max())}"
        )


def _without_repeats(rows: CsrRows) -> CsrRows:
    """Return rows whose columns rise: sorted and, where one comes again, added up."""
    starts = rows.crow[1:-1]
    starts = starts[(starts > 0) & (starts < len(rows.cols))]
    rises = rows.cols.diff() > 0
    rises[starts.long() - 1] = True  # from one row to the next anything goes
    if bool(rises.all()):
        return rows
    n, d = rows.shape
    places = rows.per_value(torch.arange(n, device=rows.device) * d) + rows.cols
    places, at = torch.unique(places, return_inverse=True)
    values = rows.values.new_zeros(len(places)).index_add_(0, at, rows.values)
    crow = torch.searchsorted(places, torch.arange(n + 1, device=rows.device) * d)
    return CsrRows(crow, places % d, values, d)
