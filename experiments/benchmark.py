"""Time torchkm beside other k-means libraries; write docs/results/benchmark.json and its picture.

    pip install -e ".[bench]"
    python experiments/benchmark.py
    pip install -e ".[bench-gpu]"
    python experiments/benchmark.py --device cuda

Every fit runs in a process of its own, with the same rows and threads; contenders take turns, seed
by seed. What is not installed is skipped by name. How soon torchkm reaches what another ends at is
read off calls of ``torchkm.kmeans`` that a callback stops on the way. Beside contenders that label
the rows, such a call is timed until it returns labels; beside those that only return centroids,
until it has those. What is timed on a GPU stands in ``gpu/benchmark.py``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from jsonargparse import ArgumentParser

from common.files import write_json
from common.machine import describe_machine
from contenders import CONTENDERS

_HERE = Path(__file__).parent
_RESULTS = _HERE.parent / "docs/results"
_DEFAULTS = [name for name in CONTENDERS if name != "KMeans n_init=10"]
_GROUPS = ["mnist", "half", "batch", "ten", "seeding", "certified", "fit", "job"]
_DATA = ("mnist", "mixture-1000000x128", "mixture-200000x768")


def main() -> None:
    """Run all fits, write what they gave, and draw it."""
    parser = ArgumentParser(prog="benchmark.py", description="Time k-means libraries in turn.")
    root = os.environ.get("TORCHKM_DATA", "data")
    parser.add_argument("--data", type=str, default="mnist", help=f"One of {', '.join(_DATA)}.")
    parser.add_argument("--data-root", type=str, default=root, help="Folder of MNIST.")
    parser.add_argument("--ks", type=list[int], default=[10, 16, 36, 64, 144, 256], help="Ks.")
    parser.add_argument("--seeds", type=int, default=5, help="Fits of each.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="Threads of each.")
    parser.add_argument("--contenders", type=list[str], default=_DEFAULTS, help="Who takes part.")
    parser.add_argument("--timeout", type=int, default=600, help="Seconds for one process.")
    parser.add_argument("--output", type=Path | None, help="JSON; by default in docs/results.")
    parser.add_argument("--device", type=Literal["cpu", "cuda"], default="cpu", help="Where.")
    parser.add_argument("--groups", type=list[str], default=_GROUPS, help="cuda: what is timed.")
    parser.add_argument("--repeats", type=int, default=7, help="cuda: times of each.")
    parser.add_argument("--max-seconds", type=float, default=400, help="cuda: for all of it.")
    flags = parser.parse_args()
    if flags.device == "cuda":
        from gpu import benchmark as gpu_benchmark

        output = flags.output or _RESULTS / "gpu-benchmark.json"
        gpu_benchmark.run(flags.groups, flags.repeats, flags.max_seconds, flags.data_root, output)
        return
    names = _installed(flags.contenders)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.npy"
        np.save(path, _rows(flags.data, flags.data_root))
        runs = [
            run
            for k in flags.ks
            for seed in range(flags.seeds)
            for name in names
            if (run := _run(name, path, k, seed, flags.threads, flags.timeout))
        ]
    report = {
        "machine": describe_machine(),
        "data": flags.data,
        "threads": flags.threads,
        "summary": summary(runs),
        "runs": runs,
    }
    name = "benchmark" if flags.data == "mnist" else f"benchmark-{flags.data}"
    output = flags.output or _RESULTS / f"{name}.json"
    write_json(output, report)
    draw(runs, output.with_suffix(".png"))
    print(table(report["summary"]))


def _installed(names: list[str]) -> list[str]:
    """Return those of ``names`` whose library is there; name the others."""
    unknown = set(names) - set(CONTENDERS)
    if unknown:
        raise SystemExit(f"unknown contenders {sorted(unknown)}; known: {', '.join(CONTENDERS)}")
    found = []
    for name in names:
        if importlib.util.find_spec(CONTENDERS[name].needs):
            found.append(name)
        else:
            print(f"skipped: {name} ({CONTENDERS[name].needs} is not installed)", file=sys.stderr)
    return found


def _rows(data: str, root: str) -> Any:
    if data == "mnist":
        from common.mnist_rows import mnist, train_rows

        return train_rows(mnist(root, "benchmark.py")).numpy()
    if data not in _DATA:
        raise SystemExit(f"--data must be one of {', '.join(_DATA)}; got {data}")
    n, d = map(int, data.removeprefix("mixture-").split("x"))
    return mixture(n, d)


def mixture(n: int, d: int, n_groups: int = 2000, seed: int = 0) -> Any:
    """Return ``(n, d)`` float32 rows around centres of very unequal weight."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((n_groups, d), dtype=np.float32)
    share = random.pareto(1.5, n_groups) + 0.05
    x = random.standard_normal((n, d), dtype=np.float32)
    x *= 0.7
    x += centres[random.choice(n_groups, n, p=share / share.sum())]
    return x


def _run(
    name: str, path: Path, k: int, seed: int, threads: int, timeout: int
) -> dict[str, Any] | None:
    script = str(_HERE / "contenders.py")
    command = [sys.executable, script, name, str(path), str(k), str(seed), str(threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout)
    except subprocess.TimeoutExpired:
        print(f"{name}, k={k}, seed {seed}: no end after {timeout} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}, k={k}, seed {seed} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:>20} k={k:<4} seed {seed} {run['seconds']:8.3f} s to {run['inertia']:,.0f}")
    return run


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return medians of each contender at each k, and how soon torchkm reached its inertia."""
    rows = []
    for k in sorted({run["k"] for run in runs}):
        here = [run for run in runs if run["k"] == k]
        ours = [run for run in here if run["contender"] == "torchkm"]
        for name in dict.fromkeys(run["contender"] for run in here):
            mine = [run for run in here if run["contender"] == name]
            seconds = sorted(run["seconds"] for run in mine)
            aim = median(run["inertia"] for run in mine)
            row = {
                "k": k,
                "contender": name,
                "seconds": median(seconds),
                "fastest": seconds[0],
                "slowest": seconds[-1],
                "inertia": aim,
                "extra_mb": median(run["extra_mb"] for run in mine),
            }
            if not name.startswith("torchkm") and ours:
                clock = "seconds" if CONTENDERS[name].labels else "centroids"
                reached = median(_reached(run, aim, clock) for run in ours)
                row["torchkm_reached"] = reached if np.isfinite(reached) else None
            rows.append(row)
    return rows


def _reached(run: dict[str, Any], aim: float, clock: str) -> float:
    """Return when a run of torchkm had come down to ``aim``, infinity if it never did."""
    end = {"centroids": run["seconds"], "seconds": run["seconds"], "inertia": run["inertia"]}
    return min(
        (point[clock] for point in [*run["way"], end] if point["inertia"] <= aim),
        default=float("inf"),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the summary as it stands in the README."""
    lines = [
        "| k | | seconds | inertia | torchkm reaches it in | times sooner |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reached = row.get("torchkm_reached")
        ours = row["contender"].startswith("torchkm")
        sooner = "" if ours else "never" if reached is None else f"{reached:.2f} s"
        times = "" if reached is None else f"{row['seconds'] / reached:.1f}"
        lines.append(
            f"| {row['k']} | {row['contender']} | {row['seconds']:.2f} | {row['inertia']:,.0f} "
            f"| {sooner} | {times} |"
        )
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw inertia against time, one panel for each k."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ks = sorted({run["k"] for run in runs})
    n_columns = min(3, len(ks))
    n_rows = math.ceil(len(ks) / n_columns)
    size = (4.2 * n_columns, 3.6 * n_rows)
    figure, grid = pyplot.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    for axis in grid.flat[len(ks) :]:
        axis.remove()
    for axis, k in zip(grid.flat, ks, strict=False):
        here = [run for run in runs if run["k"] == k]
        best = min(run["inertia"] for run in here)
        for name in dict.fromkeys(run["contender"] for run in here):
            mine = [run for run in here if run["contender"] == name]
            axis.scatter(
                [run["seconds"] for run in mine],
                [100 * (run["inertia"] / best - 1) for run in mine],
                label=name,
                s=26,
                marker="*" if name.startswith("torchkm") else "o",
            )
        for index, run in enumerate(run for run in here if run["way"]):
            way = [*((p["seconds"], p["inertia"]) for p in run["way"])]
            way = sorted([*way, (run["seconds"], run["inertia"])])
            axis.plot(
                [seconds for seconds, _ in way],
                [100 * (value / best - 1) for _, value in way],
                color="C0",
                linewidth=0.8,
                alpha=0.7,
                label="torchkm, stopped on its way" if index == 0 else None,
            )
        worst = max(100 * (run["inertia"] / best - 1) for run in here)
        top = max(4.0, 1.1 * worst)
        axis.set(title=f"k = {k}", xscale="log", xlabel="seconds", ylim=(-0.025 * top, top))
        axis.set_ylabel("inertia above the best, %")
        axis.grid(alpha=0.3)
    keys = grid.flat[0].get_legend_handles_labels()
    figure.legend(*keys, loc="lower center", ncol=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.5 / size[1], 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
