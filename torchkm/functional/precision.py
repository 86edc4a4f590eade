"""Which precision rows may be scored in."""

from __future__ import annotations

from typing import Any

import torch

from torchkm import kernels
from torchkm.functional.checks import check_known
from torchkm.functional.problem import Problem

# What only a GPU scores in.
ON_GPU = ("float16", "tf32")


def check_precision(precision: Any, problem: Problem) -> None:
    """Raise where rows cannot be scored in ``precision``.

    Raises:
        ValueError: an unknown name, or one that is not for such rows or their device.
    """
    known = kernels.precisions(problem.x)
    if isinstance(precision, str) and precision not in known and precision in ON_GPU:
        raise ValueError(
            f"precision {precision!r} is for rows of float32 or less on a GPU, "
            f"got {_name(problem.x)}"
        )
    check_known("precision", precision, known)
    if precision != "auto" and isinstance(problem.x, kernels.CsrRows):
        raise ValueError(f'precision {precision!r} is for dense rows: sparse ones have "auto" only')
    dtype = kernels.compute_dtype(problem.x.dtype)
    if precision == "float32" and dtype == torch.float64:
        raise ValueError('precision "float32" is not for float64 rows: convert them first')
    if precision != "bfloat16" or kernels.has_gpu_kernels(problem.x):
        return
    if dtype == torch.float64 or problem.x.device.type != "cpu":
        raise ValueError(
            f'precision "bfloat16" is for rows of float32 or less, got {_name(problem.x)}'
        )
    if not kernels.bfloat16.adds_in_float32():
        raise ValueError('precision "bfloat16": products on this machine do not add in float32')


def _name(x: kernels.Rows) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} on {x.device}"
