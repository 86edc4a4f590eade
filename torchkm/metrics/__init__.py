"""Scores of a clustering against classes, all from one contingency table.

Pure functions here need nothing but torch; the Metric classes load torchmetrics when asked for.
No solver, no Lightning and no k-means step may live here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchkm.metrics import functional
from torchkm.metrics.contingency import contingency_table
from torchkm.metrics.vote import MajorityVote

if TYPE_CHECKING:
    from torchkm.metrics.metric import (
        AdjustedRand,
        Completeness,
        ContingencyTable,
        Homogeneity,
        HungarianAccuracy,
        Inertia,
        MajorityVoteAccuracy,
        NormalizedMutualInfo,
        VMeasure,
    )

__all__ = [
    "AdjustedRand",
    "Completeness",
    "ContingencyTable",
    "Homogeneity",
    "HungarianAccuracy",
    "Inertia",
    "MajorityVote",
    "MajorityVoteAccuracy",
    "NormalizedMutualInfo",
    "VMeasure",
    "contingency_table",
    "functional",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("torchkm.metrics.metric"), name)
    raise AttributeError(f"module 'torchkm.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
