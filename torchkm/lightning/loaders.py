"""What the module asks of a loader, whoever made it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from torchkm.lightning.batches import Batches


def split_batch(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Return the rows of a batch, and its targets where it has some.

    Raises:
        TypeError: a batch that is neither rows, nor ``[rows]``, nor ``[rows, targets]``.
    """
    if isinstance(batch, Tensor):
        return batch, None
    if not isinstance(batch, (list, tuple)) or len(batch) not in (1, 2):
        size = f" of {len(batch)}" if isinstance(batch, (list, tuple, dict)) else ""
        raise TypeError(
            f"a batch must be rows, [rows] or [rows, targets], got a {type(batch).__name__}{size}"
        )
    return batch[0], batch[1] if len(batch) == 2 else None


def first_rows(trainer: pl.Trainer, m: int) -> Tensor:
    """Return the first rows of this rank's epoch, ``m`` where there are as many."""
    parts: list[Tensor] = []
    batches: Any = trainer.train_dataloader
    for batch in batches:
        rows, _ = split_batch(trainer.strategy.batch_to_device(batch))
        parts.append(rows)
        if sum(map(len, parts)) >= m:
            break
    return torch.cat(parts)[:m]


def rows_in_epoch(trainer: pl.Trainer) -> int:
    """Return how many rows an epoch of the fit has, over all ranks.

    Raises:
        ValueError: a loader that does not know.
    """
    loader: Any = trainer.train_dataloader
    n_batches = trainer.num_training_batches
    if isinstance(loader, Batches):
        return round(loader.n_rows * n_batches / len(loader))
    try:
        batches = loader.batch_sampler
        n_sampled = min(len(batches.sampler), int(n_batches * batches.batch_size))
        return n_sampled * trainer.world_size
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            "the rows of an epoch cannot be counted in this loader: give the half_life in rows, "
            'or take another solver than "decay"'
        ) from error
