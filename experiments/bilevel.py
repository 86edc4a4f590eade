"""Learn what each feature counts, by differentiating a score through converged k-means.

    python experiments/bilevel.py

Soft k-means clusters the training rows in a metric that weighs features. The score is how far its
centroids, in the units of the rows, are from the means of the classes of the validation rows: mean
squared distance, 0 at best. Steps begin at those means, so that the score is a function of the
weights alone. Adam lowers it over the logarithms of the weights, whose mean is held at 0. The
whole gradient goes through the fixed point, and there through the rows that change hands:
implicitly, through its last step or its last 5, through all of 10 or 100 steps, or as if it were
held (``envelope``).

Writes docs/results/bilevel.json, bilevel.md beside it and docs/gallery/bilevel.png; TensorBoard's
scalars are under runs/. All seeds and temperatures are one batch of problems. Rate and number of
steps are the same for all gradients; the test rows have no part in anything.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor

from common.machine import describe_machine
from common.over_seeds import Scalars, keep, keep_picture, parser_of
from feature_weights.problems import PROBLEMS, Problem, stacked
from feature_weights.tables import as_line, as_page, as_table, draw
from torchkm.functional import responsibilities
from torchkm.gradients import (
    Envelope,
    FixedPoint,
    Gradient,
    Implicit,
    OneStep,
    Unroll,
    fixed_point,
)
from torchkm.metrics.functional import hungarian_accuracy


class Way(NamedTuple):
    """A gradient, and the steps that it is asked for."""

    gradient: Gradient
    max_iter: int = 2000
    tol: float = 1e-7


WAYS = {
    "implicit": Way(Implicit()),
    "one_step": Way(OneStep()),
    "5 steps": Way(OneStep(5)),
    "unroll 10": Way(Unroll(), 10, 0),
    "unroll 100": Way(Unroll(), 100, 0),
    "envelope": Way(Envelope()),
}
_CONVERGED = WAYS["envelope"]

# The central differences that gradients are compared with.
_STEP, _TO_DIFFER = 1e-4, Way(Envelope(), 10_000, 1e-11)


class Metric(NamedTuple):
    """Feature weights of a batch of problems, and what soft k-means finds by them.

    Attributes:
        problem: all seeds at all temperatures.
        temperature: ``(b,)``.
    """

    problem: Problem
    temperature: Tensor

    def root(self, logs: Tensor) -> Tensor:
        """Return what features are multiplied by ``(b, 1, d)``: the root of their weights."""
        return ((logs - logs.mean(-1, keepdim=True)) / 2).exp().unsqueeze(-2)

    def settled(self, logs: Tensor, start: Tensor, way: Way) -> tuple[FixedPoint, Tensor]:
        """Return where steps from ``start (b, k, d)`` end, and that in the units of the rows."""
        root = self.root(logs)
        found = fixed_point(
            self.problem.train * root,
            start * root.detach(),
            self.temperature,
            gradient=way.gradient,
            max_iter=way.max_iter,
            tol=way.tol,
        )
        return found, found.centroids / root


def main(argv: list[str] | None = None) -> None:
    """Learn by every gradient, and write down."""
    flags = parse(argv)
    begun = time.perf_counter()
    warnings.simplefilter("ignore")  # of gradients that are here to be seen failing
    known: dict[str, Any] = {
        "settings": {name: getattr(flags, name) for name in ("seeds", "n_steps", "rate")},
        "machine": describe_machine(),
        "runs": [],
    }
    for name in flags.data:
        metric = begin(name, flags)
        equal = torch.zeros_like(metric.problem.train[:, 0])  # (b, d)
        before = {f"{what}_before": some for what, some in scored(metric, equal).items()}
        exact = by_differences(metric, equal)
        with Scalars(Path(flags.output_dir) / f"bilevel-{name}", labels(flags)) as scalars:
            for way in flags.gradients:
                found = before | learnt(metric, equal, exact, way, flags, scalars)
                runs = as_runs(found, {"data": name, "gradient": way}, flags)
                known["runs"] += runs
                known["seconds"] = round(time.perf_counter() - begun, 1)
                keep(flags, known, as_page(known))
                print(as_line(runs), flush=True)
    keep_picture(flags, draw(known))
    for name in flags.data:
        print(f"{name}\n{as_table(known, name)}\n")
    print(f"{flags.output}, {flags.picture}: {known['seconds']:,.0f} s")


def parse(argv: list[str] | None = None) -> Namespace:
    """Return the flags; those of the command line override those of the file."""
    parser = parser_of(
        "bilevel", "Learn feature weights by differentiating a score through converged k-means."
    )
    add = parser.add_argument
    add("--data", type=Literal[tuple(PROBLEMS)], nargs="+", default=[*PROBLEMS], help="Problems.")
    add("--gradients", type=Literal[tuple(WAYS)], nargs="+", default=[*WAYS], help="In order.")
    add("--seeds", type=int, nargs="+", default=[*range(10)], help="Of the problems.")
    add(
        "--temperatures",
        type=float,
        nargs="+",
        default=[0.25, 0.5, 0.75],
        help="In shares of the critical one, above which all centroids merge.",
    )
    add("--n-steps", type=int, default=80, help="Of Adam.")
    add("--rate", type=float, default=0.05, help="Of Adam, at first; it falls to 0.")
    return parser.parse_args(argv)


def labels(flags: Namespace) -> list[str]:
    """Return the names of the problems of a batch: seeds vary fastest."""
    return [f"{seed}-at-{share:g}" for share in flags.temperatures for seed in flags.seeds]


def begin(name: str, flags: Namespace) -> Metric:
    """Return the problems of all seeds and temperatures."""
    problem = stacked(name, flags.seeds, len(flags.temperatures))
    shares = torch.tensor(flags.temperatures, dtype=torch.float64)
    shares = shares.repeat_interleave(len(flags.seeds))
    return Metric(problem, shares * critical(problem.train))


def critical(x: Tensor) -> Tensor:
    """Return the temperature of each problem above which all centroids merge ``(b,)``.

    Twice the largest variance along a direction (Rose, Gurewitz and Fox 1990,
    doi:10.1103/PhysRevLett.65.945).
    """
    away = x - x.mean(-2, keepdim=True)
    return 2 * torch.linalg.matrix_norm(away, ord=2).square() / x.shape[-2]


def score(centroids: Tensor, means: Tensor) -> Tensor:
    """Return the mean squared distance of centroids from the means of the classes ``(b,)``."""
    return (centroids - means).square().sum(-1).mean(-1)


def learnt(
    metric: Metric, equal: Tensor, exact: Tensor, name: str, flags: Namespace, scalars: Scalars
) -> dict[str, Tensor]:
    """Return how the weights do that a gradient has led to, each value ``(b, ...)``.

    Args:
        metric: the problems.
        equal: logarithms of the weights to begin with ``(b, d)``.
        exact: the gradient there ``(b, d)``.
        name: of the gradient.
        flags: of the command line.
        scalars: of TensorBoard.
    """
    way, means = WAYS[name], metric.problem.validation.means(metric.problem.k)
    logs = equal.clone().requires_grad_()
    optimizer = torch.optim.Adam([logs], lr=flags.rate)
    curve = []
    gradients: list[Tensor] = []
    for step in range(flags.n_steps):
        found, centroids = metric.settled(logs, means, way)
        values = score(centroids, means)
        gradients[1:] = torch.autograd.grad(values.sum(), logs)  # the first one is kept
        logs.grad = gradients[-1].clone()
        optimizer.param_groups[0]["lr"] = flags.rate * (1 - step / flags.n_steps)
        optimizer.step()
        curve.append(values.detach())
        scalars.log(name, step, {"score": values.detach(), "contraction": found.contraction})
    return scored(metric, logs.detach()) | {
        "weights": metric.root(logs.detach()).square().squeeze(-2),
        "curve": torch.stack(curve, dim=-1),
        "cosine": torch.cosine_similarity(gradients[0], exact, dim=-1),
        "length": gradients[0].norm(dim=-1) / exact.norm(dim=-1),
    }


def as_runs(
    found: dict[str, Tensor], known: dict[str, Any], flags: Namespace
) -> list[dict[str, Any]]:
    """Return what was found of all problems ``(b, ...)`` as a run of each temperature."""
    n_seeds = len(flags.seeds)
    runs = []
    for i, share in enumerate(flags.temperatures):
        own = {what: some[i * n_seeds : (i + 1) * n_seeds] for what, some in found.items()}
        curve = own.pop("curve")
        curves = {"curve": curve.mean(0), "curve_deviation": curve.std(0, correction=0)}
        values = {what: _rounded(some) for what, some in (own | curves).items()}
        runs.append(known | {"temperature": share} | values)
    return runs


@torch.no_grad()
def scored(metric: Metric, logs: Tensor) -> dict[str, Tensor]:
    """Return how converged k-means does by these weights, begun at the means of the classes."""
    problem = metric.problem
    means = problem.validation.means(problem.k)
    found, centroids = metric.settled(logs, means, _CONVERGED)
    shares = responsibilities(
        problem.test.x * metric.root(logs), found.centroids, metric.temperature
    )
    pairs = zip(shares.argmax(-1), problem.test.classes, strict=True)
    return {
        "validation": score(centroids, means),
        "test": score(centroids, problem.test.means(problem.k)),
        "accuracy": torch.stack([hungarian_accuracy(*pair) for pair in pairs]),
        "contraction": found.contraction,
    }


@torch.no_grad()
def by_differences(metric: Metric, logs: Tensor) -> Tensor:
    """Return the gradient of the score by the weights, by central differences ``(b, d)``."""
    means = metric.problem.validation.means(metric.problem.k)
    exact, (_, at) = torch.zeros_like(logs), metric.settled(logs, means, _CONVERGED)
    for feature in range(logs.shape[-1]):
        move = torch.zeros_like(logs)
        move[:, feature] = _STEP
        ends = [
            score(metric.settled(logs + sign * move, at, _TO_DIFFER)[1], means) for sign in (1, -1)
        ]
        exact[:, feature] = (ends[0] - ends[1]) / (2 * _STEP)
    return exact


def _rounded(values: Tensor) -> Any:
    if values.ndim > 1:
        return [_rounded(some) for some in values]
    return [round(number, 6) for number in values.tolist()]


if __name__ == "__main__":
    main()
