"""Measure what each way to differentiate converged k-means costs, and how far it is off.

    python experiments/gradients.py

Writes docs/results/gradients.json and docs/gallery/gradient_errors.png.

- Cost: rows of a seeded mixture, the same number of steps from the same start, forward and
  backward timed in turn, ``--repeats`` times; with the bytes that autograd keeps for the backward
  pass, and the time of one soft Lloyd step beside them.
- Error: small problems in float64 at many temperatures; the gradient of each way against that of
  central differences, over the contraction factor of the map.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from common.files import known, ready, write_json
from common.machine import describe_machine, kept_for_backward
from torchkm.functional import seed, soft_lloyd
from torchkm.functional.soft_problem import as_soft_problem
from torchkm.gradients import Gradient, Implicit, OneStep, Unroll, fixed_point
from torchkm.gradients.curvature import Curvature

_ROOT = Path(__file__).parent.parent
_WAYS: dict[str, Gradient] = {
    "implicit": Implicit(),
    "one_step": OneStep(),
    "unroll, checkpoint": Unroll(checkpoint=True),
    "unroll": Unroll(),
}

# Rows, numbers and clusters of the problem that is timed; its temperatures, and steps.
_SHAPE, _TEMPERATURES, _STEPS = (60_000, 64, 64), (2.0, 2.5), 100

# The small problems: rows, numbers, clusters; seeds and temperatures of each.
_SMALL, _SEEDS, _HEATS = (60, 2, 3), 4, [0.3 * 1.25**i for i in range(16)]
_STEP = 1e-5


def main() -> None:
    """Measure, write, draw and print."""
    parser = ArgumentParser(prog="gradients.py", description="Cost and error of gradients.")
    parser.add_argument("--repeats", type=int, default=3, help="Of each way, in turn.")
    parser.add_argument("--only", type=str | None, default=None, help="'cost' or 'error'.")
    parser.add_argument("--output", type=Path, default=_ROOT / "docs/results/gradients.json")
    parser.add_argument("--picture", type=Path, default=_ROOT / "docs/gallery/gradient_errors.png")
    flags = parser.parse_args()
    report = known(flags.output)
    warnings.simplefilter("ignore")  # of gradients that are here to be seen failing
    if flags.only != "error":
        report["machine"], report["cost"] = describe_machine(), costs(flags.repeats)
        print(as_table(report["cost"]))
    if flags.only != "cost":
        report["error"] = errors()
        picture = draw(report["error"])
        picture.savefig(ready(flags.picture), dpi=110, bbox_inches="tight")
        print(f"{len(report['error'])} gradients, drawn in {flags.picture}")
    write_json(flags.output, report)


def costs(repeats: int) -> list[dict[str, Any]]:
    """Return the medians of each way at each temperature."""
    n, d, k = _SHAPE
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(k, d, generator=generator)
    x = points[torch.randint(k, (n,), generator=generator)]
    x = x + torch.randn(n, d, generator=generator)
    start = seed(x, k, generator=generator)
    found = []
    for temperature in _TEMPERATURES:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in _WAYS}
        for _ in range(repeats):
            for name, way in _WAYS.items():
                runs[name].append(_timed(x, start, temperature, way))
        for name, some in runs.items():
            medians = {field: median(run[field] for run in some) for field in some[0]}
            found.append({"temperature": temperature, "gradient": name, **medians, "runs": some})
    return found


def _timed(x: Tensor, start: Tensor, temperature: float, way: Gradient) -> dict[str, float]:
    rows = x.clone().requires_grad_()
    with torch.no_grad():
        steps = [_seconds(lambda: soft_lloyd(x, start, temperature)) for _ in range(7)]
    with kept_for_backward() as sizes:
        begun = time.perf_counter()
        found = fixed_point(rows, start, temperature, gradient=way, max_iter=_STEPS, tol=1e-30)
        forward = time.perf_counter() - begun
    loss = found.centroids.square().sum()
    backward = _seconds(loss.backward)
    return {
        "forward": forward,
        "backward": backward,
        "step": median(steps),
        "saved_bytes": sum(sizes.values()),
        "products": found.adjoint.n_iter or 0,
        "contraction": found.contraction.item(),
        "residual": found.residual.item(),
    }


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def as_table(runs: list[dict[str, Any]]) -> str:
    """Return the costs as a table in Markdown."""
    lines = [
        "| temperature | gradient | forward, s | backward, s | in steps | products | kept, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        products = f"{run['products']:.0f}" if run["products"] else ""
        lines.append(
            f"| {run['temperature']:g} | `{run['gradient']}` | {run['forward']:.2f} | "
            f"{run['backward']:.3f} | {run['backward'] / run['step']:.0f} | {products} | "
            f"{run['saved_bytes'] / 2**20:,.0f} |"
        )
    return "\n".join(lines)


def errors() -> list[dict[str, Any]]:
    """Return how far each way is off, on each small problem at each temperature."""
    ways: dict[str, Gradient] = {
        "implicit": Implicit(tol=1e-13),
        "one step": OneStep(1),
        "4 steps": OneStep(4),
        "unroll, 10 steps": Unroll(),
    }
    found = []
    for number in range(_SEEDS):
        generator = torch.Generator().manual_seed(number)
        n, d, k = _SMALL
        points = 2 * torch.randn(k, d, generator=generator, dtype=torch.float64)
        x = points[torch.arange(n) % k]
        x = x + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)
        upstream = torch.randn(k, d, generator=generator, dtype=torch.float64)
        for heat in _HEATS:
            exact, contraction = _by_differences(x, points, heat, upstream)
            if exact is None:
                continue
            for name, way in ways.items():
                few = {"max_iter": 10, "tol": 0} if isinstance(way, Unroll) else {}
                missed = (_gradient(x, points, heat, upstream, way, **few) - exact).norm()
                error = (missed / exact.norm()).item()
                found.append(
                    {"seed": number, "temperature": heat, "contraction": contraction}
                    | {"gradient": name, "error": error}
                )
    return found


def _gradient(
    x: Tensor, start: Tensor, heat: float, upstream: Tensor, way: Gradient, **options: Any
) -> Tensor:
    rows = x.clone().requires_grad_()
    given: dict[str, Any] = {"max_iter": 20_000, "tol": 1e-14, **options}
    found = fixed_point(rows, start, heat, gradient=way, **given)
    return torch.autograd.grad((found.centroids * upstream).sum(), rows)[0]


def _by_differences(
    x: Tensor, start: Tensor, heat: float, upstream: Tensor
) -> tuple[Tensor | None, float]:
    """Return the gradient by central differences, and the contraction; None where all merge."""
    n, d = x.shape
    moves = _STEP * torch.eye(n * d, dtype=x.dtype).view(n * d, n, d)
    given: dict[str, Any] = {"gradient": "envelope", "max_iter": 20_000, "tol": 1e-15}
    at = fixed_point(x, start, heat, **given).centroids
    ends = [fixed_point(x + sign * moves, at, heat, **given).centroids for sign in (1, -1)]
    apart = ((ends[0] - ends[1]) * upstream).sum((-2, -1)) / (2 * _STEP)
    problem, _ = as_soft_problem(x, at, heat, None, "euclidean")
    contraction = _contraction(Curvature(problem, at), at)
    merged = (at - at.mean(0)).norm(dim=1).max() < 1e-3
    return (None if merged else apart.view(n, d)), contraction


def _contraction(curvature: Curvature, at: Tensor) -> float:
    units = torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape)
    whole = torch.stack([curvature.product(unit).flatten() for unit in units], dim=1)
    root = curvature.diagonal.expand_as(at).flatten().sqrt()
    bent = torch.eye(at.numel(), dtype=at.dtype) - whole / root / root.unsqueeze(1)
    return torch.linalg.eigvalsh(bent).max().item()


def draw(found: list[dict[str, Any]]) -> Any:
    """Draw the errors over the contraction factor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.subplots()
    colours = {
        "one step": "#c8452f",
        "4 steps": "#d9a441",
        "unroll, 10 steps": "#4c9a6a",
        "implicit": "#4c6a92",
    }
    for name, colour in colours.items():
        some = [run for run in found if run["gradient"] == name]
        axes.scatter(
            [run["contraction"] for run in some],
            [max(run["error"], 1e-11) for run in some],
            s=14,
            color=colour,
            label=name,
        )
    axes.set_yscale("log")
    axes.set_xlabel("contraction factor of a soft Lloyd step")
    axes.set_ylabel("relative error of the gradient")
    axes.set_title("Against central differences in float64", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
