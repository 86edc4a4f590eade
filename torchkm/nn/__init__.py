"""The torch face: k-means as ``torch.nn`` modules with buffers, ``state_dict`` and devices.

Modules compose what ``functional`` and ``solvers`` compute and add state to it.
No k-means arithmetic, no scikit-learn names and no Lightning may live here.
"""

from torchkm.nn.kmeans import KMeans
from torchkm.nn.soft import SoftAssignment, SoftKMeans
from torchkm.nn.temperature import (
    AnnealedTemperature,
    AutoTemperature,
    LearntTemperature,
    Temperature,
)

__all__ = [
    "AnnealedTemperature",
    "AutoTemperature",
    "KMeans",
    "LearntTemperature",
    "SoftAssignment",
    "SoftKMeans",
    "Temperature",
]
