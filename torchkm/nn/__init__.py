"""The torch face: k-means as ``torch.nn`` modules with buffers, ``state_dict`` and devices.

Modules compose what ``functional`` and ``solvers`` compute and add state to it.
No k-means arithmetic, no scikit-learn names and no Lightning may live here.
"""

from torchkm.nn.hard import HardAssignment, HardKMeans
from torchkm.nn.kmeans import KMeans
from torchkm.nn.losses import FreeEnergyLoss, InertiaLoss, KMeansLoss, TransportLoss
from torchkm.nn.quantizer import Quantized, VectorQuantizer
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
    "FreeEnergyLoss",
    "HardAssignment",
    "HardKMeans",
    "InertiaLoss",
    "KMeans",
    "KMeansLoss",
    "LearntTemperature",
    "Quantized",
    "SoftAssignment",
    "SoftKMeans",
    "Temperature",
    "TransportLoss",
    "VectorQuantizer",
]
