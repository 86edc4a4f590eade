"""What a fit is told as."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchkm.functional.caller import warn_caller
from torchkm.solvers.loop import Fit
from torchkm.solvers.outcome import EmptyClusterWarning, PassRecord, Status


@dataclass(frozen=True, repr=False)
class KMeansResult:
    """What ``kmeans`` found.

    Attributes:
        centroids: ``(k, d)``, float32, or float64 for float64 rows.
        labels: nearest of these centroids for each row, ``(n,)`` int64.
        inertia: weighted sum of squared distances to them, added up in float64.
        n_iter: passes made over all rows.
        status: why it stopped (``status.message`` says it in words).
        history: one ``PassRecord`` a pass: inertia, shift, n_changed, n_reseeded, n_rows,
            n_scored, n_rescored. Passes of ``"auto"`` over a part of the rows are among them.
        precision: ``"float32"`` or ``"float64"``; ``"bfloat16"`` where most rows were scored in
            it. Each label was then proven to be that of float32, or computed in float32.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    n_iter: int
    status: Status
    history: tuple[PassRecord, ...]
    precision: str

    @property
    def n_empty(self) -> int:
        """How many clusters hold no row."""
        return int((torch.bincount(self.labels, minlength=len(self.centroids)) == 0).sum())

    def __repr__(self) -> str:
        """Name the size, the score and the outcome; tensors are left out."""
        k, d = self.centroids.shape
        return (
            f"KMeansResult(k={k}, d={d}, n={len(self.labels)}, inertia={self.inertia:.9g}, "
            f"n_iter={self.n_iter}, status={self.status.value!r})"
        )


def warn_of_empty(result: KMeansResult) -> None:
    """Warn who called the caller of clusters without rows.

    Warns:
        EmptyClusterWarning: both numbers are in the message.
    """
    if result.n_empty:
        warn_caller(
            f"{result.n_empty} of {len(result.centroids)} clusters hold no row at the end: the "
            "rows have fewer distinct values than there are clusters, or too few passes were made",
            EmptyClusterWarning,
        )


def result_of(fit: Fit) -> KMeansResult:
    """Return what is told of a fit."""
    n = len(fit.labels)
    return KMeansResult(
        fit.centroids,
        fit.labels,
        fit.inertia,
        sum(record.n_rows == n for record in fit.history),
        fit.status,
        fit.history,
        fit.precision,
    )
