"""Which precision rows may be scored in."""

from __future__ import annotations

from typing import Any

import torch

from torchkm import kernels
from torchkm.functional.checks import check_known
from torchkm.functional.problem import Problem


def check_precision(precision: Any, problem: Problem) -> None:
    """Raise where rows cannot be scored in ``precision``.

    Raises:
        ValueError: an unknown name, or bfloat16 for rows or a device that it is not for.
    """
    check_known("precision", precision, kernels.PRECISIONS)
    if precision != "auto" and isinstance(problem.x, kernels.CsrRows):
        raise ValueError(f'precision {precision!r} is for dense rows: sparse ones have "auto" only')
    dtype = kernels.compute_dtype(problem.x.dtype)
    if precision == "float32" and dtype == torch.float64:
        raise ValueError('precision "float32" is not for float64 rows: convert them first')
    if precision != "bfloat16":
        return
    if dtype == torch.float64 or problem.x.device.type != "cpu":
        raise ValueError(
            'precision "bfloat16" is for rows of float32 or less on a CPU, got '
            f"{str(problem.x.dtype).removeprefix('torch.')} on {problem.x.device}"
        )
    if not kernels.bfloat16.adds_in_float32():
        raise ValueError('precision "bfloat16": products on this machine do not add in float32')
