"""Where rows are clustered: at once on a device, or from the host where memory is too little."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.problem import Problem
from torchkm.solvers import streamed
from torchkm.solvers.loop import Fit

# Bytes that passes lay out for each number of a centroid.
_PER_CENTROID = 40


def fit_with_room(
    problem: Problem,
    k: int,
    device: torch.device,
    lacks: str | None,
    generator: torch.Generator,
    whole: Callable[[], Fit],
    by_blocks: Callable[[], Fit],
) -> Fit:
    """Cluster rows ``whole`` on ``device``, or ``by_blocks`` where they do not fit there.

    Args:
        problem: rows, where they lie.
        k: number of clusters.
        device: where to work.
        lacks: what keeps them from being clustered by blocks; None where nothing does.
        generator: that of both ways; it gives the second what it gave the first.
        whole: moves the rows there and clusters them.
        by_blocks: clusters rows that stay on the host.

    Raises:
        ValueError: the rows are known not to fit, and to lack something.
        torch.OutOfMemoryError: memory ran out, and they lack something. The message says how much
            there should be.
    """
    if device == problem.x.device or streamed.fits(problem.x, device):
        state = generator.get_state()
        try:
            return whole()
        except torch.OutOfMemoryError as error:
            if lacks:
                raise torch.OutOfMemoryError(_too_little(problem.x, k, device, lacks)) from error
        generator.set_state(state)  # out here, where the error no longer holds what was moved
    elif lacks:
        raise ValueError(f"the rows do not fit on {device}: {_instead(lacks)}")
    return by_blocks()


def _too_little(x: kernels.Rows, k: int, device: torch.device, lacks: str) -> str:
    rows = (x if isinstance(x, Tensor) else x.values).nbytes
    beside = streamed.beside(x) + k * x.shape[1] * _PER_CENTROID
    return (
        f"too little memory on {device}: {len(x):,} rows take {rows / 1e9:.3g} GB there, and what "
        f"passes lay out for k={k} about {beside / 1e9:.3g} GB; {_instead(lacks)}"
    )


def _instead(lacks: str) -> str:
    return (
        f"to be read there block by block rows need {lacks}; take fewer of them, or fit on the CPU"
    )
