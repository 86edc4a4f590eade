"""k-means as a LightningModule: an epoch is one pass over the rows."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from torchkm.functional import INITS, Assignment, ClusterStats
from torchkm.functional.checks import check_integer, check_k, check_known, check_number
from torchkm.functional.problem import as_problem
from torchkm.functional.ranks import gather_farthest, sum_stats
from torchkm.functional.stats import mean_and_variance
from torchkm.lightning.loaders import first_rows, rows_in_epoch, split_batch
from torchkm.lightning.ranks import Anchor, ranks_of
from torchkm.nn import KMeans
from torchkm.solvers import RULES, Decay, EmptyClusterWarning, kmeans

if TYPE_CHECKING:
    from pytorch_lightning.core.optimizer import LightningOptimizer

# Seeding looks at the first rows of the shuffled epoch, and improves on them a little.
_SEED_ROWS_PER_CENTROID, _FEWEST_SEED_ROWS = 32, 8192
_SEED_PASSES = 10

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_CHECKPOINT_KEY = "torchkm"

# Few centroids land in poor optima more often than many, and starting over costs them less.
_RESTARTS_TIMES_K, _MOST_RESTARTS = 256, 8


class KMeansModule(pl.LightningModule):
    """Drives ``torchkm.nn.KMeans`` through ``Trainer.fit``, by any update rule.

    Centroids are seeded on the first rows of the shuffled training data: ``n_init`` runs of
    ``kmeans``, ten passes each over ``max(8192, 32 k)`` rows, of which the best is kept. Then
    each epoch is a pass: the streaming rules update after every batch, ``"lloyd"`` after the
    epoch. On several processes the stats are summed over ranks before each update.

    There is nothing to optimise by gradients. The optimiser is empty and only counts steps,
    which is what makes checkpoints, ``max_steps`` and resuming work.

    Args:
        k: number of clusters.
        n_features: width of the rows.
        solver: ``"decay"``, ``"minibatch"``, ``"minibatch-sqrt"`` or ``"lloyd"``.
        half_life: for ``"decay"``: rows after which a batch counts half; None is half an epoch.
        init: ``"k-means++"``, ``"k-means||"`` or ``"random"``.
        n_init: seedings to choose from; None is 256 / k, between 1 and 8.
        metric: ``"euclidean"`` or ``"cosine"``.
        seed: of the seeding. The global random state is not used.
        dtype: of the centroids: ``"float32"`` or ``"float64"``.

    Attributes:
        kmeans: the ``torchkm.nn.KMeans``.
        inertia: of the rows in the last epoch, each against the centroids it met.
        shift: squared distance that the centroids moved in the last epoch, summed.
        n_reseeded: empty clusters re-seeded in the last epoch.
        variance: mean variance of a feature over the first rows, NaN before the fit.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: unknown names, sizes below 1, ``half_life`` with another solver.

    Example:
        >>> from torchkm.lightning import KMeansModule
        >>> KMeansModule(k=10, n_features=784, solver="lloyd").kmeans.rule
        Lloyd()
    """

    def __init__(
        self,
        k: int,
        n_features: int,
        *,
        solver: str = "decay",
        half_life: float | None = None,
        init: str = "k-means++",
        n_init: int | None = None,
        metric: str = "euclidean",
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        # Plain numbers and names, which is what a checkpoint can be read back from.
        k, n_features = check_k(k), check_integer("n_features", n_features, 1)
        solver, init = check_known("solver", solver, RULES), check_known("init", init, INITS)
        n_init = _restarts(k) if n_init is None else check_integer("n_init", n_init, 1)
        seed, dtype = check_integer("seed", seed, 0), check_known("dtype", dtype, _DTYPES)
        if half_life is not None:
            half_life = check_number("half_life", half_life, 0, above=True)
            if solver != "decay":
                raise ValueError(f'half_life belongs to solver "decay", got solver {solver!r}')
        self.save_hyperparameters(logger=False)
        self.automatic_optimization = False
        self._rule = RULES[solver] if half_life is None else Decay(half_life)
        self.kmeans = KMeans(
            k, n_features, rule=self._rule, init=init, metric=metric, dtype=_DTYPES[dtype]
        )
        self.n_init, self.seed = n_init, seed
        self.variance = self.inertia = self.shift = float("nan")
        self.n_reseeded = 0

    @property
    def is_streaming(self) -> bool:
        """Whether centroids move after every batch rather than after an epoch."""
        return self.kmeans.rule.streaming

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimiser of nothing, whose steps Lightning counts."""
        return StepCounter()

    def setup(self, stage: str) -> None:
        """Give DDP the parameter it insists on."""
        if self.trainer.world_size > 1 and not hasattr(self, "anchor"):
            self.anchor = Anchor()

    def on_train_start(self) -> None:
        """Fix the half-life to the length of an epoch, and seed a module that is not."""
        if self._rule == Decay():
            self.kmeans.rule = self._rule.for_rows(rows_in_epoch(self.trainer))
        if self.kmeans.is_seeded and not math.isnan(self.variance):
            return
        rows = first_rows(
            self.trainer, max(_FEWEST_SEED_ROWS, _SEED_ROWS_PER_CENTROID * self.kmeans.k)
        )
        variance = mean_and_variance(as_problem(rows, None, self.kmeans.metric))[1]
        self.variance = self.trainer.strategy.broadcast(variance)
        if not self.kmeans.is_seeded:
            self._seed(rows)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's totals."""
        self._start = self.kmeans.centroids.clone()
        self._inertia = torch.zeros_like(self.kmeans.counts[0])
        self._pass: ClusterStats | None = None
        self.n_reseeded = 0

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Learn from a batch (streaming rules), or add it to the pass (Lloyd)."""
        rows, targets = split_batch(batch)
        assignment, stats = self.kmeans.accumulate(rows)
        self._inertia += stats.inertia
        if self.is_streaming:
            self._learn(stats, rows, assignment)
        else:
            self._pass = stats if self._pass is None else self._pass + stats
            self._last = rows, assignment
        self._count_step()
        return {"assignment": assignment, "targets": targets}

    def on_train_epoch_end(self) -> None:
        """Finish the pass, and log its inertia, shift and re-seeded clusters."""
        if self._pass is not None:
            self._learn(self._pass, *self._last)
        inertia = self.trainer.strategy.reduce(self._inertia, reduce_op="sum")
        shift = (self.kmeans.centroids - self._start).square().sum(dtype=inertia.dtype)
        self.inertia, self.shift = torch.stack([inertia, shift]).tolist()
        scores = {
            "train/inertia": self.inertia,
            "train/shift": self.shift,
            "train/n_reseeded": float(self.n_reseeded),
        }
        self.log_scores(scores, self.current_epoch)

    def log_scores(self, scores: dict[str, float], step: int) -> None:
        """Log scores that all ranks agree on, with passes made as the ``step``.

        Lightning's own step counts batches; a metric named ``step`` would move it, and with it
        the names that checkpoints are given.
        """
        self.log_dict(scores, logger=False, sync_dist=True)  # for callbacks that monitor
        for logger in self.loggers:
            logger.log_metrics(scores, step=step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was learnt of the rows beside the buffers."""
        half_life = getattr(self.kmeans.rule, "half_life", None)
        checkpoint[_CHECKPOINT_KEY] = {"variance": self.variance, "half_life": half_life}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what ``on_save_checkpoint`` kept.

        Raises:
            ValueError: on resuming a fit from a checkpoint made amid an epoch, whose rows could
                not be told from those to come.
        """
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            _check_between_epochs(checkpoint)
        kept = checkpoint[_CHECKPOINT_KEY]
        self.variance = kept["variance"]
        if self._rule == Decay() and kept["half_life"] is not None:
            self.kmeans.rule = Decay(kept["half_life"])

    def on_test_epoch_start(self) -> None:
        """Start the test split's total."""
        self._inertia = torch.zeros_like(self.kmeans.counts[0])

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Assign a batch of the test split."""
        rows, targets = split_batch(batch)
        assignment = self.kmeans(rows)
        self._inertia += ClusterStats.weighed(assignment.sq_distances, None)
        return {"assignment": assignment, "targets": targets}

    def on_test_epoch_end(self) -> None:
        """Log the inertia of the test split."""
        inertia = self.trainer.strategy.reduce(self._inertia, reduce_op="sum")
        self.log("test/inertia", inertia.item(), sync_dist=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the labels of a batch ``(b,)``; on several ranks, of this rank's rows."""
        labels: Tensor = self.kmeans.predict(split_batch(batch)[0])
        return labels

    def forward(self, x: Tensor) -> Assignment:
        """Assign rows, as ``torchkm.nn.KMeans`` does."""
        assignment: Assignment = self.kmeans(x)
        return assignment

    def _count_step(self) -> None:
        cast("LightningOptimizer", self.optimizers()).step()

    def _learn(self, stats: ClusterStats, rows: Tensor, assignment: Assignment) -> None:
        ranks = ranks_of(self.trainer)
        farthest = gather_farthest(self.kmeans.farthest_from(rows, assignment), ranks)
        stats = sum_stats(stats, ranks)
        n_rows = stats.counts.sum().round().to(torch.int64)
        self.n_reseeded += self.kmeans.apply_stats(stats, n_rows, farthest)

    def _seed(self, rows: Tensor) -> None:
        model = self.kmeans
        with warnings.catch_warnings():
            # A sample may hold fewer distinct rows than clusters although the whole does not.
            warnings.simplefilter("ignore", EmptyClusterWarning)
            best = kmeans(
                rows,
                model.k,
                init=model.init,
                n_init=self.n_init,
                solver="lloyd",
                max_iter=_SEED_PASSES,
                metric=model.metric,
                generator=torch.Generator().manual_seed(self.seed),
            )
        model.seed(rows, init=self.trainer.strategy.broadcast(best.centroids))


class StepCounter(torch.optim.Optimizer):
    """An optimiser without parameters.

    Lightning counts the steps of optimisers and nothing else: without one, checkpoints are not
    written and ``max_steps`` is never reached.
    """

    def __init__(self) -> None:
        super().__init__([{"params": []}], defaults={})

    def step(self, closure: Any = None) -> Any:
        """Evaluate Lightning's closure."""
        return None if closure is None else closure()


def as_kmeans_module(pl_module: pl.LightningModule) -> KMeansModule:
    """Return the module that a callback is called with, which is to be a ``KMeansModule``.

    Raises:
        TypeError: another module than a ``KMeansModule``.
    """
    if not isinstance(pl_module, KMeansModule):
        raise TypeError(f"this callback goes with a KMeansModule, got {type(pl_module).__name__}")
    return pl_module


def _check_between_epochs(checkpoint: dict[str, Any]) -> None:
    if "loops" not in checkpoint:  # weights alone, which Lightning refuses in words of its own
        return
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    if epochs["processed"] < epochs["ready"] or not batches["is_last_batch"]:
        raise ValueError(
            f"the checkpoint was made amid epoch {checkpoint['epoch']}, and a fit resumes between "
            "epochs: save with ModelCheckpoint(save_on_train_epoch_end=True), or take the weights "
            "alone by load_from_checkpoint"
        )


def _restarts(k: int) -> int:
    return min(max(_RESTARTS_TIMES_K // k, 1), _MOST_RESTARTS)
