"""The scikit-learn face: estimators that take the place of those of ``sklearn.cluster``.

Everything is done by the core; what lives here is how scikit-learn would have it said. No k-means
arithmetic may live here. Of the other faces only ``nn`` is imported, to hand centroids over; scores
and pictures come from ``metrics`` and ``plotting``.
"""

from torchkm.cluster.bisecting import BisectingKMeans
from torchkm.cluster.callbacks import PassBar
from torchkm.cluster.functions import k_means, kmeans_plusplus
from torchkm.cluster.kmeans import KMeans
from torchkm.cluster.minibatch import MiniBatchKMeans
from torchkm.cluster.parameters import InvalidParameterError
from torchkm.cluster.selection import KSelection

__all__ = [
    "BisectingKMeans",
    "InvalidParameterError",
    "KMeans",
    "KSelection",
    "MiniBatchKMeans",
    "PassBar",
    "k_means",
    "kmeans_plusplus",
]
