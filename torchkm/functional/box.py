"""A box around rows, and rows drawn from it evenly: data of that extent without clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchkm import kernels
from torchkm.functional.sampling import uniform


@dataclass(frozen=True)
class Box:
    """A box in the space of the rows.

    Attributes:
        low: least coordinate along each axis, ``(d,)`` float64.
        high: largest coordinate along each axis, ``(d,)``.
        axes: directions of the axes, columns of a ``(d, d)``; None are the features.
        dtype: that rows are drawn in.
    """

    low: Tensor
    high: Tensor
    axes: Tensor | None
    dtype: torch.dtype

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return ``n`` rows ``(n, d)``, drawn evenly from the box."""
        out = self.low.new_empty(n, len(self.low), dtype=self.dtype)
        for part in torch.split(out, kernels.rows_per_block(out, len(self.low))):
            draws = uniform(tuple(part.shape), generator, out.device).to(self.low)
            rows = torch.lerp(self.low, self.high, draws)
            part.copy_(rows if self.axes is None else rows @ self.axes.T)
        return out


def box_around(x: Tensor, axes: Tensor | None = None) -> Box:
    """Return the smallest box with the given ``axes (d, d)`` around rows ``x (n, d)``."""
    wide, dtype = kernels.sum_dtype(x.device), kernels.compute_dtype(x.dtype)
    if axes is None:
        low, high = torch.aminmax(x, dim=0)  # (d,)
        return Box(low.to(wide), high.to(wide), None, dtype)
    ends = [
        torch.stack(torch.aminmax(rows.to(wide) @ axes, dim=0))  # (2, d)
        for rows in torch.split(x, kernels.rows_per_block(x, x.shape[1]))
    ]
    lows, highs = torch.stack(ends).unbind(1)  # (m, d)
    return Box(lows.amin(0), highs.amax(0), axes, dtype)


def principal_axes(x: Tensor) -> Tensor:
    """Return the principal directions of rows ``x (n, d)``, columns of a ``(d, d)`` in float64."""
    d = x.shape[1]
    mean = x.mean(0, dtype=kernels.sum_dtype(x.device))  # (d,)
    scatter = mean.new_zeros(d, d)
    for rows in torch.split(x, kernels.rows_per_block(x, d)):
        centred = rows - mean
        scatter.addmm_(centred.T, centred)
    return torch.linalg.eigh(scatter).eigenvectors
