"""Measure what torchkm adds to the bare work, and write it to docs/results/overheads.json.

    python experiments/overheads.py

Ratios, each side timed in turn with the others in one process (A B A B ...), medians:

- ``functional.assign`` against the bare product ``x @ centroids.T``;
- ``functional.assign_and_accumulate`` against the same;
- a pass of the default solver that scores every row, against the bare product in the dtype it
  scores in, and against a read of the rows (``x.sum()``);
- an epoch through the Trainer against the same batches through the bare ``nn.KMeans``;
- ``import torchkm`` after ``import torch``, in processes of their own.
"""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

import torchkm
from common.files import write_json
from common.machine import describe_machine
from common.mnist_rows import mnist, train_rows
from torchkm.kernels import OrderedRows, Tracker
from torchkm.lightning import ClusterMetrics, KMeansModule, MNISTDataModule
from torchkm.solvers import Decay

_HERE = Path(__file__).parent
_IMPORT = (
    "import time, torch; t = time.perf_counter(); import torchkm; print(time.perf_counter() - t)"
)


def main() -> None:
    """Measure, write and print."""
    parser = ArgumentParser(prog="overheads.py", description="Measure torchkm's overheads.")
    root = os.environ.get("TORCHKM_DATA", "data")
    parser.add_argument("--data-root", type=str, default=root, help="Folder of MNIST.")
    parser.add_argument("--ks", type=list[int], default=[10, 64, 256], help="Ks.")
    parser.add_argument("--repeats", type=int, default=15, help="Timings of each side.")
    parser.add_argument(
        "--output",
        type=Path,
        default=_HERE.parent / "docs/results/overheads.json",
        help="JSON file.",
    )
    flags = parser.parse_args()
    logging.getLogger(pl.__name__).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=pl.__name__)

    data = mnist(flags.data_root, "overheads.py")
    rows = train_rows(data)
    results = []
    for k in flags.ks:
        results += assignment(rows, k, flags.repeats)
        results += solver_pass(rows, k, flags.repeats)
        results += trainer_epoch(data, k, flags.repeats)
    results.append(import_time(flags.repeats))
    report = {"machine": describe_machine(), "results": results}
    write_json(flags.output, report)
    print(as_table(results))


def assignment(rows: Tensor, k: int, repeats: int) -> list[dict[str, Any]]:
    """Time the two forms of assignment beside the bare product."""
    centroids = torchkm.functional.seed(
        rows, k, "random", generator=torch.Generator().manual_seed(0)
    )
    sides = {
        "x @ centroids.T": lambda: rows @ centroids.T,
        "assign": lambda: torchkm.functional.assign(rows, centroids),
        "assign_and_accumulate": lambda: torchkm.functional.assign_and_accumulate(rows, centroids),
    }
    times = interleaved(sides, repeats)
    base = times["x @ centroids.T"]
    return [
        compared(f"{name}, k={k}", times[name], "x @ centroids.T", base) for name in list(sides)[1:]
    ]


def solver_pass(rows: Tensor, k: int, repeats: int) -> list[dict[str, Any]]:
    """Time passes to and fro between two sets of centroids, so far apart that no row is skipped."""
    generator = torch.Generator().manual_seed(0)
    first = torchkm.kmeans(rows, k, max_iter=3, generator=generator).centroids
    second = first + 0.03 * torch.randn(first.shape, generator=generator)
    tracker = Tracker(OrderedRows(rows, None, rows.mean(0), False), None, k)
    tracker.admit(len(rows))
    tracker.follow(first)
    dtype = getattr(torch, tracker.precision)
    narrow, target = rows.to(dtype), first.to(dtype)
    turns = itertools.cycle([second, first])
    sides: dict[str, Callable[[], Any]] = {
        "pass": lambda: tracker.follow(next(turns)),
        "product": lambda: narrow @ target.T,
        "x.sum()": rows.sum,
    }
    scored = tracker.follow(next(turns)).n_scored
    if scored < len(rows):
        raise SystemExit(f"overheads.py: a pass scored {scored:,} of {len(rows):,} rows, not all")
    times = interleaved(sides, 2 * (repeats // 2))
    what = f"pass in {tracker.precision}, k={k}"
    return [
        compared(what, times["pass"], f"x @ centroids.T in {tracker.precision}", times["product"]),
        compared(what, times["pass"], "x.sum()", times["x.sum()"]),
    ]


def trainer_epoch(data: MNISTDataModule, k: int, repeats: int) -> list[dict[str, Any]]:
    """Time epochs of the Trainer, bare and with ClusterMetrics, beside the module's own."""
    sides: dict[str, Callable[[], list[float]]] = {
        "bare": lambda: bare_epochs(data, k),
        "Trainer": lambda: trainer_epochs(data, k, []),
        "Trainer and ClusterMetrics": lambda: trainer_epochs(data, k, [ClusterMetrics()]),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(max(repeats // 3, 1)):
        for name, epochs in sides.items():
            times[name] += epochs()
    base = times["bare"]
    return [
        compared(f"{name}, one epoch, k={k}", times[name], "nn.KMeans.update", base)
        for name in list(sides)[1:]
    ]


def bare_epochs(data: MNISTDataModule, k: int, n_epochs: int = 4) -> list[float]:
    """Return the seconds of each epoch but the first through ``nn.KMeans.update``."""
    module = torchkm.nn.KMeans(k, data.n_features, rule=Decay().for_rows(data.n_rows("train")))
    batches, times = data.train_dataloader(), []
    for epoch in range(n_epochs):
        batches.sampler.set_epoch(epoch)
        started = time.perf_counter()
        for rows, _ in batches:
            module.update(rows)
        times.append(time.perf_counter() - started)
    return times[1:]


class _Clock(pl.Callback):
    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.starts.append(time.perf_counter())


def trainer_epochs(
    data: MNISTDataModule, k: int, callbacks: list[pl.Callback], n_epochs: int = 5
) -> list[float]:
    """Return the seconds from the start of one epoch to the next, but for the first."""
    clock = _Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=n_epochs,
        callbacks=[clock, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(KMeansModule(k, data.n_features, n_init=1), data)
    return [b - a for a, b in zip(clock.starts[1:], clock.starts[2:], strict=False)]


def import_time(repeats: int) -> dict[str, Any]:
    """Time ``import torchkm`` after ``import torch``."""
    times = [
        float(subprocess.check_output([sys.executable, "-c", _IMPORT], text=True))
        for _ in range(max(repeats // 3, 1))
    ]
    return {"what": "import torchkm, after import torch", "seconds": median(times), "raw": times}


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each side, timed in turn after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            if repeat:
                times[name].append(time.perf_counter() - started)
    return times


def compared(what: str, times: list[float], beside: str, base: list[float]) -> dict[str, Any]:
    """Return both medians and their ratio, with the raw seconds."""
    return {
        "what": what,
        "seconds": median(times),
        "beside": beside,
        "beside_seconds": median(base),
        "ratio": median(times) / median(base),
        "raw": times,
        "beside_raw": base,
    }


def as_table(results: list[dict[str, Any]]) -> str:
    """Return the medians as a Markdown table."""
    lines = ["| what | ms | beside | ms | ratio |", "|---|---|---|---|---|"]
    for r in results:
        beside = (
            f"`{r['beside']}` | {r['beside_seconds'] * 1e3:.0f} | {r['ratio']:.2f}"
            if "ratio" in r
            else "| |"
        )
        lines.append(f"| {r['what']} | {r['seconds'] * 1e3:.0f} | {beside} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
