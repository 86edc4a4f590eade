"""Kinds of arrays: what came in becomes a tensor, and what goes out is of the same kind again."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from torchkm.functional.arrays import as_sample_weight, as_tensor
from torchkm.functional.csr import as_csr, is_sparse
from torchkm.kernels import Rows

# What rows of NumPy's are computed in; all others become the first.
_FLOATS = [np.dtype(np.float64), np.dtype(np.float32)]

_NUMPY, _TORCH = "NumPy array", "torch tensor"


@dataclass(frozen=True)
class Kind:
    """A family of arrays that may stand together in one call.

    Attributes:
        name: how an error calls it.
        device: where its arrays lie.
        give: makes an array of this kind of a tensor.
    """

    name: str
    device: torch.device
    give: Callable[[Tensor], Any]

    def labels(self, labels: Tensor) -> Any:
        """Return ``labels (n,)`` as this kind has them: int32 in NumPy, as from scikit-learn."""
        return self.give(labels.int() if self.name == _NUMPY else labels)

    def shown(self, rows: Tensor) -> Any:
        """Return rows of the core as a caller's function is to see them."""
        if rows.layout == torch.strided or self.name != _NUMPY:
            return self.give(rows)
        fields = (rows.values(), rows.col_indices(), rows.crow_indices())
        return csr_array(tuple(field.numpy() for field in fields), rows.shape)

    def tensor(self, value: Any, name: str) -> Tensor:
        """Return another array of the same call as a tensor; lists go with any kind.

        Raises:
            TypeError: an array of another kind than ``X``.
        """
        came = _TORCH if isinstance(value, (list, tuple)) else _name_of(value)
        if isinstance(value, (list, tuple)) or came == self.name == _NUMPY:
            return as_tensor(_in_numbers(value, name), name).to(self.device)
        if came != self.name:
            raise TypeError(f"{name} must be of the kind of X, a {self.name}; got a {came}")
        return value if isinstance(value, Tensor) else from_dlpack(value)


class Data(NamedTuple):
    """What one call was given.

    Attributes:
        rows: dense ``(n, d)``, or CSR; on the device to compute on.
        weight: ``(n,)``, or None where all rows count once.
        kind: of what came, and so of what is given back.
    """

    rows: Rows
    weight: Tensor | None
    kind: Kind

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.rows.device


def tensor_of(learnt: Any) -> Tensor:
    """Return what an estimator learnt, an array of any kind, as a tensor."""
    if _name_of(learnt) == _NUMPY:
        return as_tensor(learnt, "array")
    return learnt if isinstance(learnt, Tensor) else from_dlpack(learnt)


def numpy_of(learnt: Any) -> Any:
    """Return what an estimator learnt as a NumPy array of its own; what is no array stays."""
    if isinstance(learnt, np.ndarray):
        return learnt.copy()
    return tensor_of(learnt).cpu().numpy().copy() if is_array(learnt) else learnt


def is_array(value: Any) -> bool:
    """Return whether ``value`` is an array of numbers of some kind."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub"
    return isinstance(value, Tensor) or _name_of(value) != _NUMPY


def read(estimator: BaseEstimator, X: Any, sample_weight: Any = None, *, reset: bool) -> Data:
    """Return what a call of ``estimator`` was given, checked, where it is to be computed.

    Raises:
        TypeError: as ``read_rows``; weights of another kind than the rows.
        ValueError: as ``read_rows``; weights of a wrong shape, negative, or all zero.
    """
    rows, kind = read_rows(estimator, X, reset=reset)
    weight = _weight(rows, kind, sample_weight)
    device = estimator.device
    if device is None:
        return Data(rows, weight, kind)
    if not isinstance(rows, Tensor):
        if torch.device(device).type != "cpu":
            raise ValueError(f"device must be None or 'cpu' for sparse rows, got {device!r}")
        return Data(rows, weight, kind)
    return Data(rows.to(device), None if weight is None else weight.to(device), kind)


def read_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> tuple[Rows, Kind]:
    """Return ``X`` as rows for the core, dense or CSR, and its kind.

    Sets ``n_features_in_`` and, for frames, ``feature_names_in_``, or checks against them.

    Raises:
        TypeError: sparse rows of another format than can be made CSR, numbers that are not real.
        ValueError: what ``sklearn.utils.validation.validate_data`` refuses.
    """
    name = _name_of(X)
    if name == _NUMPY:
        rows = X if _is_as_wanted(estimator, X, reset) else _validated(estimator, X, reset)
        kind = Kind(name, torch.device("cpu"), lambda tensor: tensor.cpu().numpy())
        return (as_tensor(rows, "X") if isinstance(rows, np.ndarray) else as_csr(rows, "X")), kind
    tensor = X if isinstance(X, Tensor) else from_dlpack(X)
    if tensor.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {tensor.ndim}D array instead: X has shape "
            f"{tuple(tensor.shape)}. Reshape your data either using X.reshape(-1, 1) if it has a "
            "single feature or X.reshape(1, -1) if it contains a single sample."
        )
    validate_data(estimator, tensor, reset=reset, skip_check_array=True)
    if not tensor.is_floating_point() and tensor.dtype in _WHOLE:
        tensor = tensor.double()
    device = tensor.device
    if isinstance(X, Tensor):
        rows = as_csr(X, "X") if is_sparse(X) else tensor.detach()
        return rows, Kind(name, device, lambda tensor: tensor.to(device))
    return tensor, Kind(name, device, _giver(X, device))


# Whole numbers that become float64, as in scikit-learn; uint8 rows are read as they are.
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


def _is_as_wanted(estimator: BaseEstimator, X: Any, reset: bool) -> bool:
    """Return whether ``validate_data`` would let ``X`` pass, and do no more than note its width.

    Which takes longer than labels for a thousand narrow rows.
    """
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in _FLOATS:
        return False
    if X.size == 0 or not X.flags.c_contiguous or hasattr(estimator, "feature_names_in_"):
        return False
    if reset:
        estimator.n_features_in_ = X.shape[1]
    return bool(getattr(estimator, "n_features_in_", None) == X.shape[1])


def _validated(estimator: BaseEstimator, X: Any, reset: bool) -> Any:
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=_FLOATS,
        order="C",
        ensure_all_finite=False,  # the core sees it as it measures them
    )


def _weight(rows: Rows, kind: Kind, sample_weight: Any) -> Tensor | None:
    """Return ``sample_weight (n,)``; None where every row counts once."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        sample_weight = [float(sample_weight)] * rows.shape[0]
    weight = kind.tensor(sample_weight, "sample_weight")
    checked = as_sample_weight(weight.double() if rows.dtype == torch.float64 else weight, rows)
    return None if checked is None or bool((checked == 1).all()) else checked


def _in_numbers(value: Any, name: str) -> NDArray[Any]:
    """Return an array whose numbers a tensor can hold: of objects, or wider ones, as float64.

    Raises:
        ValueError: what is no number.
    """
    try:
        array = np.asarray(value)
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
        return array.astype(np.float64) if wide or array.dtype.kind in "OSU" else array
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error


def _name_of(value: Any) -> str:
    """Return the kind of an array; whatever NumPy can read is a NumPy array."""
    if isinstance(value, Tensor):
        return _TORCH
    if isinstance(value, np.ndarray):  # also where a library has made a class of its own of it
        return _NUMPY
    module = type(value).__module__.partition(".")[0]
    if hasattr(value, "__dlpack__") and module not in ("numpy", "polars", "pandas", "pyarrow"):
        return f"{module} array"
    return _NUMPY


def _giver(example: Any, device: torch.device) -> Callable[[Tensor], Any]:
    """Return what makes arrays like ``example`` of tensors, or tensors where it cannot be told."""
    space = example.__array_namespace__() if hasattr(example, "__array_namespace__") else torch
    return lambda tensor: space.from_dlpack(tensor.to(device))
