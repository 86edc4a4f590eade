"""What several seeds found: in TensorBoard one by one, in tables as mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import Tensor


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
