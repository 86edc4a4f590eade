"""The Trainer face: a LightningModule around ``nn.KMeans``, data modules and callbacks.

Only this folder knows Lightning, torchvision and TensorBoard.
No k-means arithmetic may live here: what moves a centroid is ``nn`` and below.
"""

from torchkm.lightning.arrays import ArrayDataModule
from torchkm.lightning.cluster_metrics import ClusterMetrics
from torchkm.lightning.convergence import ConvergenceStop
from torchkm.lightning.digits import DigitsDataModule
from torchkm.lightning.images import CentroidImages
from torchkm.lightning.mnist import DatasetUnavailable, MNISTDataModule
from torchkm.lightning.module import KMeansModule
from torchkm.lightning.progress import InertiaProgressBar

__all__ = [
    "ArrayDataModule",
    "CentroidImages",
    "ClusterMetrics",
    "ConvergenceStop",
    "DatasetUnavailable",
    "DigitsDataModule",
    "InertiaProgressBar",
    "KMeansModule",
    "MNISTDataModule",
]
