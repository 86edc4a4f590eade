"""Scores of a clustering: against classes, all from one contingency table, and by its rows.

Against classes there are functions of labels in ``functional`` and Metric classes, which load
torchmetrics when asked for. The scores of rows and labels are functions, here: no table sums
what they need to know.
No solver, no Lightning and no k-means step may live here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchkm.metrics import functional
from torchkm.metrics.choice import bayesian_information, elbow
from torchkm.metrics.contingency import contingency_table
from torchkm.metrics.dispersion import calinski_harabasz, davies_bouldin
from torchkm.metrics.gap import GapStatistic, choose_k, gap_statistic
from torchkm.metrics.silhouettes import silhouette, silhouette_of_each, silhouette_samples
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
    "GapStatistic",
    "Homogeneity",
    "HungarianAccuracy",
    "Inertia",
    "MajorityVote",
    "MajorityVoteAccuracy",
    "NormalizedMutualInfo",
    "VMeasure",
    "bayesian_information",
    "calinski_harabasz",
    "choose_k",
    "contingency_table",
    "davies_bouldin",
    "elbow",
    "functional",
    "gap_statistic",
    "silhouette",
    "silhouette_of_each",
    "silhouette_samples",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("torchkm.metrics.metric"), name)
    raise AttributeError(f"module 'torchkm.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
