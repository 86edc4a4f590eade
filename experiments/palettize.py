"""Train the weights of an MNIST network to be few numbers, by k-means inside the training step.

    python experiments/palettize.py

A trained network is tuned while each layer's weights are replaced by means of a palette of 8, 4 or
2 numbers, which soft k-means finds anew in every step; what is scored is the network whose weights
are the palette's numbers. Gradients go through the palettes implicitly, unrolled, through one step,
or not at all (``envelope``), after the same steps from the same start. Beside it: palettes of the
trained network, not tuned.

Writes docs/results/palettize.json, palettize.md beside it and docs/gallery/palettize.png;
TensorBoard's scalars are under runs/. All seeds of a row are trained at once. Rates and
temperatures were chosen by the accuracy on the validation images, and are the same for all rows.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor

from common.machine import describe_machine, kept_for_backward
from common.over_seeds import Scalars, keep, keep_picture, parser_of
from deep.images import Images, load
from deep.seedwise import Streams, Training
from palettes.nets import Nets, Palettes, Parts, parts
from palettes.tables import as_line, as_page, draw
from torchkm.gradients import GRADIENTS, Implicit, as_gradient

# Rates of Adam at the start of training and of tuning; they fall to 0 by epochs.
_RATE, _TUNING_RATE = 2e-3, 1e-3

# What a solve of the adjoint system may leave: as precise as float32 gradients of a batch need.
_SOLVE = 1e-4

# Steps between two scalars, and steps that are timed.
_LOG_EVERY, _N_TIMED = 10, 9

# Flags that are kept with the results.
_SETTINGS = (
    "bits",
    "gradients",
    "n_iters",
    "seeds",
    "batch_size",
    "pretraining",
    "fine_tuning",
    "temperatures",
)


class Task(NamedTuple):
    """What all rows of the table share.

    Attributes:
        images: all of them.
        parts: which of them are for what.
        nets: trained, in 32 bits.
        flags: of the command line.
        scalars: of TensorBoard.
    """

    images: Images
    parts: Parts
    nets: Nets
    flags: Namespace
    scalars: Scalars


def main(argv: list[str] | None = None) -> None:
    """Train, cluster, tune, and write down."""
    flags = parse(argv)
    begun = time.perf_counter()
    warnings.simplefilter("ignore")  # of palettes that n_iter steps leave on their way
    try:
        images = load(flags.data, flags.data_root, None, torch.device("cpu"))
    except FileNotFoundError as error:
        raise SystemExit(f"palettize.py: error: {error}") from None
    with Scalars(Path(flags.output_dir) / f"palettize-{images.name}", flags.seeds) as scalars:
        nets = trained(images, flags)
        task = Task(images, parts(images), nets, flags, scalars)
        known: dict[str, Any] = {
            "data": images.name,
            "n_weights": nets.n_weights,
            "settings": {name: getattr(flags, name) for name in _SETTINGS},
            "machine": describe_machine(),
            "costs": [*timed(task)],
            "runs": [],
        }
        for found in rows(task):
            known["runs"].append(found)
            known["seconds"] = round(time.perf_counter() - begun, 1)
            keep(flags, known, as_page(known))
            print(as_line(found), flush=True)
    keep_picture(flags, draw(known))
    print(f"{flags.output}, {flags.picture}: {known['seconds']:,.0f} s")


def parse(argv: list[str] | None = None) -> Namespace:
    """Return the flags; those of the command line override those of the file."""
    parser = parser_of("palettize", "Train the weights of an MNIST network to be few numbers.")
    add = parser.add_argument
    add(
        "--data",
        type=Literal["mnist", "digits"],
        default="mnist",
        help="Images; digits are the 1,797 small ones of scikit-learn.",
    )
    add(
        "--data-root",
        default=os.environ.get("TORCHKM_DATA", "data"),
        help="Folder that has MNIST/raw.",
    )
    add("--bits", type=int, nargs="+", default=[3, 2, 1], help="Of a weight.")
    add(
        "--gradients",
        type=Literal[tuple(sorted({*GRADIENTS} - {"detach"}))],
        nargs="+",
        default=["implicit", "unroll", "one_step", "envelope"],
        help="Ways through the palettes.",
    )
    add("--n-iters", type=int, nargs="+", default=[2, 10, 40], help="Soft Lloyd steps a step.")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="Trained at once.")
    add("--batch-size", type=int, default=500, help="Images of each seed to a step.")
    add("--pretraining", type=int, default=8, help="Epochs in 32 bits.")
    add("--fine-tuning", type=int, default=1, help="Epochs with palettes.")
    add(
        "--temperatures",
        type=float,
        nargs=2,
        default=[1.0, 0.05],
        help="First and last, in mean squared distances of a weight to its number.",
    )
    return parser.parse_args(argv)


def trained(images: Images, flags: Namespace) -> Nets:
    """Return networks trained in 32 bits."""
    streams = Streams(flags.seeds, torch.device("cpu"))
    nets = Nets(images.side, int(images.classes.max()) + 1, streams).copy()
    _train(nets, images, streams, flags.batch_size, _falling(_RATE, flags.pretraining), nets.losses)
    return nets


def rows(task: Task) -> Iterator[dict[str, Any]]:
    """Yield the scores of each network: as trained, clustered, and tuned in every way."""
    flags = task.flags
    yield scored(task, task.nets, task.nets.weights, {"method": "float", "bits": 32})
    for bits in flags.bits:
        palettes = Palettes(task.nets.weights, 2**bits, Implicit(), 1)
        hard = palettes.hard(task.nets.weights)
        yield scored(task, task.nets, hard, {"method": "k-means", "bits": bits})
        for n_iter in flags.n_iters:
            for name in flags.gradients:
                yield tuned(task, bits, n_iter, name)


def tuned(task: Task, bits: int, n_iter: int, name: str) -> dict[str, Any]:
    """Return the scores of networks tuned with palettes in every step."""
    flags, nets = task.flags, task.nets.copy()
    palettes = Palettes(nets.weights, 2**bits, way(name), n_iter)
    streams = Streams(flags.seeds, torch.device("cpu"))
    n_steps = flags.fine_tuning * max(1, _n_train(task) // min(flags.batch_size, _n_train(task)))
    heats = enumerate(annealed(flags.temperatures, n_steps))
    run = f"{bits}-bits/{name}-{n_iter}"

    def losses(images: Tensor, classes: Tensor) -> Tensor:
        step, heat = next(heats)
        found = nets.losses(images, classes, palettes.soft(nets.weights, heat))
        if step % _LOG_EVERY == 0:
            task.scalars.log(run, step, {"loss": found.detach()})
        return found

    rates = _falling(_TUNING_RATE, flags.fine_tuning)
    _train(nets, task.images, streams, flags.batch_size, rates, losses)
    known = {"method": name, "bits": bits, "n_iter": n_iter}
    found = scored(task, nets, palettes.hard(nets.weights), known)
    task.scalars.log(run, n_steps, {"test_accuracy": torch.tensor(found["test"])})
    return found


def annealed(ends: list[float], n: int) -> Iterator[float]:
    """Yield ``n`` temperatures from the first to the last of two, each by the same factor."""
    first, last = ends
    for step in range(n):
        share = step / max(1, n - 1)
        yield first ** (1 - share) * last**share


def way(name: str) -> Any:
    """Return a gradient by its name; the implicit one as precise as is needed here."""
    return Implicit(tol=_SOLVE) if name == "implicit" else as_gradient(name)


def scored(task: Task, nets: Nets, weights: list[Tensor], known: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a row with the accuracy of each seed."""
    found = {}
    for part in ("validation", "test"):
        some = getattr(task.parts, part)
        right = nets.accuracy(task.images.rows[some], task.images.classes[some], weights)
        found[part] = [round(share, 4) for share in right.tolist()]
    return known | found


def timed(task: Task) -> Iterator[dict[str, Any]]:
    """Yield what a training step costs, each way in turn, with the first of the bits."""
    flags, bits = task.flags, task.flags.bits[0]
    nets = task.nets.copy()
    images = task.images.rows[: flags.batch_size].expand(len(flags.seeds), -1, -1)
    classes = task.images.classes[: flags.batch_size].expand(len(flags.seeds), -1)
    keys = [(n_iter, name) for n_iter in flags.n_iters for name in flags.gradients]
    palettes = {key: Palettes(nets.weights, 2**bits, way(key[1]), key[0]) for key in keys}
    times: dict[tuple[int, str], list[float]] = {key: [] for key in keys}
    kept = {}
    for _ in range(_N_TIMED):
        for key in keys:
            begun = time.perf_counter()
            with kept_for_backward() as sizes:
                soft = palettes[key].soft(nets.weights, flags.temperatures[0])
            torch.autograd.backward(nets.losses(images, classes, soft).sum())
            times[key].append(time.perf_counter() - begun)
            kept[key] = sum(sizes.values())
    for n_iter, name in keys:
        key = n_iter, name
        costs = {"seconds": median(times[key]), "kept_bytes": kept[key], "runs": times[key]}
        yield {"bits": bits, "n_iter": n_iter, "method": name, **costs}


def _n_train(task: Task) -> int:
    return len(task.images.rows[task.parts.train])


def _train(
    nets: Nets,
    images: Images,
    streams: Streams,
    batch_size: int,
    rates: list[float],
    losses: Any,
) -> None:
    """Lower losses ``(s,)`` of images and classes by Adam, an epoch at each of the rates."""
    rows, classes = images.rows[parts(images).train], images.classes[parts(images).train]
    training = Training(
        lambda some, _: losses(rows[some], classes[some]),
        [*nets.weights, *nets.biases],
        len(rows),
        streams,
        batch_size=batch_size,
        graph=False,
    )
    for rate in rates:
        training.epoch(rate)


def _falling(rate: float, epochs: int) -> list[float]:
    return [rate * (1 - epoch / epochs) for epoch in range(epochs)]


if __name__ == "__main__":
    main()
