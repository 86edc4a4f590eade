"""A data module for rows that are already there: tensors, arrays or ``.npy`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from torchkm.functional.arrays import as_labels, as_rows
from torchkm.functional.checks import check_integer, check_number
from torchkm.lightning.batches import Batches, Rows

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class ArrayDataModule(pl.LightningDataModule):
    """Batches sliced from rows that are held in memory, on the Trainer's device.

    Args:
        train: rows ``(n, d)`` to fit: a tensor, an array or the path of a ``.npy`` file.
        targets: class of each training row, ``(n,)`` integers, array or path; only metrics
            look at them.
        test: rows to score after fitting, ``(m, d)``.
        test_targets: class of each of them, ``(m,)``.
        batch_size: rows to a batch, over all ranks; batches are made equal.
        seed: of the shuffle of training rows, which depends on it and the epoch alone.
        dtype: float dtype in which rows are handed out; None keeps that of float rows and
            makes uint8 rows float32.
        divisor: what rows are divided by: 255 brings 8-bit images to [0, 1].
        image_shape: ``(height, width)`` of a row, where rows are pictures.

    Attributes:
        name: what the rows are called in reports.

    Raises:
        TypeError: rows or targets of a wrong dtype.
        ValueError: wrong shapes, empty or non-finite rows, an unknown dtype.
        FileNotFoundError: a path where there is no file.

    Example:
        >>> import torch
        >>> from torchkm.lightning import ArrayDataModule
        >>> data = ArrayDataModule(torch.rand(100, 3), batch_size=40)
        >>> data.setup("fit")
        >>> [len(rows) for rows in data.train_dataloader()]
        [34, 33, 33]
    """

    name: str = "arrays"

    def __init__(
        self,
        train: Any = None,
        targets: Any = None,
        *,
        test: Any = None,
        test_targets: Any = None,
        batch_size: int = 4096,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        divisor: float = 1.0,
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None and dtype not in _FLOATS:
            raise ValueError(f"dtype must be one of {', '.join(map(str, _FLOATS))}; got {dtype}")
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.seed = check_integer("seed", seed, 0)
        self.dtype = dtype
        self.divisor = check_number("divisor", divisor, 0, above=True)
        self.image_shape = image_shape
        self._given = {"train": (train, targets), "test": (test, test_targets)}
        self._splits: dict[str, Rows] = {}

    def load(self) -> dict[str, tuple[Any, Any]]:
        """Return ``(rows, targets)`` of each split; data sets override this."""
        return self._given

    def setup(self, stage: str | None = None) -> None:
        """Read the rows once and bring them to the Trainer's device."""
        if not self._splits:
            given = {name: split for name, split in self.load().items() if split[0] is not None}
            splits = {name: self._rows(name, *split) for name, split in given.items()}
            _check_splits(splits)
            self._splits = splits
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            self._splits = {name: rows.to(device) for name, rows in self._splits.items()}

    @property
    def n_features(self) -> int:
        """Width of a row."""
        return self.split("train").x.shape[1]

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or None where there are no targets."""
        targets = [rows.targets for rows in self._splits.values()]
        known = [int(t.max()) + 1 for t in targets if t is not None]
        return max(known) if known else None

    def n_rows(self, split: str = "train") -> int:
        """Return the number of rows in ``"train"`` or ``"test"``; 0 where there are none."""
        return len(self._splits[split]) if split in self._splits else 0

    def split(self, name: str) -> Rows:
        """Return the rows of ``"train"`` or ``"test"``.

        Raises:
            ValueError: the data module has none, or ``setup`` has not run.
        """
        if name not in self._splits:
            known = ", ".join(map(repr, self._splits)) or "none: call setup() first"
            raise ValueError(f"there are no {name!r} rows in this data module; it has {known}")
        return self._splits[name]

    def train_dataloader(self) -> Batches:
        """Return the training rows, shuffled anew each epoch."""
        return self.batches("train", self.seed)

    def test_dataloader(self) -> Batches:
        """Return the test rows in their order."""
        return self.batches("test")

    def predict_dataloader(self) -> Batches:
        """Return the training rows in their order, so that labels come back in it."""
        return self.batches("train")

    def batches(self, split: str, seed: int | None = None) -> Batches:
        """Return this rank's batches of ``"train"`` or ``"test"`` rows.

        Args:
            split: which rows.
            seed: of the shuffle; None keeps their order.
        """
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return Batches(self.split(split), self.batch_size, seed, rank, world)

    def _rows(self, name: str, x: Any, targets: Any) -> Rows:
        x = as_rows(_array(x), name)
        dtype = self.dtype or (x.dtype if x.is_floating_point() else torch.float32)
        if targets is not None:
            called = "targets" if name == "train" else f"{name}_targets"
            targets = as_labels(_array(targets), x, name=called)
        return Rows(x, targets, dtype, self.divisor)


def data_module(trainer: pl.Trainer) -> ArrayDataModule | None:
    """Return the Trainer's data module where it is one of ours."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, ArrayDataModule) else None


def _check_splits(splits: dict[str, Rows]) -> None:
    if "train" not in splits:
        raise ValueError("train must be given: there are no rows to fit")
    widths = {name: rows.x.shape[1] for name, rows in splits.items()}
    if widths.get("test", widths["train"]) != widths["train"]:
        raise ValueError(
            f"test must be as wide as train: expected {widths['train']} columns, "
            f"got {widths['test']}"
        )


def _array(value: Any) -> Tensor | np.ndarray:
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value)
    if path.suffix != ".npy":
        raise ValueError(f"a file of rows must be .npy, got {path}")
    return np.load(path, allow_pickle=False)
