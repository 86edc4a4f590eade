"""What ``benchmark.py --device cuda`` does: check, then time passes, seedings and fits on a GPU.

All in one process: the two ceilings of the device first, then group by group, where contenders take
turns. One that fails is named and left out; the report is written anew after every shape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.machine import describe_machine
from common.mnist_rows import train_pixels
from gpu import tables as gpu_tables
from gpu.ceilings import measure_ceilings
from gpu.clock import Budget, DeviceClock, HostClock
from gpu.fits import FITS, SEEDINGS, jobs
from gpu.shapes import SHAPES
from gpu.stage import Stage
from gpu.timing import time_fits, time_passes

GROUPS = (*SHAPES, "seeding", "fit", "job")

_SEEDING_KS, _FIT_KS, _JOB_KS = (256,), (10, 64, 256), (256,)


def run(groups: list[str], repeats: int, max_seconds: float, data_root: str, output: Path) -> None:
    """Check and time on the GPU of this machine; end with status 1 where something failed."""
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise SystemExit(f"unknown groups {sorted(unknown)}; known: {', '.join(GROUPS)}")
    if not torch.cuda.is_available():
        raise SystemExit("benchmark.py: error: --device cuda needs a GPU, and torch sees none")
    budget, device, clock = Budget(max_seconds), torch.device("cuda"), DeviceClock()
    stage = Stage(
        device,
        clock,
        HostClock(device),
        measure_ceilings(clock, device),
        budget,
        repeats,
        data_root,
        _pixels(data_root),
        output,
        _machine(),
    )
    print(gpu_tables.ceilings(stage.ceilings, stage.machine), flush=True)
    play(stage, groups)
    tables = gpu_tables.passes(stage.passes), gpu_tables.fits(stage.fits)
    print("", *tables, gpu_tables.LEGEND, sep="\n\n")
    print(f"\n{budget.used():.0f} s in all; {len(stage.failed)} failed; written to {output}")
    if stage.failed:
        raise SystemExit(1)


def _machine() -> dict[str, Any]:
    found = describe_machine()
    found["capability"] = list(torch.cuda.get_device_capability())
    found["memory"] = torch.cuda.get_device_properties(0).total_memory
    found["cuda"] = torch.version.cuda
    for name in ("triton", "flash-kmeans", "fastkmeans"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _pixels(root: str) -> Tensor | None:
    try:
        return train_pixels(root)
    except (FileNotFoundError, ValueError) as error:
        print(f"benchmark.py: no MNIST: {error}", file=sys.stderr)
        return None


def play(stage: Stage, groups: list[str]) -> None:
    """Go through the groups, as long as there is time."""
    for group in groups:
        for what, part in _parts(stage, group):
            if stage.leaves_out(what):
                continue
            with stage.guard(what):
                part()
                if stage.device.type == "cuda":
                    torch.cuda.empty_cache()
            stage.write()
    stage.write()


def _parts(stage: Stage, group: str) -> list[tuple[str, Callable[[], None]]]:
    """Return the pieces of a group that stand or fall for themselves, by name."""
    if group in SHAPES:
        return [
            (f"{group}, {shape}", partial(time_passes, stage, group, shape))
            for shape in SHAPES[group]
        ]
    ks, fits = {
        "seeding": (_SEEDING_KS, SEEDINGS),
        "fit": (_FIT_KS, FITS),
        "job": (_JOB_KS, jobs(stage.data_root)),
    }[group]
    return [(f"{group}, k={k}", partial(time_fits, stage, group, k, fits)) for k in ks]
