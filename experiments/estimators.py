"""Time torchkm's estimators beside scikit-learn's of the same name, all settings at their defaults.

    python experiments/estimators.py

A fit of MNIST, of sparse rows, and of many small problems, each side in processes of its own, in
turn with the other. What was measured goes to docs/results/estimators.json, and a page beside it.
Each process first fits once, untimed, so that loading libraries, compiling loops and starting
threads counts for none; but for the first fits, which are timed as they are.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser

from common.files import known, write_json
from common.machine import describe_machine
from estimator_cases import GROUPS, Case, cases

_HERE = Path(__file__).parent
_SIDES = {"torchkm": "torchkm.cluster", "scikit-learn": "sklearn.cluster"}

# Methods of a fitted estimator, given some rows.
_OF_FITTED = ("predict", "score", "transform", "partial_fit")

# How a method is called, behind the number of clusters.
_CALLS = {
    "fit": ").fit",
    "given": ", init=given).fit",
    "cold": ").fit, first on a machine",
    "first": ").fit, first in a process",
    **{name: f").{name}" for name in _OF_FITTED},
}

# Rows that a long fit is warmed up with; rows of a batch; and rows that other methods are given.
_WARM_ROWS, _BATCH, _GIVEN = 5000, 1024, 10_000


def main() -> None:
    """Measure, write and print."""
    if len(sys.argv) == 4 and sys.argv[1] == "--time":
        print(json.dumps(timed(Case(**json.loads(sys.argv[2])), *json.loads(sys.argv[3]))))
        return
    parser = ArgumentParser(prog="estimators.py", description="Time estimators beside others.")
    root = os.environ.get("TORCHKM_DATA", "data")
    parser.add_argument("--data-root", type=str, default=root, help="Folder of MNIST.")
    parser.add_argument("--groups", type=list[str], default=list(GROUPS), help="What to time.")
    parser.add_argument("--rounds", type=int, default=5, help="Processes of each side.")
    parser.add_argument("--threads", type=int, default=2, help="Threads of each process.")
    parser.add_argument(
        "--output",
        type=Path,
        default=_HERE.parent / "docs/results/estimators.json",
        help="JSON file; groups that are not timed keep what it says of them.",
    )
    flags = parser.parse_args()
    before = known(flags.output).get("runs", [])
    runs = [run for run in before if run["group"] not in flags.groups]
    for case in cases(flags.groups):
        for number in range(flags.rounds):
            for side in _SIDES:
                run = _in_a_process(case, side, number, flags)
                runs.append(run)
                print(
                    f"{side:>13} {case.estimator}({case.k}).{case.method} {case.rows} "
                    f"{case.dtype}: {1e3 * run['seconds']:.2f} ms to {run['inertia']:,.6g}"
                )
        keep(flags.output, runs)  # each time: to time all of them takes most of an hour
    print(flags.output.with_suffix(".md").read_text())


def keep(output: Path, runs: list[dict[str, Any]]) -> None:
    """Write what was timed so far, and the page of its tables beside it."""
    report = {"machine": describe_machine(), "summary": summary(runs), "runs": runs}
    write_json(output, report)
    output.with_suffix(".md").write_text(as_page(report, output.name))


def _in_a_process(case: Case, side: str, number: int, flags: Any) -> dict[str, Any]:
    arguments = json.dumps([side, number, flags.data_root])
    command = [sys.executable, str(_HERE / "estimators.py"), "--time"]
    env = {**os.environ, "OMP_NUM_THREADS": str(flags.threads)}
    command += [json.dumps(asdict(case)), arguments]
    with tempfile.TemporaryDirectory() as nothing_compiled:
        if case.method == "cold":
            env["NUMBA_CACHE_DIR"] = nothing_compiled
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"estimators.py: {side}, {case} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**asdict(case), "side": side, "number": number, **found}


def timed(case: Case, side: str, number: int, root: str) -> dict[str, float]:
    """Return the median seconds and inertia of some calls, each with a seed of its own."""
    import warnings

    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    rows = _rows(case, root)
    make = getattr(importlib.import_module(_SIDES[side]), case.estimator)
    calls: list[Callable[[], Any]]
    if case.method in _OF_FITTED:
        model = make(case.k, random_state=number, max_iter=5).fit(rows)
        new = rows[: _BATCH if case.method == "partial_fit" else _GIVEN].copy()
        calls = [partial(getattr(model, case.method), new)] * case.repeats
        calls[0]()
    else:
        if case.method not in ("first", "cold"):
            warm = rows if case.repeats > 1 else rows[:_WARM_ROWS]
            make(case.k, random_state=0).fit(warm)
        given = {"init": rows[: case.k].copy(), "n_init": 1} if case.method == "given" else {}
        seeds = range(number * case.repeats, (number + 1) * case.repeats)
        calls = [partial(make(case.k, random_state=seed, **given).fit, rows) for seed in seeds]
    seconds, inertias = [], []
    for call in calls:
        start = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - start)
        inertias.append(getattr(found, "inertia_", 0.0))
    return {"seconds": median(seconds), "inertia": float(np.mean(inertias))}


def _rows(case: Case, root: str) -> Any:
    name, _, shape = case.rows.partition("-")
    if name == "mnist":
        from common.mnist_rows import mnist, train_rows

        return train_rows(mnist(root, "estimators.py")).numpy().astype(case.dtype)
    if name == "iris":
        from sklearn.datasets import load_iris

        return load_iris().data.astype(case.dtype)
    n, d = map(int, shape.split("x"))
    if name == "csr":
        import scipy.sparse

        return scipy.sparse.random(n, d, 0.01, format="csr", dtype=case.dtype, random_state=0)
    random = np.random.default_rng(0)
    if name == "uniform":
        return random.random((n, d)).astype(case.dtype)
    centres = random.uniform(-10, 10, (case.k, d))
    return (centres[random.integers(case.k, size=n)] + random.normal(size=(n, d))).astype(
        case.dtype
    )


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians of both sides for each case, and how many times sooner torchkm is."""
    keys = ("group", "estimator", "method", "rows", "dtype", "k")
    found = []
    for key in dict.fromkeys(tuple(run[name] for name in keys) for run in runs):
        mine = [run for run in runs if tuple(run[name] for name in keys) == key]
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        for side in _SIDES:
            there = [run for run in mine if run["side"] == side]
            row[side] = median(run["seconds"] for run in there)
            row[f"{side} inertia"] = median(run["inertia"] for run in there)
        pairs = zip(
            *([r["seconds"] for r in mine if r["side"] == side] for side in _SIDES), strict=True
        )
        row["times sooner"] = median(theirs / ours for ours, theirs in pairs)
        found.append(row)
    return found


def as_page(report: dict[str, Any], name: str) -> str:
    """Return the page of what the file called ``name`` holds."""
    machine, runs = report["machine"], report["runs"]
    numba = machine.get("numba")
    parts = [
        f"""\
# Estimators beside scikit-learn's

Written by `experiments/estimators.py` from `{name}`: all settings at their defaults, on
{machine["torch_threads"]} threads of {machine["processor"]}, torch {machine["torch"]}, \
{f"Numba {numba}" if numba else "without Numba"}.
Milliseconds and inertia are medians over processes, of what is the median, or the mean, over the
calls of one. How many times sooner torchkm is, is the median over pairs of processes, which took
turns: above 1 it is faster.
"""
    ]
    for group, cases_of in GROUPS.items():
        n_processes = len({run["number"] for run in runs if run["group"] == group})
        if n_processes:
            what = (cases_of.__doc__ or "").rstrip(".")
            heading = f"## {what}, {n_processes} process{'es' * (n_processes > 1)} of each side"
            parts.append(f"{heading}\n\n{as_table(report['summary'], group)}\n")
    return "\n".join(parts)


def as_table(rows: list[dict[str, Any]], group: str) -> str:
    """Return the rows of ``group`` as a table in Markdown."""
    lines = [
        "| | rows | ms | inertia | scikit-learn, ms | inertia | times sooner |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["group"] == group:
            inertias = [_inertia(row, side) for side in _SIDES]
            lines.append(
                f"| `{row['estimator']}({row['k']}{_CALLS[row['method']]}` | {row['rows']}, "
                f"{row['dtype']} | {1e3 * row['torchkm']:,.3g} | {inertias[0]} "
                f"| {1e3 * row['scikit-learn']:,.3g} | {inertias[1]} "
                f"| {row['times sooner']:.2g} |"
            )
    return "\n".join(lines)


def _inertia(row: dict[str, Any], side: str) -> str:
    return "" if row["method"] in _OF_FITTED else f"{row[f'{side} inertia']:,.6g}"


if __name__ == "__main__":
    main()
