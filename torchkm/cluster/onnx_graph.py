"""``predict`` and ``transform`` as an ONNX graph.

Rows and centroids are shifted by the centroids' mean, so that a common offset costs no digits, and
scored in float64, as ``torchkm.functional.distances`` does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchkm.functional.geometry import unit, uses_unit_rows

try:
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError('to_onnx needs onnx: pip install -e ".[onnx]"') from error

# The oldest that has ReduceSumSquare and ReduceMax with axes as an input; its own file format.
_OPSET, _IR_VERSION = 18, 8
_FLOATS = {torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE}


def model_of(centroids: Tensor, metric: str) -> ModelProto:
    """Return the model that assigns rows ``X (n, d)`` to ``centroids (k, d)``.

    Its outputs are ``labels (n,)`` int64 and ``distances (n, k)`` in the dtype of the centroids.
    """
    k, d = centroids.shape
    number, unit_rows = _FLOATS[centroids.dtype], uses_unit_rows(metric)
    graph = helper.make_graph(
        [*(_to_unit_rows() if unit_rows else _to_rows()), *_to_outputs(number)],
        "torchkm",
        [helper.make_tensor_value_info("X", number, ["n", d])],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("distances", number, ["n", k]),
        ],
        [
            numpy_helper.from_array(value, name)
            for name, value in _constants(centroids.double(), unit_rows).items()
        ],
    )
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(
        graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="torchkm"
    )


def _constants(centroids: Tensor, unit_rows: bool) -> dict[str, Any]:
    """Return what the graph knows of float64 ``centroids (k, d)``."""
    centroids = unit(centroids) if unit_rows else centroids
    origin = centroids.mean(0)
    shifted = centroids - origin
    of_unit_rows = {"tiny": np.array(torch.finfo(torch.float64).tiny)} if unit_rows else {}
    return {
        "origin": origin.numpy(),
        "weights": (-2 * shifted.T).contiguous().numpy(),  # (d, k)
        "sq_norms": shifted.square().sum(1).numpy(),
        "zero": np.zeros(()),
        "columns": np.array([1], dtype=np.int64),
        **of_unit_rows,
    }


def _to_rows() -> list[NodeProto]:
    return [helper.make_node("Cast", ["X"], ["rows"], to=TensorProto.DOUBLE)]


def _to_unit_rows() -> list[NodeProto]:
    """Return the nodes that scale rows to length one: by their largest number first."""
    node = helper.make_node
    return [
        node("Cast", ["X"], ["given"], to=TensorProto.DOUBLE),
        node("Abs", ["given"], ["sizes"]),
        node("ReduceMax", ["sizes", "columns"], ["largest"], keepdims=1),
        node("Max", ["largest", "tiny"], ["scale"]),
        node("Div", ["given", "scale"], ["scaled"]),
        node("ReduceL2", ["scaled", "columns"], ["length"], keepdims=1),
        node("Max", ["length", "tiny"], ["divisor"]),
        node("Div", ["scaled", "divisor"], ["rows"]),
    ]


def _to_outputs(number: int) -> list[NodeProto]:
    node = helper.make_node
    return [
        node("Sub", ["rows", "origin"], ["shifted"]),
        node("MatMul", ["shifted", "weights"], ["products"]),
        node("Add", ["products", "sq_norms"], ["scores"]),
        node("ArgMin", ["scores"], ["labels"], axis=1, keepdims=0),
        node("ReduceSumSquare", ["shifted", "columns"], ["row_norms"], keepdims=1),
        node("Add", ["scores", "row_norms"], ["differences"]),
        node("Max", ["differences", "zero"], ["sq_distances"]),
        node("Sqrt", ["sq_distances"], ["roots"]),
        node("Cast", ["roots"], ["distances"], to=number),
    ]
