"""What scores rows for a tracker, and which of them does it when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from torchkm.kernels import bfloat16, compiled
from torchkm.kernels.certified import CertifiedScorer
from torchkm.kernels.direct import DirectScorer, Entered, Scored
from torchkm.kernels.projected import ProjectedScorer
from torchkm.kernels.rows import OrderedRows, Places
from torchkm.kernels.subspace import is_worth_it

PRECISIONS = ("auto", "bfloat16", "float32")

# Numbers of centroids from which products are worth rounding for.
_MANY = 2**11

# Bytes of centroids from which on rows are worth looking at along a few directions, and in loops.
_WORTH_A_LOOK, _WORTH_A_LOOP = 2**18, 2**17


class Scorer(Protocol):
    """What finds the nearest centroid of a row and proves its lead."""

    precision: str
    norms: Tensor

    @property
    def n_rescored(self) -> int:
        """How many rows needed a second look so far."""

    def enter(self, places: slice) -> Iterator[Entered]:
        """Measure rows that come in and label them as well as one look can, some at a time."""

    def aim(self, centred: Tensor) -> None:
        """Take the centroids to score against."""

    def score(self, places: Places, labels: Tensor, proven: bool = True) -> Scored:
        """Score the rows of ``places`` whose last labels are given."""

    def leads(self, places: Places, labels: Tensor) -> Tensor:
        """Return the leads of rows about as they are, proven or not."""


def scorer(rows: OrderedRows, k: int, precision: str) -> Scorer:
    """Return what scores ``rows`` against ``k`` centroids fastest in a precision."""
    d, on_cpu = rows.x.shape[1], rows.x.device.type == "cpu"
    able = rows.origin.dtype == torch.float32 and on_cpu
    pays = precision == "auto" and k * d >= _MANY and able and bfloat16.pays()
    if precision == "bfloat16" or pays:
        return CertifiedScorer(rows, k)
    least = _WORTH_A_LOOP if compiled.available() else _WORTH_A_LOOK
    if on_cpu and is_worth_it(k, d, rows.origin.dtype, least):
        return ProjectedScorer(rows, k)
    return DirectScorer(rows, k)
