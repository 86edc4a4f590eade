"""WHEN centroids move: the update rules, the one loop, stopping and restarts.

Every rule is an answer to two questions (how much of the past to keep, how far to move), so
there is one update. The default arranges Lloyd's rule anew: few rows first, momentum, swaps. No
assignment arithmetic and no device trick may live here.
"""

from torchkm.solvers.batch import KMeansBatch, kmeans_batch
from torchkm.solvers.fit import kmeans
from torchkm.solvers.outcome import EmptyClusterWarning, PassRecord, Status
from torchkm.solvers.result import KMeansResult
from torchkm.solvers.rules import RULES, Decay, Lloyd, MiniBatch, UpdateRule, as_rule
from torchkm.solvers.sweep import sweep
from torchkm.solvers.update import CentroidState, update

__all__ = [
    "RULES",
    "CentroidState",
    "Decay",
    "EmptyClusterWarning",
    "KMeansBatch",
    "KMeansResult",
    "Lloyd",
    "MiniBatch",
    "PassRecord",
    "Status",
    "UpdateRule",
    "as_rule",
    "kmeans",
    "kmeans_batch",
    "sweep",
    "update",
]
