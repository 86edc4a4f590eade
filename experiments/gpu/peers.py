"""The other libraries' passes that ``benchmark.py --device cuda`` times.

flash-kmeans starts from the centroids that it is given; fastkmeans always draws its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import ClassVar

import torch
from torch import Tensor

from gpu.clock import Clock
from gpu.contenders import Contender, Loop

# fastkmeans's own defaults.
_FAST_ROWS, _FAST_CENTROIDS = 51_200, 10_240


class Flash(Loop):
    """flash-kmeans as it is called: ``batch_kmeans_Euclid`` with starts, which waits every pass."""

    needs: ClassVar[str] = "flash_kmeans"

    def __init__(self, x: Tensor, starts: Tensor) -> None:
        self._library = importlib.import_module("flash_kmeans")
        self._x, self._starts = x, starts.to(x.dtype)
        self.itemsize = x.element_size()
        self.rate = "tf32" if x.dtype == torch.float32 else "fp16"
        self.restart()

    def restart(self) -> None:
        """Go back to the starts."""
        self._centroids = self._starts.clone()
        self._labels = torch.zeros(self._x.shape[:2], dtype=torch.int32, device=self._x.device)

    def advance(self, count: int) -> None:
        """Make passes, none of which may be the last."""
        if not count:  # it cannot make none
            return
        self._labels, self._centroids, _ = self._library.batch_kmeans_Euclid(
            self._x,
            self._starts.shape[1],
            max_iters=count,
            tol=-1.0,
            init_centroids=self._centroids,
        )

    def found(self) -> tuple[Tensor, Tensor]:
        """Return labels and means."""
        return self._labels, self._centroids


class FlashKernels(Flash):
    """flash-kmeans's own kernels, in a loop that waits for nothing: better than it is sold."""

    def __init__(self, x: Tensor, starts: Tensor) -> None:
        super().__init__(x, starts)
        kernels = importlib.import_module("flash_kmeans.assign_euclid_triton")
        self._assign = kernels.euclid_assign_triton
        self._update = self._library.triton_centroid_update_sorted_euclid
        self._sq_norms = torch.stack([rows.square().sum(-1) for rows in x])  # (b, n), in x's dtype

    def advance(self, count: int) -> None:
        """Enqueue passes."""
        for _ in range(count):
            self._labels = self._assign(self._x, self._centroids, self._sq_norms)
            self._centroids = self._update(self._x, self._labels, self._centroids)


class Fast(Contender):
    """fastkmeans, its Triton loop on rows that lie on the device; problems one by one.

    It draws starts, and takes its time over that, in each call: the time of a pass is the
    difference of two calls, one of more passes than the other.
    """

    needs: ClassVar[str] = "fastkmeans"
    itemsize, rate = 2, "fp16"

    def __init__(self, x: Tensor, starts: Tensor) -> None:
        self._library = importlib.import_module("fastkmeans.kmeans")
        self._x = x.half()
        self._starts = starts.half()
        self._sq_norms = torch.stack([rows.float().square().sum(-1) for rows in x]).half()

    def first(self) -> tuple[Tensor, None]:
        """Label all rows with its kernel; it does not tell the means."""
        labels = torch.zeros(self._x.shape[:2], dtype=torch.int64, device=self._x.device)
        for i, starts in enumerate(self._starts):
            self._library.triton_kmeans(
                data_chunk=self._x[i],
                data_chunk_norms=self._sq_norms[i],
                centroids=starts,
                centroids_sqnorm=starts.square().sum(1),
                best_ids=labels[i],
            )
        return labels, None

    def seconds(self, clock: Clock, warm: int, count: int) -> float:
        """Return the time of a pass: by how much more passes take longer."""
        fewer = clock.seconds(lambda: self._call(warm))
        return (clock.seconds(lambda: self._call(warm + count)) - fewer) / count

    def _call(self, count: int) -> None:
        for rows, sq_norms in zip(self._x, self._sq_norms, strict=True):
            self._library._kmeans_torch_double_chunked(
                rows,
                sq_norms,
                k=self._starts.shape[1],
                device=rows.device,
                max_iters=count,
                tol=-1.0,
                chunk_size_data=_FAST_ROWS,
                chunk_size_centroids=_FAST_CENTROIDS,
                max_points_per_centroid=None,
                use_triton=self._library.HAS_TRITON,
            )


def missing(needs: str) -> str | None:
    """Return why a contender has to be left out, or None."""
    return None if importlib.util.find_spec(needs) else f"{needs} is not installed"
