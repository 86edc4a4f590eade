"""Centroids as buffers of a module, and what can be asked of them once they have a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from torchkm import functional, kernels
from torchkm.functional import Assignment
from torchkm.functional.arrays import (
    as_centroids,
    as_tensor,
    as_values,
    check_finite,
    check_same_device,
)
from torchkm.functional.checks import check_integer, check_k
from torchkm.functional.geometry import check_directions, unit, uses_unit_rows
from torchkm.functional.problem import Problem, as_problem
from torchkm.kernels import sum_dtype

_FLOATS = (torch.float32, torch.float64)


class CentroidModule(nn.Module):
    """Holds centroids and assigns rows to them; how they are learnt is for subclasses to say.

    Args:
        k: number of clusters.
        n_features: width of the rows.
        metric: ``"euclidean"`` or ``"cosine"``.
        device: of the buffers.
        dtype: of the centroids: float32 or float64.

    Attributes:
        centroids: ``(k, n_features)``.
        counts: weight that each cluster has seen and not forgotten, ``(k,)`` float64.
        n_rows_seen: rows learnt from so far, ``()`` int64.
        seeded: whether the centroids have a value yet, ``()`` bool.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: sizes below 1, an unknown metric, a dtype below float32.
    """

    centroids: Tensor
    counts: Tensor
    n_rows_seen: Tensor
    seeded: Tensor

    def __init__(
        self,
        k: int,
        n_features: int,
        *,
        metric: str,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.k = check_k(k)
        self.n_features = check_integer("n_features", n_features, 1)
        self.metric = metric
        uses_unit_rows(metric)
        if dtype not in _FLOATS:
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        empty = torch.zeros(self.k, self.n_features, device=device, dtype=dtype)
        self.register_buffer("centroids", empty)
        self.register_buffer("counts", torch.zeros_like(empty[:, 0], dtype=sum_dtype(empty.device)))
        self.register_buffer("n_rows_seen", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("seeded", torch.zeros((), dtype=torch.bool, device=device))
        self._was_seeded = False

    @classmethod
    @torch.no_grad()
    def from_centroids(cls, centroids: Any, counts: Any = None, **settings: Any) -> Self:
        """Return a module that knows these centroids, on their device and in their dtype.

        Args:
            centroids: ``(k, n_features)``; copied. Below float32 they become float32.
            counts: weight that each has seen, ``(k,)``. None is no weight at all: the rules
                ``"minibatch"`` and ``"decay"`` then move a centroid all the way to the mean of
                its first rows.
            settings: ``rule``, ``metric`` and ``init``, as for the class.

        Raises:
            TypeError: centroids that are not floats, counts that are not numbers.
            ValueError: centroids of a wrong rank or not finite, counts of another shape or
                device, negative or not finite; an unknown name among the settings.

        Example:
            >>> import torch, torchkm
            >>> module = torchkm.nn.KMeans.from_centroids(torch.tensor([[0.0], [8.0]]))
            >>> module.predict(torch.tensor([[1.0], [9.0]]))
            tensor([0, 1])
        """
        given = as_tensor(centroids, "centroids")
        given = as_centroids(given, given)
        k, n_features = given.shape
        module = cls(k, n_features, device=given.device, dtype=given.dtype, **settings)
        check_directions(given, module.metric, "centroids")
        module.centroids.copy_(unit(given) if uses_unit_rows(module.metric) else given)
        if counts is not None:
            module.counts.copy_(_as_counts(counts, given))
        module.seeded.fill_(True)
        return module

    def forward(self, x: Tensor) -> Assignment:
        """Assign rows to their nearest centroids.

        Args:
            x: ``(*, n_features)``, any float dtype or uint8.

        Returns:
            ``Assignment(labels (*), sq_distances (*))``.

        Raises:
            TypeError: rows of a wrong dtype.
            ValueError: rows of a wrong width, empty, NaN or infinite, or a module without
                centroids. Under ``torch.compile`` and ``torch.export`` values are not looked at.

        Cost:
            ``2 n k d`` operations and one block of scores; compiled, all ``(n, k)`` scores.

        Example:
            >>> import torch, torchkm
            >>> module = torchkm.nn.KMeans(k=2, n_features=1)
            >>> module.seed(torch.zeros(2, 1), init=torch.tensor([[0.0], [8.0]]))
            >>> module(torch.tensor([[1.0], [9.0]])).labels
            tensor([0, 1])
        """
        if torch.compiler.is_compiling():
            shape, rows = x.shape[:-1], x.reshape(-1, self.n_features)
            unit_rows = uses_unit_rows(self.metric)
            origin = self.centroids.median(dim=0).values  # of fixed shape, unlike the rows
            found = Assignment(*kernels.nearest(rows, self.centroids, unit_rows, origin))
        else:
            self._check_seeded()
            shape, rows = self._flat(x)
            found = functional.assign(rows, self.centroids, metric=self.metric)
        return Assignment(*(part.reshape(shape) for part in found))

    def predict(self, x: Tensor) -> Tensor:
        """Return the labels ``(*)`` of rows ``x (*, n_features)``, as ``forward`` gives them."""
        return self(x).labels

    @torch.no_grad()
    def transform(self, x: Tensor) -> Tensor:
        """Return the distance of every row to every centroid, ``(*, k)`` (not squared).

        Args:
            x: ``(*, n_features)``.

        Raises:
            TypeError: rows of a wrong dtype.
            ValueError: as ``forward``.
        """
        self._check_seeded()
        shape, rows = self._flat(x)
        out = functional.distances(rows, self.centroids, metric=self.metric)
        return out.reshape(*shape, self.k)

    @property
    def is_seeded(self) -> bool:
        """Whether the centroids have a value."""
        # Asked of the device until it says yes, so that a stream on a GPU need not wait each time.
        self._was_seeded = self._was_seeded or bool(self.seeded)
        return self._was_seeded

    def _check_seeded(self) -> None:
        if not self.is_seeded:
            raise ValueError(
                f"this {type(self).__name__} has no centroids yet: call update(x) or seed(x), "
                "or load a state_dict, first"
            )

    def _flat(self, x: Any) -> tuple[torch.Size, Tensor]:
        """Return the leading shape of ``x (*, n_features)``, and its rows ``(n, n_features)``."""
        rows = as_tensor(x, "x")
        if rows.ndim == 0 or rows.shape[-1] != self.n_features:
            raise ValueError(
                f"x must have n_features={self.n_features} columns, got shape {tuple(rows.shape)}"
            )
        flat = rows.reshape(-1, self.n_features)
        self._problem(flat)
        return rows.shape[:-1], flat

    def _problem(self, x: Any, sample_weight: Any = None) -> Problem:
        problem = as_problem(as_tensor(x, "x"), sample_weight, self.metric)
        rows = problem.x
        if rows.shape[1] != self.n_features:
            raise ValueError(
                f"x must have n_features={self.n_features} columns, got shape {tuple(rows.shape)}"
            )
        check_same_device(rows, self.centroids, "the module")
        if rows.dtype == torch.float64 != self.centroids.dtype:
            check_finite(rows, dtype=self.centroids.dtype)
        return problem

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move as any module does, but never to a dtype that would lose what was learnt."""
        centroids, counts = self.centroids, self.counts
        cast("Any", super())._apply(*args, **kwargs)
        device = self.centroids.device
        if centroids.is_meta:  # nothing was learnt, and there is nothing to copy
            return self
        if self.centroids.dtype not in _FLOATS:
            self.centroids = centroids.to(device)
        self.counts = counts.to(device, sum_dtype(device))
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load all buffers, or none where torch is going to refuse the state."""
        before = {name: (buffer, buffer.clone()) for name, buffer in self.named_buffers()}
        n_missing, n_errors = len(missing_keys), len(error_msgs)
        cast("Any", super())._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if len(error_msgs) > n_errors or (strict and len(missing_keys) > n_missing):
            for name, (buffer, value) in before.items():
                self._buffers[name] = buffer.copy_(value)
        self._was_seeded = False


def _as_counts(counts: Any, centroids: Tensor) -> Tensor:
    """Return ``counts (k,)`` checked, in the dtype that they add in."""
    given = as_tensor(counts, "counts")
    check_same_device(centroids, given, "counts")
    if given.shape != centroids.shape[:1]:
        raise ValueError(
            f"counts must have shape ({len(centroids)},), one per centroid, got "
            f"{tuple(given.shape)}"
        )
    return as_values(given.to(sum_dtype(given.device)), "counts")
