"""Stopping a Trainer job when the centroids rest."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from torchkm.functional.checks import check_number
from torchkm.lightning.module import as_kmeans_module
from torchkm.solvers import Status

# Movement, in squares and per variance, that float32 rounding alone can make.
_ROUNDING = 1e-9


class ConvergenceStop(EarlyStopping):
    """Stops the fit when an epoch moves the centroids by no more than ``tol``.

    The movement is squared and summed over all centroids, and compared with ``tol`` times the
    mean variance of a feature over the first rows, as ``torchkm.kmeans`` does with all rows.
    It is an ``EarlyStopping`` because Lightning runs those after the module has finished its
    epoch.

    Args:
        tol: 0 waits until nothing moves but for rounding (batches in another order add up to
            other last digits, so the movement is never quite 0).

    Attributes:
        status: why the fit ended: ``Status.TOLERANCE``, or ``Status.MAX_ITER`` until then.

    Raises:
        TypeError: a tolerance that is not a number.
        ValueError: a negative one.

    Example:
        >>> ConvergenceStop(tol=1e-3).status.value
        'max_iter'
    """

    def __init__(self, tol: float = 1e-4) -> None:
        super().__init__(monitor="train/shift", mode="min", verbose=False)
        self.tol = check_number("tol", tol, 0)
        self.status = Status.MAX_ITER

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask for a stop where the epoch moved the centroids too little."""
        module = as_kmeans_module(pl_module)
        rests = module.shift <= max(self.tol, _ROUNDING) * module.variance
        self.status = Status.TOLERANCE if rests else Status.MAX_ITER
        trainer.should_stop = trainer.should_stop or rests

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing: k-means has no validation metric to watch."""
