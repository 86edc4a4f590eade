"""What ``benchmark.py --device cuda`` asks of all that make passes, and plain torch, which does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from gpu.ceilings import products_in
from gpu.clock import Clock

# Scores that plain torch holds at once.
_SCORES = 1 << 27


class Contender(ABC):
    """One that makes passes over rows ``(b, n, d)`` from centroids ``(b, k, d)``.

    Attributes:
        itemsize: bytes of each number of a row that a pass reads.
        rate: the matrix rate that bounds it, a name in ``ceilings.RATES``.
        products: how many products of that rate one of its own takes.
        ours: whether its mistakes are ours.
        certain: whether its labels have to be those of float32.
    """

    itemsize: int
    rate: str
    products: int = 1
    ours: bool = False
    certain: bool = False

    @abstractmethod
    def first(self) -> tuple[Tensor, Tensor | None]:
        """Make one pass from the starts; return labels ``(b, n)`` and the means, if it tells."""

    @abstractmethod
    def seconds(self, clock: Clock, warm: int, count: int) -> float:
        """Return how long one of ``count`` passes takes that follow ``warm`` passes."""

    def details(self, warm: int, count: int) -> dict[str, Any]:
        """Return what else is to be told of these passes."""
        return {}


class Loop(Contender):
    """One that can be stopped between passes, with all it needs in place."""

    @abstractmethod
    def restart(self) -> None:
        """Go back to the starts."""

    @abstractmethod
    def advance(self, count: int) -> None:
        """Make passes."""

    @abstractmethod
    def found(self) -> tuple[Tensor, Tensor]:
        """Return labels of the last pass and the means that followed."""

    def first(self) -> tuple[Tensor, Tensor]:
        """Make one pass from the starts; return labels and means."""
        self.restart()
        self.advance(1)
        return self.found()

    def seconds(self, clock: Clock, warm: int, count: int) -> float:
        """Return the time of a pass; what comes before is not timed."""
        self.restart()
        self.advance(warm)
        return clock.seconds(lambda: self.advance(count)) / count


class Torch(Loop):
    """Plain torch: a product with the bias in its epilogue, argmax, sums; nothing waits.

    Args:
        x: rows, which are centred and kept in ``dtype``.
        starts: centroids.
        dtype: of the product; float32 is TF32.
        one_hot: sums by a product with the labels' one-hot matrix rather than ``index_add_``.
    """

    def __init__(
        self, x: Tensor, starts: Tensor, dtype: torch.dtype = torch.float16, one_hot: bool = False
    ) -> None:
        self._origin = x.float().mean((0, 1))
        self._x = torch.stack([(rows.float() - self._origin).to(dtype) for rows in x])
        self._starts = starts.float() - self._origin
        self._labels = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
        self._centroids = self._starts.clone()
        self._one_hot = one_hot
        self._block = max(1, _SCORES // starts.shape[1])
        self._ones = torch.ones(min(self._block, x.shape[1]), device=x.device)
        self._names = torch.arange(starts.shape[1], device=x.device)
        self.itemsize = self._x.element_size()
        self.rate = "tf32" if dtype == torch.float32 else "fp16"

    def restart(self) -> None:
        """Go back to the starts."""
        self._centroids.copy_(self._starts)

    def advance(self, count: int) -> None:
        """Enqueue passes."""
        with products_in("tf32"):
            for _ in range(count):
                for rows, labels, centroids in zip(
                    self._x, self._labels, self._centroids, strict=True
                ):
                    self._pass(rows, labels, centroids)

    def _pass(self, x: Tensor, labels: Tensor, centroids: Tensor) -> None:
        bias = (centroids.square().sum(1) / -2).to(x.dtype)  # (k,)
        operand = centroids.to(x.dtype).T
        sums, counts = torch.zeros_like(centroids), torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, len(x), self._block):
            rows = x[start : start + self._block]
            best = torch.addmm(bias, rows, operand).argmax(1)  # (rows,)
            labels[start : start + self._block] = best
            add = self._multiply if self._one_hot else self._add
            add(sums, counts, best, rows)
        means = sums / counts.clamp(min=1)[:, None]
        centroids.copy_(torch.where(counts[:, None] > 0, means, centroids))

    def _add(self, sums: Tensor, counts: Tensor, labels: Tensor, rows: Tensor) -> None:
        sums.index_add_(0, labels, rows.float())
        counts.index_add_(0, labels, self._ones[: len(rows)])

    def _multiply(self, sums: Tensor, counts: Tensor, labels: Tensor, rows: Tensor) -> None:
        members = (self._names[:, None] == labels).to(rows.dtype)  # (k, rows)
        if rows.is_cuda and rows.dtype != torch.float32:
            sums += torch.mm(members, rows, out_dtype=torch.float32)
        else:
            sums += torch.mm(members.float(), rows.float())
        counts += members.sum(1, dtype=torch.float32)

    def found(self) -> tuple[Tensor, Tensor]:
        """Return labels and means, where the rows were before they were centred."""
        return self._labels, self._centroids + self._origin
