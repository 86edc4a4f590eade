"""Measure how the time of a pass and memory grow, and write docs/results/growth.json.

    python experiments/growth.py

Each shape is fitted in a process of its own, shapes in turn, ``--repeats`` times: the default
solver from random rows of a seeded mixture with unequal clusters. The time is that of a pass over
all rows in which every row was scored (median); the memory is what the fit took beyond the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jsonargparse import ArgumentParser

import torchkm
from benchmark import mixture
from common.files import write_json
from common.machine import describe_machine, forget_the_peak, peak

_HERE = Path(__file__).parent
_OUTPUT = _HERE.parent / "docs/results/growth.json"
_BASE = (250_000, 128, 256)
_SHAPES = [
    _BASE,
    (500_000, 128, 256),
    (1_000_000, 128, 256),
    (250_000, 256, 256),
    (250_000, 512, 256),
    (250_000, 128, 512),
    (250_000, 128, 1024),
    (1_000_000, 128, 1024),
]
_PASSES, _WARM_ROWS = 8, 8192


def main() -> None:
    """Measure every shape, write and print."""
    parser = ArgumentParser(prog="growth.py", description="Measure how time and memory grow.")
    parser.add_argument("--repeats", type=int, default=3, help="Fits of each shape.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="Threads of each.")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="JSON file.")
    flags = parser.parse_args()
    runs = [_run(shape, flags.threads) for _ in range(flags.repeats) for shape in _SHAPES]
    rows = summary(runs)
    report = {"machine": describe_machine(), "threads": flags.threads, "summary": rows}
    write_json(flags.output, {**report, "runs": runs})
    print(as_table(rows))


def _run(shape: tuple[int, int, int], threads: int) -> dict[str, Any]:
    command = [sys.executable, str(_HERE / "growth.py"), "--one", *map(str, shape), str(threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    run: dict[str, Any] = json.loads(subprocess.check_output(command, text=True, env=env))
    print(run, file=sys.stderr)
    return run


def fit_one(n: int, d: int, k: int, threads: int) -> dict[str, Any]:
    """Fit one shape; return the seconds of passes that scored every row, and the memory."""
    torch.set_num_threads(threads)
    x = torch.from_numpy(mixture(n, d))
    settings: dict[str, Any] = {"init": "random", "tol": 0, "max_iter": _PASSES}
    torchkm.kmeans(x[:_WARM_ROWS], k, **settings)
    forget_the_peak()
    before = peak()
    clock = [time.perf_counter()]

    def callback(record: torchkm.PassRecord) -> None:
        clock.append(time.perf_counter())

    generator = torch.Generator().manual_seed(0)
    history = torchkm.kmeans(x, k, generator=generator, callback=callback, **settings).history
    whole = [i for i, record in enumerate(history) if record.n_rows == n][1:]  # one lets rows in
    seconds = [clock[i + 1] - clock[i] for i in whole if history[i].n_scored == n]
    extra = (peak() - before) / 2**10
    return {"n": n, "d": d, "k": k, "seconds": seconds, "extra_mb": extra}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians of each shape."""
    rows = []
    for shape in dict.fromkeys((run["n"], run["d"], run["k"]) for run in runs):
        mine = [run for run in runs if (run["n"], run["d"], run["k"]) == shape]
        seconds = [second for run in mine for second in run["seconds"]]
        extra = median(run["extra_mb"] for run in mine)
        n, d, k = shape
        pass_ = median(seconds) if seconds else None
        rows.append({"n": n, "d": d, "k": k, "pass_seconds": pass_, "extra_mb": extra})
    return rows


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the medians as a Markdown table."""
    lines = ["| n | d | k | ms for a pass | MB beyond the rows |", "|---|---|---|---|---|"]
    for row in rows:
        seconds = "" if row["pass_seconds"] is None else f"{row['pass_seconds'] * 1e3:.0f}"
        lines.append(
            f"| {row['n']:,} | {row['d']} | {row['k']} | {seconds} | {row['extra_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(fit_one(*map(int, sys.argv[2:]))))
    else:
        main()
