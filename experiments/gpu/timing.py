"""Contenders checked against float64, then timed in turn."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from torch import Tensor

from gpu import tables as gpu_tables
from gpu.checks import check_pass, failures, inertia, nearest
from gpu.clock import in_turn
from gpu.contenders import Contender
from gpu.fits import Fit
from gpu.peers import missing
from gpu.shapes import MNIST, Shape, roster, rows_and_starts
from gpu.stage import Stage

# By how much the inertia that a fit tells may be off that of its centroids, as a share.
_OFF = 1e-5


def time_passes(stage: Stage, group: str, shape: Shape) -> None:
    """Check one pass of each contender at a shape, then time passes in turn."""
    if shape.d == MNIST and stage.pixels is None:
        stage.skip(f"{group}, {shape}", "no MNIST")
        return
    x, starts = rows_and_starts(shape, stage.pixels, stage.device)
    ready: dict[str, Contender] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, (needs, make) in roster(group, shape, x, starts).items():
        what = f"{group}, {shape}, {name}"
        if stage.leaves_out(what, missing(needs)):
            continue
        with stage.guard(what):
            one = make()
            told[name] = _prove(stage, what, shape, one, x, starts)
            ready[name] = one
    measures = {name: _pass_of(stage, shape, one) for name, one in ready.items()}
    times, errors = in_turn(measures, stage.repeats, stage.budget)
    for name, why in errors.items():
        stage.fail(f"{group}, {shape}, {name}", why)
    base = times.get("torchkm")
    for name, one in ready.items():
        if not times[name]:
            continue
        row = {"group": group, "shape": str(shape), "contender": name, "target": shape.target}
        row |= _figures(stage, shape, one, times[name]) | told[name]
        row["over_torchkm"] = median(times[name]) / median(base) if base else None
        stage.passes.append(row)
        print(gpu_tables.line(row), flush=True)


def _prove(
    stage: Stage, what: str, shape: Shape, one: Contender, x: Tensor, starts: Tensor
) -> dict[str, Any]:
    """Check a pass of one, and make the others once, which compiles what is not yet compiled."""
    check = check_pass(x, starts, *one.first(), problems=sorted({0, shape.b - 1}))
    for words in failures(check, one.certain) if one.ours else ():
        stage.fail(what, words)
    one.seconds(stage.clock, shape.warm, shape.count)
    return {"check": check, **one.details(shape.warm, shape.count)}


def _pass_of(stage: Stage, shape: Shape, one: Contender) -> Callable[[], float]:
    return lambda: one.seconds(stage.clock, shape.warm, shape.count)


def _figures(stage: Stage, shape: Shape, one: Contender, seconds: list[float]) -> dict[str, Any]:
    numbers = shape.b * shape.n * shape.d
    n_bytes = numbers * one.itemsize + 4 * shape.b * shape.n + 8 * shape.b * shape.k * shape.d
    floor = stage.ceilings.floor(n_bytes, 2.0 * numbers * shape.k * one.products, one.rate)
    return {
        "seconds": median(seconds),
        "floor": floor,
        "over_floor": median(seconds) / floor,
        "passes": [shape.warm, shape.count],
        "all_seconds": seconds,
    }


def time_fits(stage: Stage, group: str, k: int, fits: dict[str, tuple[str, Fit]]) -> None:
    """Time seedings, whole fits of MNIST or jobs, seed by seed in turn."""
    if stage.pixels is None:
        stage.skip(f"{group}, k={k}", "no MNIST")
        return
    x = stage.pixels.to(stage.device).float() / 255
    found: dict[str, list[dict[str, Any]]] = {}
    measures = {}
    for name, (needs, fit) in fits.items():
        what = f"{group}, k={k}, {name}"
        if stage.leaves_out(what, missing(needs)):
            continue
        with stage.guard(what):
            fit(x, k, stage.repeats)  # compiles what is not yet compiled
            found[name] = []
            measures[name] = _fit_once(stage, what, x, k, fit, found[name])
    times, errors = in_turn(measures, stage.repeats, stage.budget)
    for name, why in errors.items():
        stage.fail(f"{group}, k={k}, {name}", why)
    for name, seconds in times.items():
        if not seconds:
            continue
        row = {
            "group": group,
            "k": k,
            "contender": name,
            "seconds": median(seconds),
            "inertia": median(one["inertia"] for one in found[name]),
            "fits": [{"seconds": s, **one} for s, one in zip(seconds, found[name], strict=False)],
        }
        stage.fits.append(row)
        print(gpu_tables.fit_line(row), flush=True)


def _fit_once(
    stage: Stage, what: str, x: Tensor, k: int, fit: Fit, found: list[dict[str, Any]]
) -> Callable[[], float]:
    """Return what fits with the next seed, looks at what came of it, and returns its seconds."""

    def measure() -> float:
        seed = len(found)
        kept: list[Any] = []
        seconds = stage.host_clock.seconds(lambda: kept.append(fit(x, k, seed)))
        (one,) = kept
        told = {"inertia": inertia(x, one.centroids), "n_iter": one.n_iter, "status": one.status}
        if one.labels is not None:
            best, _ = nearest(x, one.centroids)
            told["agreement"] = float((best == one.labels.to(best.device)).double().mean())
        if one.inertia is not None and abs(one.inertia / told["inertia"] - 1) > _OFF:
            stage.fail(what, f"tells an inertia of {one.inertia}, and it is {told['inertia']}")
        found.append({"seed": seed, **told})
        return seconds

    return measure
