"""What a benchmark on a GPU has at hand, and the report that it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.files import write_json
from gpu.ceilings import Ceilings
from gpu.clock import Budget, Clock, describe
from gpu.tables import LEGEND


@dataclass
class Stage:
    """Where the benchmark plays: a device, its clocks and ceilings, and what was found so far.

    Attributes:
        device: where rows lie.
        clock: of passes.
        host_clock: of whole calls.
        ceilings: of the device.
        budget: of the benchmark.
        repeats: of each measurement.
        data_root: folder of MNIST.
        pixels: MNIST, ``(60000, 784)`` uint8, where it is there.
        output: file of the report.
        machine: what it runs on.
        passes: rows of the report, one of each contender at each shape.
        fits: likewise, of each seeding, fit and job at each k.
        skipped: what was left out, and why.
        failed: what went wrong, and how.
    """

    device: torch.device
    clock: Clock
    host_clock: Clock
    ceilings: Ceilings
    budget: Budget
    repeats: int
    data_root: str
    pixels: Tensor | None
    output: Path
    machine: dict[str, Any]
    passes: list[dict[str, Any]] = field(default_factory=list)
    fits: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Say what is left out."""
        self.skipped.append(f"{what}: {why}")
        print(f"skipped: {what} ({why})", file=sys.stderr, flush=True)

    def leaves_out(self, what: str, why: str | None = None) -> bool:
        """Return whether to leave out ``what``, for a reason or for want of time, and say so."""
        if why is None and self.budget.spent():
            why = f"{self.budget.used():.0f} s are used up"
        if why is not None:
            self.skip(what, why)
        return why is not None

    def fail(self, what: str, why: str) -> None:
        """Say what went wrong."""
        self.failed.append(f"{what}: {why}")
        print(f"FAILED: {what}: {why}", file=sys.stderr, flush=True)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Let the others go on where one fails."""
        try:
            yield
        except Exception as error:
            self.fail(what, describe(error))

    def write(self) -> None:
        """Write the report as far as it goes."""
        report = {
            "machine": self.machine,
            "seconds": self.budget.used(),
            "ceilings": self.ceilings.as_dict(),
            "legend": LEGEND.replace("\n", " "),
            "passes": self.passes,
            "fits": self.fits,
            "skipped": self.skipped,
            "failed": self.failed,
        }
        write_json(self.output, report)
