"""Experiments over several seeds: flags and files, scalars of each seed, and means in tables.

Not every machine that runs an experiment has jsonargparse: it is imported where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from torch import Tensor

from common.files import ready, write_json

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_ROOT = Path(__file__).parent.parent


def parser_of(name: str, description: str) -> ArgumentParser:
    """Return a parser with the flags for files, whose defaults are under ``configs/``."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"{name}.py",
        description=description,
        default_config_files=[str(_ROOT / f"configs/{name}.yaml")],
    )
    add = parser.add_argument
    add("--config", action="config", help="YAML file of flags; flags override it.")
    add(
        "--output",
        type=Path,
        default=_ROOT / f"docs/results/{name}.json",
        help="File of results; a page of tables is written beside it.",
    )
    add("--picture", type=Path, default=_ROOT / f"docs/gallery/{name}.png", help="Drawn at last.")
    add("--output-dir", default="runs", help="Folder of TensorBoard's events.")
    return parser


def keep(flags: Namespace, known: dict[str, Any], page: str) -> None:
    """Write what is known so far to the file of results, and its page beside it."""
    write_json(flags.output, known)
    flags.output.with_suffix(".md").write_text(page)


def keep_picture(flags: Namespace, picture: Any) -> None:
    """Write a figure of matplotlib to the file that is named."""
    picture.savefig(ready(flags.picture), dpi=110, bbox_inches="tight")


class Scalars:
    """TensorBoard's scalars of every run and seed, in folders of these names.

    Args:
        folder: to write under.
        seeds: whose numbers come in, in order; or other names of the members of a batch.
    """

    def __init__(self, folder: Path, seeds: Sequence[int | str]) -> None:
        self.folder, self.seeds = folder, seeds
        self._writers: dict[Path, Any] = {}

    def __enter__(self) -> Scalars:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()

    def log(self, name: str, step: int, values: dict[str, Tensor]) -> None:
        """Write numbers of each seed ``(s,)`` at a step of the run of this name."""
        for tag, numbers in values.items():
            for seed, number in zip(self.seeds, numbers.tolist(), strict=True):
                self._writer(name, seed).add_scalar(tag, number, step)

    def _writer(self, name: str, seed: int | str) -> Any:
        folder = self.folder / name / f"seed{seed}"
        if folder not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[folder] = SummaryWriter(str(folder))
        return self._writers[folder]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return mean and standard deviation, or the number where it is alone."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
