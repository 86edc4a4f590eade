"""Estimators as safetensors files: tensors, and what describes them as JSON in the header.

Nothing is pickled, so nothing in a file can run. The header holds

| key | is |
|---|---|
| ``format``, ``version`` | ``"torchkm.cluster"`` and the number of this layout |
| ``estimator`` | the name of the class |
| ``parameters``, ``learnt`` | JSON objects; an array is ``{"array": kind, "tensor": name}`` |
| ``output`` | what ``set_output`` was told, a JSON object |
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm.cluster.base import OUTPUT, is_learnt
from torchkm.cluster.kinds import is_array, tensor_of

_FORMAT, _VERSION = "torchkm.cluster", "1"
_NUMPY, _TORCH = "numpy", "torch"


def save(estimator: Any, path: str | PathLike[str]) -> None:
    """Write the parameters of ``estimator`` and what it has learnt.

    Raises:
        TypeError: a parameter that is neither numbers nor a name; the message names it.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    learnt = {name: value for name, value in vars(estimator).items() if is_learnt(name)}
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "estimator": type(estimator).__name__,
        "parameters": _write(estimator.get_params(deep=False), tensors),
        "learnt": _write(learnt, tensors),
        "output": json.dumps(getattr(estimator, OUTPUT, {})),
    }
    save_file(tensors, path, metadata=header)


def load(cls: Callable[..., Any], path: str | PathLike[str]) -> Any:
    """Return the estimator of class ``cls`` that a file holds.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: not such a file, damaged, of another version, of another class, or with
            parameters that this class does not have.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # An open file has keys() and is no mapping to go over.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:  # a folder is no device
        raise ValueError(f"{path} must be a safetensors file: {error}") from error
    _check(header, cls.__name__, path)
    try:
        params, learnt = (_read(header[part], tensors) for part in ("parameters", "learnt"))
        output = json.loads(header.get("output", "{}"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its header does not describe it") from error
    try:
        estimator = cls(**params)
    except TypeError as error:
        raise ValueError(f"{path} holds parameters that this torchkm does not have") from error
    vars(estimator).update({name: value for name, value in learnt.items() if is_learnt(name)})
    if output:
        estimator.set_output(**output)
    return estimator


def _check(header: dict[str, str], name: str, path: Any) -> None:
    """Raise where the header is not that of an estimator of class ``name``."""
    if header.get("format") != _FORMAT:
        raise ValueError(f"{path} must hold an estimator of torchkm.cluster, and does not")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{path} must be of format version {_VERSION}, which this torchkm reads, "
            f"got {header.get('version')}"
        )
    if header.get("estimator") != name:
        raise ValueError(f"{path} must hold a {name}, got a {header.get('estimator')}")


def _write(values: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return ``values`` as JSON; arrays among them are put into ``tensors``."""
    return json.dumps({name: _plain(name, value, tensors) for name, value in values.items()})


def _plain(name: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON has it.

    Raises:
        TypeError: it cannot be written; the message has its ``name``.
    """
    value = value.to_numpy() if hasattr(value, "to_numpy") else value  # a frame
    if is_array(value):
        tensors[name] = tensor_of(value).detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"array": _TORCH if isinstance(value, Tensor) else _NUMPY, "tensor": name}
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and all(isinstance(part, str) for part in value):
        return {"names": list(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(name, part, tensors) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{name} must be a number, a name, an array or None to be saved, "
        f"got {reprlib.repr(value)}; change it with set_params({name}=...) first"
    )


def _read(text: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return what ``_write`` made a text of."""
    return {name: _value(plain, tensors) for name, plain in json.loads(text).items()}


def _value(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(plain, dict):
        return plain
    if "names" in plain:
        return np.array(plain["names"], dtype=object)
    tensor = tensors[plain["tensor"]]
    return tensor.numpy() if plain["array"] == _NUMPY else tensor
