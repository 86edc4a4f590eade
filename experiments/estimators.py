"""Time torchkm's estimators beside scikit-learn's of the same name, all settings at their defaults.

    python experiments/estimators.py

A fit of MNIST, of sparse rows, and of many small problems, each side in processes of its own, in
turn with the other. What was measured goes to docs/results/estimators.json, and a page beside it.
Each process first fits once, untimed, so that loading libraries, compiling loops and starting
threads counts for none.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser

from common.machine import describe_machine

_HERE = Path(__file__).parent
_SIDES = {"torchkm": "torchkm.cluster", "scikit-learn": "sklearn.cluster"}

# Methods of a fitted estimator, given some rows.
_OF_FITTED = ("predict", "score", "transform", "partial_fit")

# How a method is called, behind the number of clusters.
_CALLS = {"fit": ").fit", "given": ", init=given).fit"} | {name: f").{name}" for name in _OF_FITTED}

# Rows that a long fit is warmed up with; rows of a batch; and rows that other methods are given.
_WARM_ROWS, _BATCH, _GIVEN = 5000, 1024, 10_000

# The small problems: all of these together, as far as they stay below so many operations a pass.
_SIZES, _WIDTHS, _KS = (2000, 8000, 20_000, 100_000), (8, 64), (8, 64)
_KINDS = (("uniform", "float64"), ("blobs", "float32"))
_MOST_WORK, _ROWS_PER_CLUSTER = 1e9, 15


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        group: table that it belongs to.
        estimator: name of the class.
        method: "fit", "given" for a fit from given centroids, or one of a fitted estimator.
        rows: name of the rows: "mnist", "iris", "csr-20000x10000", "blobs-2000x8", ...
        dtype: of the rows.
        k: number of clusters.
        repeats: timed calls to a process.
    """

    group: str
    estimator: str
    method: str
    rows: str
    dtype: str
    k: int
    repeats: int


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
    known = json.loads(flags.output.read_text())["runs"] if flags.output.exists() else []
    runs = [run for run in known if run["group"] not in flags.groups]
    for case in cases(flags.groups):
        for number in range(flags.rounds):
            for side in _SIDES:
                run = _in_a_process(case, side, number, flags)
                runs.append(run)
                print(
                    f"{side:>13} {case.estimator}({case.k}).{case.method} {case.rows} "
                    f"{case.dtype}: {1e3 * run['seconds']:.2f} ms to {run['inertia']:,.6g}"
                )
    report = {"machine": describe_machine(), "summary": summary(runs), "runs": runs}
    flags.output.write_text(json.dumps(report, indent=1) + "\n")
    page = as_page(report, flags.output.name)
    flags.output.with_suffix(".md").write_text(page)
    print(page)


def cases(groups: Iterable[str]) -> list[Case]:
    """Return what is to be timed of ``groups``."""
    return [case for group in groups for case in GROUPS[group]()]


def of_mnist() -> Iterable[Case]:
    """Fits of MNIST, one to a process, and predictions of 10,000 rows."""
    for k in (10, 64, 256):
        yield Case("mnist", "KMeans", "fit", "mnist", "float32", k, 1)
        yield Case("mnist", "KMeans", "predict", "mnist", "float32", k, 20)


def of_given() -> Iterable[Case]:
    """Fits from the first rows as centroids, where both sides make Lloyd's passes."""
    for k in (10, 64, 256):
        yield Case("given", "KMeans", "given", "mnist", "float32", k, 1)
    for rows, k, repeats in (("2000x8", 8, 20), ("20000x8", 64, 10), ("20000x64", 64, 10)):
        yield Case("given", "KMeans", "given", f"uniform-{rows}", "float32", k, repeats)
        yield Case("given", "KMeans", "given", f"uniform-{rows}", "float64", k, repeats)


def of_narrow() -> Iterable[Case]:
    """Predictions of narrow rows."""
    for rows, k in (("2000x8", 8), ("10000x8", 8), ("10000x8", 64), ("10000x64", 64)):
        yield Case("narrow", "KMeans", "predict", f"blobs-{rows}", "float32", k, 100)


def of_others() -> Iterable[Case]:
    """What else estimators do, on narrow rows."""
    for rows, k in (("2000x8", 8), ("10000x64", 64)):
        for dtype in ("float32", "float64"):
            for method in ("score", "transform"):
                yield Case("others", "KMeans", method, f"uniform-{rows}", dtype, k, 100)
            name = f"uniform-{rows}"
            yield Case("others", "MiniBatchKMeans", "partial_fit", name, dtype, k, 100)
            yield Case("others", "MiniBatchKMeans", "fit", name, dtype, k, 20)
            yield Case("others", "BisectingKMeans", "fit", name, dtype, k, 5)


def of_batches() -> Iterable[Case]:
    """Fits of MNIST that learn from batches."""
    for k in (10, 64, 256):
        yield Case("minibatch", "MiniBatchKMeans", "fit", "mnist", "float32", k, 1)


def of_double() -> Iterable[Case]:
    """MNIST in float64, which is what NumPy makes of pictures."""
    yield Case("float64", "KMeans", "fit", "mnist", "float64", 256, 1)
    yield Case("float64", "MiniBatchKMeans", "fit", "mnist", "float64", 256, 1)
    yield Case("float64", "KMeans", "predict", "mnist", "float64", 256, 20)


def of_sparse() -> Iterable[Case]:
    """Fits of sparse rows at a density of one percent."""
    for dtype in ("float32", "float64"):
        yield Case("sparse", "KMeans", "fit", "csr-20000x10000", dtype, 100, 1)


def of_iris() -> Iterable[Case]:
    """Fits of iris, the smallest problem that everybody knows."""
    for k in (3, 8):
        yield Case("iris", "KMeans", "fit", "iris", "float64", k, 50)


def of_small() -> Iterable[Case]:
    """Fits of rows that fit into the cache, or nearly so."""
    for n in _SIZES:
        for d in _WIDTHS:
            for k in _KS:
                if n * d * k > _MOST_WORK or k * _ROWS_PER_CLUSTER > n:
                    continue
                repeats = int(np.clip(2e7 / (n * d * k) ** 0.5 / 1e2, 2, 20))
                for rows, dtype in _KINDS:
                    yield Case("small", "KMeans", "fit", f"{rows}-{n}x{d}", dtype, k, repeats)


GROUPS = {
    "mnist": of_mnist,
    "given": of_given,
    "minibatch": of_batches,
    "float64": of_double,
    "sparse": of_sparse,
    "iris": of_iris,
    "narrow": of_narrow,
    "others": of_others,
    "small": of_small,
}


def _in_a_process(case: Case, side: str, number: int, flags: Any) -> dict[str, Any]:
    arguments = json.dumps([side, number, flags.data_root])
    command = [sys.executable, str(_HERE / "estimators.py"), "--time"]
    env = {**os.environ, "OMP_NUM_THREADS": str(flags.threads)}
    done = subprocess.run(
        [*command, json.dumps(asdict(case)), arguments], capture_output=True, text=True, env=env
    )
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
