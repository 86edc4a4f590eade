"""Clocks for work on a device, and contenders that take turns under them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

Work = Callable[[], object]


class Clock(Protocol):
    """Anything that times a piece of work."""

    def seconds(self, work: Work) -> float:
        """Return how long ``work`` takes."""


class DeviceClock:
    """CUDA events on the current stream: from when it is idle until ``work`` has left it idle."""

    def seconds(self, work: Work) -> float:
        """Return what lies between two events; gaps in which the host keeps it waiting count."""
        event: Any = torch.cuda.Event  # has no types
        start, end = event(enable_timing=True), event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class HostClock:
    """The host's clock, read when the device has nothing left to do."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def seconds(self, work: Work) -> float:
        """Return how long the caller of ``work`` waits for all of it."""
        wait(self._device)
        start = time.perf_counter()
        work()
        wait(self._device)
        return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Budget:
    """Seconds for all of a benchmark, from now on."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._start, self._seconds = now, now(), seconds

    def used(self) -> float:
        """Return the seconds gone by."""
        return self._now() - self._start

    def spent(self) -> bool:
        """Return whether nothing is left."""
        return self.used() >= self._seconds


def in_turn(
    measures: Mapping[str, Callable[[], float]], repeats: int, budget: Budget
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Measure each once, then each once more, and so on, while there is time.

    Returns:
        Times by name; and by name what stopped those that failed, which take no further part.
    """
    times: dict[str, list[float]] = {name: [] for name in measures}
    errors: dict[str, str] = {}
    for _ in range(repeats):
        for name, measure in measures.items():
            if name in errors or budget.spent():
                continue
            try:
                times[name].append(measure())
            except Exception as error:
                errors[name] = describe(error)
    return times, errors


def describe(error: Exception) -> str:
    """Return an error in a line or a few."""
    return f"{type(error).__name__}: {error}"[:2000]
