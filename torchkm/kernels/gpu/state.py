"""What passes read and write on the device, laid out once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchkm.kernels.gpu import tuning
from torchkm.kernels.gpu.centroids import MAX_ITER, N_FIGURES
from torchkm.kernels.gpu.formats import Format

# A score of so large a half norm never is the best.
_NEVER = 3e38

# Below any score in ``winners``.
_NOBODY = -(2**63 - 1)


class Block:
    """Rows on the device and what is known of each.

    Attributes:
        x: ``(m, n, d)``; one for each problem, or one for all.
        low: as they enter the product, ``(m, n, width)`` or ``x`` itself.
        weight: ``(1 or m, n)`` or None.
        labels: ``(b, n)`` int32; -1 before the first pass.
    """

    def __init__(self, x: Tensor, weight: Tensor | None, b: int, width: int, form: Format) -> None:
        m, n, d = x.shape
        self.x, self.n, self.d, self.b = x, n, d, b
        self.weight = None if weight is None else weight.contiguous()
        device = x.device
        self.labels = torch.full((b, n), -1, dtype=torch.int32, device=device)
        self.scores = torch.empty(b, n, device=device)
        self.moved, self.moved_from, self.doubtful = torch.empty(
            3, b, n, dtype=torch.int32, device=device
        )
        self.winners = torch.full((b, n), _NOBODY, dtype=torch.int64, device=device)
        self.norms, self.residuals, self.spreads = torch.empty(3, m, n, device=device)
        self.low = torch.empty(m, n, width, dtype=form.dtype, device=device) if form.kept else x

    @property
    def weights(self) -> Tensor:
        """The weights, or something else that a kernel can be given and does not read."""
        return self.norms if self.weight is None else self.weight

    @property
    def weight_stride(self) -> int:
        """From the weights of one problem to those of the next."""
        return self.n if self.weight is not None and len(self.weight) > 1 else 0

    @property
    def norm_stride(self) -> int:
        """From the norms of one problem to those of the next."""
        return self.n if len(self.x) > 1 else 0

    def stride(self, rows: Tensor) -> int:
        """From the rows of one problem to those of the next."""
        return rows.stride(0) if len(self.x) > 1 else 0


class State:
    """Centroids of ``b`` problems, and all that a pass leaves to the next.

    Attributes:
        origin: amid the rows, ``(1 or b, d)``; one for each problem with rows of its own.
        centroids: where the next pass looks, ``(b, k, d)``.
        means: of the clusters of the last pass, ``(b, k, d)``.
        sums: of rows less the origin, in whole ``units``, ``(b, k, d)`` int64.
        counts: weight of each cluster, in whole numbers, ``(b, k)`` int64.
        members: rows with weight in each, ``(b, k)`` int32.
        done: why a problem has stopped, ``(b,)``; 0 where it goes on.
        n_passes: made, ``(b,)``.
        history: of each pass, ``(b, capacity, 5)``.
    """

    def __init__(self, starts: Tensor, origin: Tensor, form: Format, capacity: int) -> None:
        b, k, d = starts.shape
        device = starts.device

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.b, self.k, self.d, self.capacity = b, k, d, capacity
        self.format, self.origin = form, origin.float().reshape(-1, d).contiguous()
        self.width = tuning.width_of(d)
        self.shared_memory = tuning.shared_memory(device)
        tile = tuning.scoring_tile(k, self.width, form)
        self.tile = tuning.fitting(tile, self.width, form, self.shared_memory)
        self.again = tuning.again_tile(self.tile, self.width)
        self.k_padded = -(-k // self.tile.centroids) * self.tile.centroids
        self.centroids, self.means, self.before = room(3, b, k, d)
        self.operand = room(b, self.k_padded, self.width, dtype=form.dtype)
        self.centred = room(b, self.k_padded, self.width)
        self.halves = torch.full((b, self.k_padded), _NEVER, device=device)
        self.exact_halves = self.halves.clone()
        self.limits = room(b, 4)
        self.sums = room(b, k, d, dtype=torch.int64)
        self.counts = room(b, k, dtype=torch.int64)
        self.members, self.numbered = room(2, b, k, dtype=torch.int32)
        self.partial = room(b, k, 2, dtype=torch.float64)
        self.counters = room(b, 8, dtype=torch.int32)
        self.history = room(b, capacity, N_FIGURES, dtype=torch.float64)
        self.n_passes, self.done = room(2, b, dtype=torch.int32)
        self.momentum = room(b, 4, dtype=torch.float64)
        self.still = room(b, dtype=torch.float64)
        self.sq_norms = room(b, dtype=torch.float64)
        self.scale = 1.0
        self.units, self.inverse_units = room(2, d, dtype=torch.float64)
        self.weight_unit = room(1, dtype=torch.float64)
        self.lost_share = form.lost
        self.sum_share = (self.width + 8) * 2.0**-23

    @property
    def origin_stride(self) -> int:
        """From the origin of one problem to that of the next."""
        return self.d if len(self.origin) > 1 else 0

    def restart(self, starts: Tensor) -> None:
        """Forget all passes; the next begins at ``starts (b, k, d)``."""
        for kept in (self.n_passes, self.counters, self.limits):
            kept.zero_()
        self.forget_rows()
        self.means.copy_(starts)
        self.before.copy_(starts)

    def forget_rows(self) -> None:
        """Empty all clusters."""
        for total in (self.sums, self.counts, self.members):
            total.zero_()

    def reopen(self) -> None:
        """Let all problems go on that have passes left, without momentum."""
        self.done.copy_(MAX_ITER * (self.n_passes >= self.capacity))
        self.momentum.zero_()[:, 0] = math.inf
