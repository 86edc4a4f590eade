"""Measure what the default run reaches on MNIST, and write it to docs/results/mnist.json.

    python experiments/figures.py

Every run is a process of its own, as a user starts it: ``run.py --k K --seed S``. The figures
are medians over the seeds. MNIST is looked for as in ``run.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import ArgumentParser

from common.files import write_json
from common.machine import describe_machine

_HERE = Path(__file__).parent
_SCORES = ("inertia", "homogeneity", "accuracy")


def main() -> None:
    """Run every k with every seed, and write and print the medians."""
    parser = ArgumentParser(prog="figures.py", description="Measure the default run on MNIST.")
    parser.add_argument("--ks", type=list[int], default=[10, 16, 36, 64, 144, 256], help="Ks.")
    parser.add_argument("--n-seeds", type=int, default=5, help="Runs of each k.")
    parser.add_argument(
        "--output", type=Path, default=_HERE.parent / "docs/results/mnist.json", help="JSON file."
    )
    flags = parser.parse_args()

    jobs = [["--k", str(k)] for k in flags.ks]
    jobs.append(["--k", "256", "--fit-on", "test"])
    runs = [
        {"flags": " ".join(job), **run(job, seed)}
        for seed in range(flags.n_seeds)  # seeds outermost, so that noise falls on every k alike
        for job in jobs
    ]
    summary = [summarise(" ".join(job), runs) for job in jobs]
    report = {"machine": describe_machine(), "medians": summary, "runs": runs}
    write_json(flags.output, report)
    print(as_table(summary))


def run(job: list[str], seed: int) -> dict[str, Any]:
    """Run one job in a process of its own; return its metrics and the seconds it took in all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(_HERE / "run.py"),
            *("--data", "mnist", "--accelerator", "cpu", "--output-dir", folder),
            *("--seed", str(seed), *job),
        ]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        seconds = time.perf_counter() - started
        (metrics,) = Path(folder).glob("*/metrics.json")
        print(f"{' '.join(job)} --seed {seed}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return {"command_seconds": round(seconds, 2), **json.loads(metrics.read_text())}


def summarise(flags: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the runs with these flags."""
    mine = [r for r in runs if r["flags"] == flags]
    return {
        "flags": flags,
        "n_seeds": len(mine),
        "command_seconds": median(r["command_seconds"] for r in mine),
        "fit_seconds": median(r["fit_seconds"] for r in mine),
        **{
            split: {name: median(r[split][name] for r in mine) for name in _SCORES}
            for split in ("train", "test")
        },
    }


def as_table(summary: list[dict[str, Any]]) -> str:
    """Return the medians as a Markdown table."""
    lines = [
        "| `run.py` with | train inertia | homogeneity | accuracy | test accuracy | seconds |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['flags']}` | {row['train']['inertia']:,.0f} | {row['train']['homogeneity']:.3f} "
        f"| {row['train']['accuracy']:.3f} | {row['test']['accuracy']:.3f} "
        f"| {row['command_seconds']:.1f} |"
        for row in summary
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
