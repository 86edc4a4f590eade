"""How the processes of a trainer talk to each other."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from torchkm.functional import Ranks


class Anchor(nn.Module):
    """One parameter that nothing reads: DDP refuses a module without any.

    It never enters a ``state_dict``, so checkpoints are the same on one process and on many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        pass


class TrainerRanks:
    """How the processes of a trainer talk, as ``torchkm.functional.Ranks`` has it."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self._strategy = trainer.strategy

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over ranks; no gradient flows through it."""
        total: Tensor = self._strategy.reduce(value, reduce_op="sum")
        return total

    def gather(self, value: Tensor) -> Tensor:
        """Return what each rank has, ``(n_ranks, *shape)``."""
        return self._strategy.all_gather(value)


def ranks_of(trainer: pl.Trainer) -> Ranks | None:
    """Return the processes of a trainer; None where there is one."""
    return None if trainer.world_size == 1 else TrainerRanks(trainer)
