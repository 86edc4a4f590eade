"""Streaming k-means as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchkm import functional
from torchkm.functional import Assignment, ClusterStats
from torchkm.functional.arrays import as_init
from torchkm.functional.assignment import check_measured
from torchkm.functional.checks import check_count, check_integer, check_known
from torchkm.functional.problem import Problem
from torchkm.functional.ranks import Farthest
from torchkm.functional.reseeding import farthest_rows
from torchkm.functional.seeding import Init
from torchkm.functional.stats import one_read
from torchkm.nn.centroids import CentroidModule
from torchkm.solvers import CentroidState, UpdateRule, as_rule, update
from torchkm.solvers.update import reseed_and_update


class KMeans(CentroidModule):
    """k-means that learns from batches and assigns new rows.

    ``update`` makes one streaming step; the first one seeds the centroids from its own rows.
    ``forward`` assigns. Everything learnt is in buffers of fixed shape, so ``state_dict``,
    ``.to(device)`` and checkpoints work as for any module. Centroids stay in float32 or better
    and counts in float64, also after ``.half()``. There are no parameters and no gradients.

    Args:
        k: number of clusters.
        n_features: width of the rows.
        rule: how a batch moves the centroids: ``"minibatch"``, ``"minibatch-sqrt"``,
            ``"lloyd"`` (each batch replaces what was learnt), or a rule with settings, as
            ``torchkm.solvers.Decay(half_life=10_000)`` for streams that drift.
        init: how the first ``update`` seeds; see ``torchkm.functional.seed``.
        metric: ``"euclidean"`` or ``"cosine"``.
        device: of the buffers.
        dtype: of the centroids: float32 (default) or float64.

    Attributes:
        centroids: ``(k, n_features)``.
        counts: weight that each cluster has seen and not forgotten, ``(k,)`` float64.
        n_rows_seen: rows given to ``update`` so far, ``()`` int64.
        seeded: whether the centroids have a value yet, ``()`` bool.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: sizes below 1, unknown names, a dtype below float32.

    Example:
        >>> import torch, torchkm
        >>> rows = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> module = torchkm.nn.KMeans(k=3, n_features=2)
        >>> for batch in rows.split(250):
        ...     stats = module.update(batch)
        >>> module.predict(rows).shape
        torch.Size([1000])
        >>> module
        KMeans(k=3, n_features=2, rule=MiniBatch(learning_rate='mean'), init='k-means++',
               metric='euclidean', n_rows_seen=1000)
    """

    def __init__(
        self,
        k: int,
        n_features: int,
        *,
        rule: str | UpdateRule = "minibatch",
        init: Init = "k-means++",
        metric: str = "euclidean",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(k, n_features, metric=metric, device=device, dtype=dtype)
        self.rule = as_rule(rule, name="rule")
        self.init = self._checked_init(init)

    @torch.no_grad()
    def seed(
        self,
        x: Any,
        init: Init | None = None,
        *,
        sample_weight: Any = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Set the centroids from rows, and forget what was learnt before.

        Args:
            x: rows ``(n, n_features)``, at least ``k`` of them.
            init: overrides the module's own: a name, an array ``(k, n_features)`` or a function.
            sample_weight: ``(n,)``, non-negative.
            generator: where randomness comes from; None draws a fresh seed from the system.

        Raises:
            TypeError: as ``torchkm.functional.seed``.
            ValueError: as ``torchkm.functional.seed``; the module stays as it was.

        Example:
            >>> import torch, torchkm
            >>> module = torchkm.nn.KMeans(k=1, n_features=1)
            >>> module.seed(torch.tensor([[2.0], [4.0]]), init=torch.tensor([[3.0]]))
            >>> module.centroids
            tensor([[3.]])
        """
        problem = self._problem(x, sample_weight)
        centroids = functional.seed(
            problem.x,
            self.k,
            self.init if init is None else init,
            sample_weight=problem.sample_weight,
            metric=self.metric,
            generator=generator,
        )
        self.centroids.copy_(centroids)
        self.counts.zero_()
        self.n_rows_seen.zero_()
        self.seeded.fill_(True)

    @torch.no_grad()
    def update(
        self,
        x: Any,
        sample_weight: Any = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ClusterStats:
        """Learn from one batch; the first batch seeds the centroids.

        A cluster left without rows is given one that lies far from its centroid.

        Args:
            x: rows ``(b, n_features)``; the first time at least ``k`` of them.
            sample_weight: ``(b,)``, non-negative.
            generator: for seeding, the first time only.

        Returns:
            The ``ClusterStats`` of the batch, against the centroids before the step.

        Raises:
            TypeError: rows or weights of a wrong dtype.
            ValueError: rows of a wrong shape, empty, NaN or infinite, bad weights, or a first
                batch with fewer than ``k`` rows; the module stays as it was.

        Cost:
            ``2 b k d`` operations, one read of ``x``, two device synchronisations.

        Example:
            >>> import torch, torchkm
            >>> module = torchkm.nn.KMeans(k=1, n_features=1)
            >>> module.update(torch.tensor([[2.0], [4.0]])).counts
            tensor([2.], dtype=torch.float64)
            >>> module.centroids
            tensor([[3.]])
        """
        problem = self._problem(x, sample_weight)
        if not self.is_seeded:
            self.rule.kept(self.counts.sum())  # a rule with open settings refuses before any work
            self.seed(problem.x, sample_weight=problem.sample_weight, generator=generator)
        assignment, stats = self._one_read(problem)
        self.apply_stats(stats, len(problem.x), self._farthest_from(problem, assignment))
        return stats

    @torch.no_grad()
    def accumulate(self, x: Any, sample_weight: Any = None) -> tuple[Assignment, ClusterStats]:
        """Assign a batch and add up its clusters, without learning from it.

        With ``apply_stats`` the two halves of ``update``, for who merges batches or ranks first.

        Args:
            x: rows ``(b, n_features)``.
            sample_weight: ``(b,)``, non-negative.

        Returns:
            ``Assignment`` and ``ClusterStats``; stats of several batches add.

        Raises:
            TypeError: as ``update``.
            ValueError: as ``update``, or a module without centroids.
        """
        self._check_seeded()
        return self._one_read(self._problem(x, sample_weight))

    @torch.no_grad()
    def apply_stats(
        self, stats: ClusterStats, n_rows: int | Tensor, farthest: Farthest | None = None
    ) -> int:
        """Move the centroids as the rule says.

        Args:
            stats: of one batch, or a sum over batches or ranks.
            n_rows: how many rows they were made of.
            farthest: where rows for empty clusters come from, as ``farthest_from`` returns it;
                None leaves empty clusters where they are.

        Returns:
            How many empty clusters were re-seeded.

        Raises:
            TypeError: a number of rows that is no integer.
            ValueError: stats of other clusters, or a module without centroids; it stays as it
                was.
        """
        self._check_seeded()
        if stats.sums.shape != self.centroids.shape:
            raise ValueError(
                f"stats must be of clusters {tuple(self.centroids.shape)}, "
                f"got {tuple(stats.sums.shape)}"
            )
        if isinstance(n_rows, Tensor):
            check_count("n_rows", n_rows)
        else:
            n_rows = check_integer("n_rows", n_rows, 0)
        before = CentroidState(self.centroids, self.counts)
        (after, empty), n_reseeded = update(stats, before, self.rule, self.metric), 0
        if farthest is not None and (n_empty := int(empty.sum())):
            after, n_reseeded = reseed_and_update(
                stats, before, self.rule, self.metric, empty, farthest(n_empty)
            )
        self.centroids.copy_(after.centroids)
        self.counts.copy_(after.counts)
        self.n_rows_seen += n_rows
        return n_reseeded

    def farthest_from(
        self, x: Tensor, assignment: Assignment, sample_weight: Tensor | None = None
    ) -> Farthest:
        """Return a function that finds rows for ``n_empty`` clusters in an assigned batch.

        It is to be called before the centroids move.

        Args:
            x: rows ``(b, n_features)``.
            assignment: of those rows to the present centroids.
            sample_weight: ``(b,)`` or None.
        """
        return self._farthest_from(self._problem(x, sample_weight), assignment)

    def _checked_init(self, init: Init) -> Init:
        """Return ``init``, as far as it can be checked without rows."""
        if isinstance(init, str):
            return check_known("init", init, functional.INITS)
        if not callable(init):
            as_init(init, self.k, self.centroids)
        return init

    def extra_repr(self) -> str:
        """Name the sizes, the rule and how much was learnt."""
        init = f"{tuple(self.init.shape)} array" if hasattr(self.init, "shape") else repr(self.init)
        seen = "?" if self.n_rows_seen.is_meta else int(self.n_rows_seen)
        return (
            f"k={self.k}, n_features={self.n_features}, rule={self.rule}, init={init}, "
            f"metric={self.metric!r}, n_rows_seen={seen}"
        )

    def _one_read(self, problem: Problem) -> tuple[Assignment, ClusterStats]:
        assignment, stats = one_read(problem, self.centroids)
        check_measured(problem, assignment)
        return assignment, stats

    def _farthest_from(self, problem: Problem, assignment: Assignment) -> Farthest:
        return lambda n_empty: farthest_rows(problem, self.centroids, assignment, n_empty)
