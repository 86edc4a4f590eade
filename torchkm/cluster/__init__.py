"""The scikit-learn face: estimators that take the place of those of ``sklearn.cluster``.

Everything is done by the core; what lives here is how scikit-learn would have it said. No k-means
arithmetic may live here. Of the rest of torchkm, scores and pictures are imported, no other face.
"""

from torchkm.cluster.kmeans import KMeans
from torchkm.cluster.parameters import InvalidParameterError
from torchkm.cluster.selection import KSelection

__all__ = ["InvalidParameterError", "KMeans", "KSelection"]
