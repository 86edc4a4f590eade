"""Fit k-means to images with one command, and leave a folder that TensorBoard can show.

python experiments/run.py --k 256 --accelerator gpu
python experiments/run.py --config configs/mnist.yaml --k 64 --seed 3
python experiments/run.py --resume runs/mnist-k256-decay-seed0
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from torchkm.lightning import ArrayDataModule, ClusterMetrics, ConvergenceStop

# Set for the processes that Lightning starts beside the first, which repeat this script.
_RUN_DIR_VARIABLE = "TORCHKM_RUN_DIR"

_DATA = ("mnist", "fashion_mnist", "kmnist", "digits")


def build_parser() -> ArgumentParser:
    """Return the parser of the command line and of the files in ``configs/``."""
    parser = ArgumentParser(
        prog="run.py",
        description="Fit k-means to images, and score it against their labels.",
        epilog="Each run leaves a folder with config.yaml, metrics.json, TensorBoard events, "
        "checkpoints/ and centroids.png. Flags override the --config file.",
    )
    parser.add_argument("--config", action="config", help="YAML file of flags, as configs/*.yaml.")
    add = parser.add_argument

    add("--k", type=int, default=256, help="Number of clusters.")
    add(
        "--data",
        type=str,
        choices=_DATA,
        default=None,
        help="Data set. Left out: mnist, or the embedded digits where mnist cannot be had.",
    )
    add(
        "--data-root",
        type=str | None,
        default=None,
        help="Folder of the data sets in torchvision's layout; missing files are downloaded "
        "to it. Left out: $TORCHKM_DATA, else data/.",
    )
    add(
        "--fit-on",
        type=Literal["train", "test"],
        default="train",
        help="Rows to fit. test: fit the 10,000 test rows, as a well-known notebook does.",
    )

    add(
        "--solver",
        type=Literal["decay", "minibatch", "minibatch-sqrt", "lloyd"],
        default="decay",
        help="When centroids move. decay: after each batch, with a past that fades; minibatch: "
        "after each batch, as the mean of all rows seen; minibatch-sqrt: by the square root of "
        "a cluster's share of the batch; lloyd: after each pass.",
    )
    add(
        "--half-life",
        type=float | None,
        default=None,
        help="For decay: rows after which a batch counts half. Left out: half a pass.",
    )
    add(
        "--init",
        type=Literal["k-means++", "k-means||", "random"],
        default="k-means++",
        help="How centroids begin.",
    )
    add(
        "--n-init",
        type=int | None,
        default=None,
        help="Seedings to choose the best of. Left out: 256 / k, between 1 and 8.",
    )
    add(
        "--metric",
        type=Literal["euclidean", "cosine"],
        default="euclidean",
        help="cosine: spherical k-means, on unit rows.",
    )
    add("--batch-size", type=int, default=4096, help="Rows to a batch, over all devices.")
    add("--max-epochs", type=int, default=20, help="Passes over the rows at most.")
    add(
        "--tol",
        type=float,
        default=1e-4,
        help="Stop when a pass moves the centroids, in squares, by at most this share of the "
        "mean variance of a pixel.",
    )
    add(
        "--precision",
        type=Literal["float32", "float64", "bfloat16", "float16"],
        default="float32",
        help="Number format of the rows. Centroids stay in float32 or better.",
    )
    add("--seed", type=int, default=0, help="Of seeding and shuffling.")

    add(
        "--accelerator",
        type=Literal["auto", "cpu", "gpu"],
        default="auto",
        help="Where to run. auto: a GPU where there is one.",
    )
    add("--devices", type=int, default=1, help="How many GPUs, or processes on a CPU.")
    add("--output-dir", type=str, default="runs", help="Folder that the run's own goes into.")
    add(
        "--resume",
        type=str | None,
        default=None,
        help="Folder of an interrupted run: go on from its last checkpoint with its settings.",
    )
    return parser


def parse(argv: list[str]) -> Namespace:
    """Return the resolved flags; a resumed run starts from the settings that it was given."""
    parser = build_parser()
    resume = _value_of("--resume", argv)
    if resume is not None:
        saved = Path(resume) / "config.yaml"
        if not saved.is_file():
            stop(f"--resume {resume}: there is no {saved} to go on from")
        argv = ["--config", str(saved), *argv]
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the job that the flags describe."""
    flags = parse(sys.argv[1:] if argv is None else argv)
    _check_flags(flags)
    _quiet_lightning()
    from torchkm.functional.checks import check_k
    from torchkm.lightning import DatasetUnavailable

    try:
        data = load_data(flags)
        check_k(flags.k, data.n_rows("train"))
        run_dir = make_run_dir(flags, data.name)
        fit(flags, data, run_dir)
    except DatasetUnavailable as error:
        stop(
            f"{error}\n  Either point --data-root or $TORCHKM_DATA at a folder that holds "
            "the files, or run with --data digits, which needs none."
        )
    except (TypeError, ValueError) as error:
        stop(str(error))


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
        if flags.data is not None or isinstance(error, DatasetDamaged):
            raise
        _announce_fallback(error)
        return _ready(DigitsDataModule(**common))


def make_run_dir(flags: Namespace, data_name: str) -> Path:
    """Return the folder of this run, made and writable."""
    if flags.resume is not None:
        return Path(flags.resume)
    if _RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[_RUN_DIR_VARIABLE])
    name = f"{data_name}-k{flags.k}-{flags.solver}-seed{flags.seed}"
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


def fit(flags: Namespace, data: ArrayDataModule, run_dir: Path) -> None:
    """Fit, score, and write everything that the run leaves."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import LambdaCallback, ModelCheckpoint
    from pytorch_lightning.loggers import TensorBoardLogger

    from torchkm.lightning import (
        CentroidImages,
        ClusterMetrics,
        ConvergenceStop,
        InertiaProgressBar,
        KMeansModule,
    )

    module = KMeansModule(
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
    metrics, convergence = ClusterMetrics(), ConvergenceStop(flags.tol)
    checkpoints = ModelCheckpoint(
        run_dir / "checkpoints",
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        accelerator=flags.accelerator,
        devices=flags.devices,
        max_epochs=flags.max_epochs,
        logger=TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False),
        callbacks=[
            InertiaProgressBar(),
            metrics,
            CentroidImages(path=run_dir / "centroids.png"),
            LambdaCallback(on_train_end=lambda *_: _log_settings(flags, trainer, metrics)),
            convergence,
            checkpoints,
        ],
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    if trainer.is_global_zero:
        _save_config(flags, run_dir)
        rows = f"{data.n_rows('train'):,} rows of {data.n_features} numbers"
        print(f"{data.name}: {rows} to fit, k={flags.k}", flush=True)

    started = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=_checkpoint(flags, run_dir))
    except (KeyboardInterrupt, SystemExit):
        _explain_interrupt(run_dir, checkpoints.best_model_path)
        raise
    seconds = time.perf_counter() - started

    if trainer.is_global_zero:
        _report(flags, data, run_dir, trainer, metrics, convergence, seconds)


def stop(message: str) -> NoReturn:
    """End the script with an error on one line."""
    print(f"run.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _report(
    flags: Namespace,
    data: ArrayDataModule,
    run_dir: Path,
    trainer: pl.Trainer,
    metrics: ClusterMetrics,
    convergence: ConvergenceStop,
    seconds: float,
) -> None:
    if not metrics.results:
        stop(
            f"{run_dir} has already made its {trainer.current_epoch} passes; "
            "to go on, raise --max-epochs"
        )
    summary = {
        "dataset": data.name,
        "n_train": data.n_rows("train"),
        "n_test": data.n_rows("test"),
        "k": flags.k,
        "seed": flags.seed,
        "accelerator": trainer.strategy.root_device.type,
        "n_iter": trainer.current_epoch,
        "status": convergence.status.value,
        "fit_seconds": round(seconds, 3),
        **metrics.results,
    }
    (run_dir / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\n{summary['n_iter']} passes in {seconds:.1f} s: {convergence.status.message}")
    print(f"{'':8}{'rows':>8}{'inertia':>16}{'homogeneity':>13}{'accuracy':>10}")
    for split, scores in metrics.results.items():
        print(
            f"{split:8}{data.n_rows(split):8,}{scores['inertia']:16,.1f}"
            f"{scores['homogeneity']:13.4f}{scores['accuracy']:10.4f}"
        )
    print(f"\nEverything is in {run_dir}. To look at it:\n  tensorboard --logdir {run_dir.parent}")


def _log_settings(flags: Namespace, trainer: pl.Trainer, metrics: ClusterMetrics) -> None:
    """Fill TensorBoard's tab of hyper-parameters: what the run was given, and what it scored."""
    scores = {
        f"hp/{split}_{name}": value
        for split, found in metrics.results.items()
        for name, value in found.items()
    }
    settings = {name: str(value) for name, value in _settings(flags).items()}
    for logger in trainer.loggers:
        logger.log_hyperparams(settings, scores)


def _settings(flags: Namespace) -> dict[str, Any]:
    """Return what describes the run, without how it was called."""
    left_out = ("config", "resume")
    return {name: value for name, value in vars(flags).items() if name not in left_out}


def _save_config(flags: Namespace, run_dir: Path) -> None:
    import yaml

    (run_dir / "config.yaml").write_text(yaml.safe_dump(_settings(flags), sort_keys=False))


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


def _check_flags(flags: Namespace) -> None:
    """Stop before any work where a flag cannot be followed."""
    import torch

    for name in ("k", "batch_size", "max_epochs", "devices"):
        if flags[name] < 1:
            stop(f"--{name.replace('_', '-')} must be at least 1, got {flags[name]}")
    if flags.accelerator == "gpu" and not (torch.cuda.is_available() or torch.mps.is_available()):
        stop("--accelerator gpu: PyTorch sees no GPU on this machine; use cpu or auto")


def _checkpoint(flags: Namespace, run_dir: Path) -> Path | None:
    if flags.resume is None:
        return None
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        stop(f"--resume {flags.resume}: there is no checkpoint {checkpoint}")
    return checkpoint


def _explain_interrupt(run_dir: Path, checkpoint: str) -> None:
    if not checkpoint:
        print("\nInterrupted before the first pass was complete: nothing to resume.")
        return
    print(f"\nInterrupted. To go on:\n  python experiments/run.py --resume {run_dir}")


def _value_of(flag: str, argv: list[str]) -> str | None:
    for i, argument in enumerate(argv):
        if argument == flag and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None


def _quiet_lightning() -> None:
    """Keep Lightning's advertisements and advice for other kinds of model off the screen."""
    import logging

    import pytorch_lightning  # sets its own level, so it has to come first

    logging.getLogger(pytorch_lightning.__name__).setLevel(logging.WARNING)
    # Raised inside Lightning against a newer torch; nothing a user of this script can mend.
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    # A resumed run goes on in its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")


if __name__ == "__main__":
    main()
