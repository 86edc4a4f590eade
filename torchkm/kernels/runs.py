"""Scores in runs of rows: on a CPU the best of a run's rows are found side by side.

The scores of a run lie as ``(k, RUN)``. So few columns stay in cache while they are multiplied, and
the largest score of each row and its label come from one max-pooling over images whose channels
are the rows. Along the scores of a row, torch finds a label in four times the time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.kernels.layout import RUN


def count(n: int) -> int:
    """Return how many runs ``n`` rows take; the last may be short."""
    return -(-n // RUN)


def finder(scores: Tensor, values: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return what writes the best of ``scores (g, k, r)`` to ``values`` and ``labels (g r,)``.

    The largest of each row and where it is: the first of equals, and a NaN where there is one. With
    ``values (g r, s)``, the same of each of ``s`` sets of as many centroids.
    """
    g, k, r = scores.shape
    n_sets = values.numel() // (g * r)
    images = scores.unsqueeze(2).permute(0, 3, 1, 2)  # (g, r, k, 1), r side by side
    into = {"out": values.view(g, r, n_sets, 1), "indices": labels.view(g, r, n_sets, 1)}
    return partial(torch.ops.aten.max_pool2d_with_indices.out, images, [k // n_sets, 1], **into)


def find_best(scores: Tensor, values: Tensor, labels: Tensor) -> None:
    """Do what a ``finder`` of these does, on any device."""
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        finder(scores, values, labels)()
        return
    g, k, r = scores.shape
    n_sets = values.numel() // (g * r)
    best, at = scores.view(g, n_sets, k // n_sets, r).max(2)  # (g, s, r)
    at += torch.arange(0, k, k // n_sets, device=at.device).unsqueeze(1)
    values.copy_(best.transpose(1, 2).reshape(values.shape))
    labels.copy_(at.transpose(1, 2).reshape(labels.shape))


class _Part(NamedTuple):
    at: slice
    scores: Tensor  # (g, k, r)


class Scores:
    """Scores ``x'c + bias`` of some rows at a time, and room for them.

    Args:
        room: for numbers of as many rows as come at most, times centroids.
    """

    def __init__(self, room: Tensor) -> None:
        self._room = room.view(-1)
        self._parts: list[_Part] = []

    def fill(self, rows: Tensor, centroids: Tensor, bias: Tensor) -> None:
        """Score ``rows (b, d)`` against ``centroids (k, d)`` of ``bias (k,)``."""
        b, (k, d) = len(rows), centroids.shape
        run = RUN if rows.device.type == "cpu" else b
        whole = b - b % run
        self._parts = []
        for at, r in ((slice(0, whole), run), (slice(whole, b), b - whole)):
            if at.start == at.stop:
                continue
            g = (at.stop - at.start) // r
            scores = self._room[at.start * k : at.stop * k].view(g, k, r)
            scores.copy_(bias.unsqueeze(1))
            columns = rows[at].view(g, r, d).transpose(1, 2)
            torch.baddbmm(scores, centroids.expand(g, k, d), columns, out=scores)
            self._parts.append(_Part(at, scores))

    def best(self, values: Tensor, labels: Tensor) -> None:
        """Write the best of each row to ``values (b,)`` and its label to ``labels (b,)``.

        Or, to ``(b, s)``, those of each of ``s`` sets of centroids.
        """
        for at, scores in self._parts:
            find_best(scores, values[at], labels[at])

    def best_but(self, labels: Tensor, values: Tensor) -> None:
        """Write the best that is not that of ``labels (b,)`` to ``values (b,)``.

        The scores of these are gone then.
        """
        for at, scores in self._parts:
            g, _, r = scores.shape
            scores.scatter_(1, labels[at].view(g, 1, r), -torch.inf)
            torch.amax(scores, 1, out=values[at].view(g, r))
