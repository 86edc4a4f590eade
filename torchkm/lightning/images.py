"""Centroids as pictures, in TensorBoard and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from torchkm import plotting
from torchkm.functional.checks import check_integer
from torchkm.lightning.arrays import data_module
from torchkm.lightning.cluster_metrics import ClusterMetrics
from torchkm.lightning.module import as_kmeans_module

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CentroidImages(pl.Callback):
    """Draws the grid of centroids under the tag ``centroids``, and saves the last one.

    Where a ``ClusterMetrics`` callback has learnt which class each cluster stands for, that
    class is the title of its tile. Without an ``image_shape`` nothing is drawn.

    Args:
        every_n_epochs: between two pictures; the end of the fit is always drawn.
        path: where to save the last picture; None saves none.
        image_shape: ``(height, width)`` of a row; None asks the data module.

    Raises:
        TypeError: a number of epochs that is no integer.
        ValueError: one below 1.

    Example:
        >>> CentroidImages(every_n_epochs=10).path is None
        True
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        path: str | Path | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        self.every_n_epochs = check_integer("every_n_epochs", every_n_epochs, 1)
        self.path = None if path is None else Path(path)
        self.image_shape = image_shape

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the centroids that the epoch starts from."""
        if trainer.current_epoch % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and save the centroids that the fit ended with."""
        self._draw(trainer, pl_module, self.path)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, path: Path | None) -> None:
        data = data_module(trainer)
        shape = self.image_shape or (None if data is None else data.image_shape)
        if shape is None or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        centroids = as_kmeans_module(pl_module).kmeans.centroids
        heading = f"centroids after {epoch} {'pass' if epoch == 1 else 'passes'}"
        figure = plotting.centroid_grid(centroids, shape, _titles(trainer), heading)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("centroids", figure, global_step=epoch)
        if path is not None:
            _save(figure, path)


def _titles(trainer: pl.Trainer) -> list[str] | None:
    """The class that each cluster stands for, where a callback knows it."""
    callbacks: list[pl.Callback] = getattr(trainer, "callbacks", [])
    votes = [c.vote for c in callbacks if isinstance(c, ClusterMetrics)]
    known = [vote for vote in votes if vote is not None]
    return [str(c) for c in known[0].classes.tolist()] if known else None


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
