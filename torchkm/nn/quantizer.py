"""Vector quantisation: rows become the nearest of k codes, which follow the rows as a stream."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchkm.functional import ClusterStats, Ranks
from torchkm.functional.arrays import check_finite
from torchkm.functional.checks import check_integer, check_known, check_number
from torchkm.functional.geometry import check_directions, uses_unit_rows
from torchkm.functional.ranks import gather_farthest, gather_rows, of_first_rank, sum_stats
from torchkm.functional.soft import in_own_precision
from torchkm.functional.soft_problem import as_floats
from torchkm.kernels import compute_dtype
from torchkm.nn.kmeans import KMeans
from torchkm.nn.passing import PASSINGS
from torchkm.solvers import Decay, EmptyClusterWarning, kmeans

# A batch counts half after so many rows for each code: the classic decay of 0.99 for 2,048 rows
# a batch and 512 codes.
_HALF_LIFE_PER_CODE = 256

# Rows for each code that the codebook starts from, and Lloyd's passes over them.
_START_ROWS_PER_CODE, _START_PASSES = 16, 10


class Quantized(NamedTuple):
    """What a vector quantiser makes of rows ``(*, d)``.

    Attributes:
        quantized: the code of each row ``(*, d)`` in the dtype of the rows, with a gradient.
        codes: which one it is ``(*)``, int64.
        loss: what holds the rows to their codes ``()``, in float32 or better.
        perplexity: how many codes are in use, as the exponential of their entropy in this batch.
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor
    perplexity: Tensor


class VectorQuantizer(nn.Module):
    """Replaces rows by the nearest of k codes, and lets the codes follow the rows.

    In training mode each batch moves the codes to a mean of the rows that fades with a half-life,
    an exponential moving average (van den Oord, Vinyals and Kavukcuoglu 2017, arXiv:1711.00937): no
    optimiser and no loss is needed for them. They start from a few k-means passes over the first
    rows, collected over as many batches as that takes: until then rows pass as they are. Codes
    that have lost their rows are moved to rows far from theirs. In evaluation mode nothing moves.

    Args:
        k: number of codes.
        n_features: width of the rows.
        half_life: rows after which a batch counts half; None is ``256 k``. For a decay by which
            each of batches of ``b`` rows is remembered: ``b * log(0.5) / log(decay)``.
        revive_below: share of the average count that a code is moved away with; 0 is never.
        commitment: of the loss, the mean squared difference between rows and codes.
        gradient: of ``quantized`` by the rows: ``"straight_through"`` copies it, ``"rotation"``
            turns and scales it as the row is turned and scaled to its code (Fifty et al. 2024,
            arXiv:2410.06424).
        metric: ``"euclidean"``, or ``"cosine"``, where rows and codes are of unit length.
        start_rows: rows to collect for the start, at least ``k``; None is ``16 k``.
        ranks: the processes that the rows are spread over, see ``torchkm.functional.Ranks``; codes
            stay the same on all. Asked in training mode alone.
        device: of the buffers.
        dtype: of the codes: float32 (default) or float64.

    Attributes:
        codebook: the codes, as a ``torchkm.nn.KMeans``.

    Raises:
        TypeError: sizes or numbers of another type.
        ValueError: numbers out of range, unknown names, a dtype below float32.

    Example:
        >>> import torch, torchkm
        >>> layer = torchkm.nn.VectorQuantizer(k=2, n_features=1, start_rows=4)
        >>> x = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
        >>> out = layer(x)
        >>> out.quantized.flatten()
        tensor([0.5000, 0.5000, 8.5000, 8.5000])
        >>> out.loss, out.perplexity  # 0.25 times a distance of 0.25
        (tensor(0.0625), tensor(2.))
    """

    def __init__(
        self,
        k: int,
        n_features: int,
        *,
        half_life: float | None = None,
        revive_below: float = 0.05,
        commitment: float = 0.25,
        gradient: str = "straight_through",
        metric: str = "euclidean",
        start_rows: int | None = None,
        ranks: Ranks | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        k = check_integer("k", k, 1)
        rule = Decay(
            _HALF_LIFE_PER_CODE * k if half_life is None else half_life,
            check_number("revive_below", revive_below, 0),
        )
        self.codebook = KMeans(k, n_features, rule=rule, metric=metric, device=device, dtype=dtype)
        self.revive_below = revive_below
        self.commitment = check_number("commitment", commitment, 0)
        self.gradient = check_known("gradient", gradient, PASSINGS)
        start_rows = _START_ROWS_PER_CODE * k if start_rows is None else start_rows
        self.start_rows = check_integer("start_rows", start_rows, k)
        self.ranks = ranks
        self._collected: list[Tensor] = []

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        """Replace rows by their codes; in training mode, let the codes follow.

        Args:
            x: rows ``(*, n_features)`` of any float dtype.
            generator: of the start; None draws a fresh seed from the system.

        Returns:
            ``Quantized``, by the codes as they were before this batch. In training mode, while
            rows are still collected: the rows, codes of -1, a loss of 0, and a perplexity of NaN.

        Raises:
            TypeError: rows of another dtype.
            ValueError: rows of a wrong width, empty, NaN or infinite, under ``"cosine"`` also of
                zeros, or codes that have no value yet in evaluation mode. The layer stays as it
                was.

        Cost:
            ``2 n k d`` operations, one read of the rows.
        """
        rows = self._as_rows(x)
        with torch.no_grad():
            found = self._find(rows.detach(), generator)
        if found is None:
            none = torch.full(x.shape[:-1], -1, device=x.device)
            # Of nothing, but with a graph: a training step need not know of the start.
            loss = (0 * rows).sum()
            return Quantized(x, none, loss, loss.detach() + math.nan)
        codes, vectors, counts = found
        with in_own_precision(rows):
            loss = self.commitment * (rows - vectors).square().mean()
            quantized = PASSINGS[self.gradient](rows, vectors.to(rows.dtype))
        return Quantized(
            quantized.to(x.dtype).reshape(x.shape),
            codes.reshape(x.shape[:-1]),
            loss,
            _perplexity(counts).to(rows.dtype),
        )

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors ``(*, n_features)`` of ``codes (*)``.

        Raises:
            ValueError: codes that have no value yet.
        """
        self._check_started()
        return self.codebook.centroids[codes]

    def extra_repr(self) -> str:
        """Name the choices; the sizes are those of the codebook."""
        return (
            f"commitment={self.commitment:g}, gradient={self.gradient!r}, "
            f"start_rows={self.start_rows}"
        )

    def _as_rows(self, x: Tensor) -> Tensor:
        """Return ``x (*, n_features)`` as rows ``(n, n_features)`` in float32 or better."""
        x = as_floats(x, "x", f"(*, {self.codebook.n_features})", 1)
        if x.shape[-1] != self.codebook.n_features:
            raise ValueError(
                f"x must have n_features={self.codebook.n_features} columns, got shape "
                f"{tuple(x.shape)}"
            )
        rows = x.reshape(-1, x.shape[-1]).to(compute_dtype(x.dtype))
        unit_rows = uses_unit_rows(self.codebook.metric)
        return nn.functional.normalize(rows, dim=-1) if unit_rows else rows

    def _find(
        self, rows: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return codes ``(n,)``, vectors ``(n, d)`` and counts ``(k,)``; None before the start."""
        if not self.training:
            self._check_started()
            return self._nearest(rows)
        if self.codebook.is_seeded:
            return self._learnt(rows)
        return self._nearest(rows) if self._start(rows, generator) else None

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes = self.codebook(rows).labels
        counts = ClusterStats.counted(codes, torch.ones_like(rows[:, 0]), self.codebook.k)
        return codes, self.codebook.centroids[codes], counts

    def _learnt(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return as ``_find`` does, and move the codes then."""
        book = self.codebook
        assignment, stats = book.accumulate(rows)
        vectors = book.centroids[assignment.labels]
        farthest = gather_farthest(book.farthest_from(rows, assignment), self.ranks)
        stats = sum_stats(stats, self.ranks)
        n_rows = stats.counts.sum().round().to(torch.int64)
        book.apply_stats(stats, n_rows, farthest if self.revive_below else None)
        return assignment.labels, vectors, stats.counts

    def _start(self, rows: Tensor, generator: torch.Generator | None) -> bool:
        """Collect rows ``(n, d)``, and start from them once there are enough; say whether."""
        book = self.codebook
        check_finite(rows)
        check_directions(rows, book.metric)
        collected = [part.to(rows) for part in self._collected] + [rows.clone()]
        n_rows = torch.tensor(sum(map(len, collected)), device=rows.device)
        if int(n_rows if self.ranks is None else self.ranks.sum(n_rows)) < self.start_rows:
            self._collected = collected
            return False
        every = gather_rows(torch.cat(collected), self.ranks)
        with warnings.catch_warnings():
            # Codes that find no rows here are moved to others later.
            warnings.simplefilter("ignore", EmptyClusterWarning)
            first = kmeans(
                every,
                book.k,
                solver="lloyd",
                max_iter=_START_PASSES,
                metric=book.metric,
                generator=generator,
            ).centroids
        book.seed(every, init=of_first_rank(first, self.ranks))
        book.apply_stats(book.accumulate(every)[1], len(every))
        self._collected = []
        return True

    def _check_started(self) -> None:
        if not torch.compiler.is_compiling() and not self.codebook.is_seeded:
            raise ValueError(
                "this VectorQuantizer has no codes yet: give it rows in training mode, or load a "
                "state_dict, first"
            )


def _perplexity(counts: Tensor) -> Tensor:
    share = counts / counts.sum()
    return torch.special.entr(share).sum().exp()
