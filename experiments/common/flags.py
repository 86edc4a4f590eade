"""The flags of run.py: what they are called, what they mean, and which cannot be followed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser, Namespace


def build_parser() -> ArgumentParser:
    """Return the parser of the command line and of the files in ``configs/``."""
    parser = ArgumentParser(
        prog="run.py",
        allow_abbrev=False,
        description="Fit k-means to images, and score it against their labels.",
        epilog="Each run leaves a folder with config.yaml, metrics.json, TensorBoard events, "
        "checkpoints/ and centroids.png. Flags override the --config file.",
    )
    parser.add_argument("--config", action="config", help="YAML file of flags, as configs/*.yaml.")
    add = parser.add_argument

    add("--k", type=int, default=256, help="Number of clusters.")
    add(
        "--data",
        type=Literal["mnist", "fashion_mnist", "kmnist", "digits"] | None,
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
    argv = _config_first(argv)
    resume = _value_of("--resume", argv)
    if resume is not None:
        saved = Path(resume) / "config.yaml"
        if not saved.is_file():
            stop(f"--resume {resume}: there is no {saved} to go on from")
        try:
            saved.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            stop(f"--resume {resume}: {saved} cannot be read: {error}")
        argv = ["--config", str(saved), *argv]
    flags = parser.parse_args(argv)
    if flags.resume != resume:
        stop(f"--resume belongs on the command line, once: got {flags.resume} elsewhere")
    return flags


def check(flags: Namespace) -> None:
    """Refuse, before any work, a flag that cannot be followed.

    Raises:
        ValueError: a number out of range, or a GPU that is not there.
    """
    import torch

    from torchkm.functional.checks import check_integer, check_number

    for name in ("k", "batch_size", "max_epochs", "devices"):
        check_integer(f"--{name.replace('_', '-')}", flags[name], 1)
    check_number("--tol", flags.tol, 0)
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if flags.accelerator == "gpu" and not has_gpu:
        raise ValueError("--accelerator gpu: PyTorch sees no GPU on this machine; use cpu or auto")


def settings(flags: Namespace) -> dict[str, Any]:
    """Return what describes the run, without how it was called."""
    left_out = ("config", "resume")
    return {name: value for name, value in vars(flags).items() if name not in left_out}


def stop(message: str) -> NoReturn:
    """End the script with an error on one line."""
    print(f"run.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _config_first(argv: list[str]) -> list[str]:
    """Put ``--config`` before the flags that are to override it."""
    for i, argument in enumerate(argv):
        if argument == "--config":
            return argv[i : i + 2] + argv[:i] + argv[i + 2 :]
        if argument.startswith("--config="):
            return [argument, *argv[:i], *argv[i + 1 :]]
    return argv


def _value_of(flag: str, argv: list[str]) -> str | None:
    for i, argument in enumerate(argv):
        if argument == flag and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
