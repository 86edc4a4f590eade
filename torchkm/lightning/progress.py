"""One progress bar for the whole fit, in passes, with the inertia beside it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm.auto import tqdm

from torchkm.lightning.module import as_kmeans_module


class InertiaProgressBar(ProgressBar):
    """Shows passes made, inertia and the movement of the centroids; nothing per batch.

    An epoch takes a fraction of a second, so a bar per epoch would only flicker.

    Example:
        >>> InertiaProgressBar().is_enabled
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self._bar: Any = None

    def disable(self) -> None:
        """Show nothing; Lightning calls this on every rank but the first."""
        self.is_enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self.is_enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        self._bar = tqdm(
            desc="k-means",
            total=trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None,
            initial=trainer.current_epoch,
            unit="pass",
            disable=not self.is_enabled,
            leave=True,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show what the epoch before came to, which is complete by now."""
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the last epoch and close the bar."""
        self._show(trainer, pl_module)
        self._bar.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the bar where it was interrupted."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch - self._bar.n
        if done > 0:
            module = as_kmeans_module(pl_module)
            figures = f"inertia {module.inertia:,.0f}, shift {module.shift:.3g}"
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(done)
