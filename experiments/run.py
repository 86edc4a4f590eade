"""Fit k-means to images with one command, and leave a folder that TensorBoard can show.

python experiments/run.py --k 256 --accelerator gpu
python experiments/run.py --config configs/mnist.yaml --k 64 --seed 3
python experiments/run.py --resume runs/mnist-k256-decay-seed0
"""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonargparse import Namespace

from common.flags import check, parse, stop
from common.report import CONFIG_FILE, Outcome, has_converged, log_settings, report, save_config

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint

    from torchkm.lightning import ArrayDataModule, ClusterMetrics, ConvergenceStop, KMeansModule

# Set for the processes that Lightning starts beside the first, which repeat this script.
_RUN_DIR_VARIABLE = "TORCHKM_RUN_DIR"


def main(argv: list[str] | None = None) -> None:
    """Run the job that the flags describe, or say in a line why it cannot be."""
    flags = parse(sys.argv[1:] if argv is None else argv)
    try:
        check(flags)
        run(flags)
    except (TypeError, ValueError) as error:
        stop(str(error))


def run(flags: Namespace) -> None:
    """Load the data, fit, score and leave the folder."""
    _quiet_lightning()
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from torchkm.functional.checks import check_k
    from torchkm.lightning import DatasetUnavailable

    try:
        data = load_data(flags)
        flags.data = data.name
        check_k(flags.k, data.n_rows("train"))
        module = build_module(flags, data)
        checkpoint = find_checkpoint(flags, module)
        fit(flags, module, data, make_run_dir(flags), checkpoint)
    except DatasetUnavailable as error:
        stop(
            f"{error}\n  Either point --data-root or $TORCHKM_DATA at a folder that holds "
            "the files, or run with --data digits, which needs none."
        )
    except MisconfigurationException as error:
        stop(str(error))
    finally:
        os.environ.pop(_RUN_DIR_VARIABLE, None)


def load_data(flags: Namespace) -> ArrayDataModule:
    """Return the data module, read from disk; the default run may fall back to the digits."""
    import torch

    from torchkm.lightning import DatasetUnavailable, DigitsDataModule, MNISTDataModule
    from torchkm.lightning.mnist import DatasetDamaged

    common: dict[str, Any] = {
        "batch_size": flags.batch_size,
        "seed": flags.seed,
        "dtype": getattr(torch, flags.precision),
    }
    if flags.data == "digits":
        if flags.fit_on != "train":
            raise ValueError('--fit-on test goes with the MNIST family, got --data "digits"')
        return _ready(DigitsDataModule(**common))
    root = flags.data_root or os.environ.get("TORCHKM_DATA") or "data"
    images = MNISTDataModule(flags.data or "mnist", root, fit_on=flags.fit_on, **common)
    try:
        return _ready(images)
    except DatasetUnavailable as error:
        asked_for = flags.data is not None or flags.fit_on != "train"
        if asked_for or isinstance(error, DatasetDamaged):
            raise
        _announce_fallback(error)
        return _ready(DigitsDataModule(**common))


def build_module(flags: Namespace, data: ArrayDataModule) -> KMeansModule:
    """Return the module that the flags describe."""
    from torchkm.lightning import KMeansModule

    return KMeansModule(
        flags.k,
        data.n_features,
        solver=flags.solver,
        half_life=flags.half_life,
        init=flags.init,
        n_init=flags.n_init,
        metric=flags.metric,
        seed=flags.seed,
        dtype="float64" if flags.precision == "float64" else "float32",
    )


class Checkpoint(NamedTuple):
    """Where to resume from."""

    path: Path
    n_passes: int


def find_checkpoint(flags: Namespace, module: KMeansModule) -> Checkpoint | None:
    """Return the checkpoint to resume from, once it is sure that it can be; None for a new run."""
    import torch

    if flags.resume is None:
        return None
    path = Path(flags.resume) / "checkpoints" / "last.ckpt"
    if not path.is_file():
        stop(f"--resume {flags.resume}: there is no checkpoint {path}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        made, n_passes = saved["hyper_parameters"], saved["epoch"] + 1
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        stop(f"--resume {flags.resume}: {path} cannot be read: {reason[:200]}")
    for name, value in module.hparams.items():
        if made.get(name) != value:
            stop(
                f"--resume {flags.resume}: the run was made with {name}={made.get(name)!r}, "
                f"and cannot go on with {value!r}"
            )
    if n_passes >= flags.max_epochs:
        stop(
            f"--resume {flags.resume}: passes made so far: {n_passes}; to go on, raise "
            f"--max-epochs above that, got {flags.max_epochs}"
        )
    if has_converged(Path(flags.resume), flags.tol):
        stop(f"--resume {flags.resume}: the run has converged; to go on, lower --tol")
    return Checkpoint(path, n_passes)


def make_run_dir(flags: Namespace) -> Path:
    """Return the folder of this run, made and writable."""
    if flags.resume is not None:
        return Path(flags.resume)
    if _RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[_RUN_DIR_VARIABLE])
    name = f"{flags.data}-k{flags.k}-{flags.solver}-seed{flags.seed}"
    run_dir = Path(flags.output_dir) / name
    try:
        number = 1
        while run_dir.exists():
            number += 1
            run_dir = run_dir.with_name(f"{name}-{number}")
        run_dir.mkdir(parents=True)
    except OSError as error:
        stop(f"--output-dir {flags.output_dir}: cannot write there: {error}")
    os.environ[_RUN_DIR_VARIABLE] = str(run_dir)
    return run_dir


class Job(NamedTuple):
    """The Trainer, and those of its callbacks that know how the fit went."""

    trainer: pl.Trainer
    metrics: ClusterMetrics
    convergence: ConvergenceStop
    checkpoints: ModelCheckpoint


def build_job(flags: Namespace, run_dir: Path, checkpoint: Checkpoint | None) -> Job:
    """Return the Trainer that the flags describe, which leaves its files in ``run_dir``."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import LambdaCallback, ModelCheckpoint
    from pytorch_lightning.loggers import TensorBoardLogger

    from torchkm.lightning import (
        CentroidImages,
        ClusterMetrics,
        ConvergenceStop,
        InertiaProgressBar,
    )

    logger = TensorBoardLogger(
        run_dir,
        name="",
        version="",
        default_hp_metric=False,
        purge_step=checkpoint.n_passes if checkpoint else None,  # final scores are final no more
    )
    logger.NAME_HPARAMS_FILE = CONFIG_FILE  # which is there already: Lightning adds none
    metrics, convergence = ClusterMetrics(), ConvergenceStop(flags.tol)
    checkpoints = ModelCheckpoint(
        run_dir / "checkpoints",
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )

    def log_scores(trainer: pl.Trainer, _: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            log_settings(flags, logger, metrics.results)

    trainer = pl.Trainer(
        accelerator=flags.accelerator,
        devices=flags.devices,
        max_epochs=flags.max_epochs,
        logger=logger,
        callbacks=[
            InertiaProgressBar(),
            metrics,
            CentroidImages(path=run_dir / "centroids.png"),
            LambdaCallback(on_train_end=log_scores),
            convergence,
            checkpoints,
        ],
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    return Job(trainer, metrics, convergence, checkpoints)


def fit(
    flags: Namespace,
    module: KMeansModule,
    data: ArrayDataModule,
    run_dir: Path,
    checkpoint: Checkpoint | None,
) -> None:
    """Fit, score, and write everything that the run leaves."""
    trainer, metrics, convergence, checkpoints = build_job(flags, run_dir, checkpoint)
    if trainer.is_global_zero:
        save_config(flags, run_dir)
        rows = f"{data.n_rows('train'):,} rows of {data.n_features} numbers"
        print(f"{data.name}: {rows} to fit, k={flags.k}", flush=True)

    started = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=checkpoint.path if checkpoint else None)
    except (KeyboardInterrupt, SystemExit):
        if trainer.is_global_zero:
            _explain_interrupt(run_dir, checkpoints.best_model_path)
        raise
    seconds = time.perf_counter() - started

    if trainer.is_global_zero:
        device = trainer.strategy.root_device.type
        outcome = Outcome(
            trainer.current_epoch, convergence.status, seconds, device, metrics.results
        )
        report(flags, data, run_dir, outcome)


def _ready(data: ArrayDataModule) -> ArrayDataModule:
    data.prepare_data()
    data.setup()
    return data


def _announce_fallback(error: Exception) -> None:
    line = "!" * 88
    print(
        f"{line}\n!! {error}\n"
        "!! GOING ON WITH SCIKIT-LEARN'S EMBEDDED DIGITS (1,797 IMAGES OF 8 x 8) INSTEAD OF "
        f"MNIST.\n!! For MNIST, point --data-root or $TORCHKM_DATA at its files.\n{line}",
        file=sys.stderr,
        flush=True,
    )


def _explain_interrupt(run_dir: Path, checkpoint: str) -> None:
    if not checkpoint:
        print("\nInterrupted before the first pass was complete: nothing to resume.")
        return
    command = f"python experiments/run.py --resume {shlex.quote(str(run_dir))}"
    print(f"\nInterrupted. To go on:\n  {command}")


def _quiet_lightning() -> None:
    """Keep Lightning's advertisements and advice for other kinds of model off the screen."""
    import logging

    import pytorch_lightning  # sets its own level, so it has to come first

    for name in (pytorch_lightning.__name__, "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Raised inside Lightning against a newer torch; nothing a user of this script can mend.
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    # A resumed run goes on in its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")


if __name__ == "__main__":
    main()
