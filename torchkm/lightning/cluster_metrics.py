"""Scores against the classes, from one contingency table for each split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from torchkm.functional import Assignment, ClusterStats
from torchkm.functional.checks import check_integer
from torchkm.lightning.arrays import data_module
from torchkm.lightning.loaders import split_batch
from torchkm.lightning.module import as_kmeans_module
from torchkm.metrics import MajorityVote, contingency_table
from torchkm.metrics.scores import homogeneity_from_table
from torchkm.nn import KMeans

Scores = dict[str, float]


@dataclass
class _Tally:
    """What a split adds up to: its inertia ``()`` and its table ``(k, n_classes)``."""

    inertia: Tensor
    table: Tensor | None

    @classmethod
    def zeros(cls, k: int, n_classes: int | None, like: Tensor) -> _Tally:
        shape = None if n_classes is None else (k, n_classes)
        table = None if shape is None else like.new_zeros(shape, dtype=torch.int64)
        return cls(torch.zeros_like(like), table)

    def add(self, assignment: Assignment, targets: Tensor | None) -> None:
        self.inertia = self.inertia + ClusterStats.weighed(assignment.sq_distances, None)
        if self.table is not None and targets is not None:
            k, n_classes = self.table.shape
            table = contingency_table(assignment.labels, targets, k, n_classes)
            self.table = self.table + table

    def over_ranks(self, trainer: pl.Trainer) -> _Tally:
        def total(part: Tensor) -> Tensor:
            return trainer.strategy.reduce(part, reduce_op="sum")

        return _Tally(total(self.inertia), None if self.table is None else total(self.table))

    def scores(self, vote: MajorityVote | None) -> Scores:
        scores = {"inertia": self.inertia.item()}
        if vote is not None and self.table is not None:
            scores["homogeneity"] = homogeneity_from_table(self.table).item()
            scores["accuracy"] = vote.accuracy_from_table(self.table).item()
        return scores


class ClusterMetrics(pl.Callback):
    """Logs inertia, homogeneity and majority-vote accuracy of the train and test rows.

    During the fit the training scores come from the labels that training makes anyway: each
    batch against the centroids it met. The test rows are scored every few epochs, against the
    centroids that the epoch starts from. When the fit ends, both are scored once more, exactly,
    against the final centroids. The Trainer is to be given one of our data modules, which knows
    both splits and the number of classes.

    The vote that names clusters is learnt on the training rows and applied to both splits.
    Without targets there is only inertia; without test rows only ``train/``.

    Args:
        every_n_epochs: between two scores of the test rows.

    Attributes:
        vote: the ``MajorityVote`` of the last table of training rows, or None.
        results: after the fit: ``{"train": {...}, "test": {...}}``.

    Logs:
        ``train/homogeneity``, ``train/accuracy``, ``test/inertia``, ``test/homogeneity`` and
        ``test/accuracy`` (``train/inertia`` is the module's own). The step is the number of
        passes behind the centroids.

    Raises:
        TypeError: a number of epochs that is no integer; in the fit, another module or data
            module than ours.
        ValueError: one below 1.

    Example:
        >>> ClusterMetrics(every_n_epochs=5).results
        {}
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = check_integer("every_n_epochs", every_n_epochs, 1)
        self.vote: MajorityVote | None = None
        self.results: dict[str, Scores] = {}
        self._epoch: _Tally | None = None
        self._test: _Tally | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what could not be scored."""
        as_kmeans_module(pl_module)
        if data_module(trainer) is None:
            raise TypeError(
                "ClusterMetrics scores the rows of a torchkm data module, and the Trainer was "
                "given none: put them into torchkm.lightning.ArrayDataModule(train, targets)"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's table, and score the test rows where it is their turn."""
        model = as_kmeans_module(pl_module).kmeans
        self._epoch = _empty_tally(trainer, model, "train")
        turn = trainer.current_epoch % self.every_n_epochs == 0
        self._test = _tally(trainer, model, "test") if turn else None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the batch's labels to the table."""
        if self._epoch is not None:
            self._epoch.add(outputs["assignment"], outputs["targets"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's scores."""
        if self._epoch is None:
            return
        train = self._epoch.over_ranks(trainer)
        self.vote = _vote(train)
        scores = {"train": train.scores(self.vote)}
        del scores["train"]["inertia"]  # the module logs it
        if self._test is not None:
            scores["test"] = self._test.scores(self.vote)
        as_kmeans_module(pl_module).log_scores(_flat(scores), trainer.current_epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score both splits exactly, and log that as the last step."""
        train = _tally(trainer, as_kmeans_module(pl_module).kmeans, "train")
        if train is None:
            return
        self.vote = _vote(train)
        self.results = {"train": train.scores(self.vote)}
        test = _tally(trainer, as_kmeans_module(pl_module).kmeans, "test")
        if test is not None:
            self.results["test"] = test.scores(self.vote)
        for logger in trainer.loggers:
            logger.log_metrics(_flat(self.results), step=trainer.current_epoch)


def _empty_tally(trainer: pl.Trainer, model: KMeans, split: str) -> _Tally:
    data = data_module(trainer)
    has_targets = data is not None and data.split(split).targets is not None
    return _Tally.zeros(model.k, data.n_classes if data and has_targets else None, model.counts[0])


def _tally(trainer: pl.Trainer, model: KMeans, split: str) -> _Tally | None:
    """Assign all rows of a split to the present centroids; None where there are none."""
    data = data_module(trainer)
    if data is None or not data.n_rows(split):
        return None
    tally = _empty_tally(trainer, model, split)
    for batch in data.batches(split):
        rows, targets = split_batch(batch)
        tally.add(model(rows), targets)
    return tally.over_ranks(trainer)


def _vote(tally: _Tally) -> MajorityVote | None:
    if tally.table is None or not bool(tally.table.any()):
        return None
    return MajorityVote.from_table(tally.table)


def _flat(scores: dict[str, Scores]) -> Scores:
    return {f"{split}/{name}": v for split, found in scores.items() for name, v in found.items()}
