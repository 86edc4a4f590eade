"""WHAT k-means computes: pure functions on tensors, the three steps and how centroids are seeded.

Everything here checks its input, keeps no state and leaves the caller's tensors as they were.
No loop over passes, no module state and no device trick may live here; a transport plan is one
function of its cost, however many updates it takes.
"""

from torchkm.functional.assignment import Assignment, assign, distances
from torchkm.functional.energy import free_energy, inertia, soft_inertia
from torchkm.functional.geometry import METRICS, unit
from torchkm.functional.means import cluster_means
from torchkm.functional.ranks import Ranks
from torchkm.functional.seeding import INITS, seed
from torchkm.functional.soft import responsibilities, soft_lloyd
from torchkm.functional.stats import ClusterStats, accumulate, assign_and_accumulate
from torchkm.functional.transport import Plan, sinkhorn, transport_cost

__all__ = [
    "INITS",
    "METRICS",
    "Assignment",
    "ClusterStats",
    "Plan",
    "Ranks",
    "accumulate",
    "assign",
    "assign_and_accumulate",
    "cluster_means",
    "distances",
    "free_energy",
    "inertia",
    "responsibilities",
    "seed",
    "sinkhorn",
    "soft_inertia",
    "soft_lloyd",
    "transport_cost",
    "unit",
]
