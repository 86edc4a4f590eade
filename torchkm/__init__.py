"""torchkm: k-means for PyTorch, from one function to a Trainer job.

``import torchkm`` loads torch and NumPy alone. The other faces load when they are asked for:
``torchkm.nn``, ``torchkm.gradients``, ``torchkm.cluster``, ``torchkm.lightning``,
``torchkm.metrics`` and ``torchkm.plotting``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torchkm import functional, solvers
from torchkm.solvers import KMeansBatch, KMeansResult, kmeans, kmeans_batch

if TYPE_CHECKING:
    from torchkm import cluster, gradients, lightning, metrics, nn, plotting

__version__ = version("torchkm-kmeans")

_ON_DEMAND = ("cluster", "gradients", "lightning", "metrics", "nn", "plotting")

__all__ = [
    "KMeansBatch",
    "KMeansResult",
    "__version__",
    "cluster",
    "functional",
    "gradients",
    "kmeans",
    "kmeans_batch",
    "lightning",
    "metrics",
    "nn",
    "plotting",
    "solvers",
]


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return importlib.import_module(f"torchkm.{name}")
    raise AttributeError(f"module 'torchkm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
