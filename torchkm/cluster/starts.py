"""Where a fit begins: ``init`` and ``n_init`` as scikit-learn reads them, for the core."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.cluster.kinds import Data
from torchkm.functional.caller import warn_caller
from torchkm.functional.seeding import Init

_LARGEST_SEED = 2**31 - 1

# Batches of rows that a start is sought among where ``init_size`` does not say.
_INIT_BATCHES = 3


class Start(NamedTuple):
    """How a fit begins.

    Attributes:
        init: as the core takes it.
        n_init: how many starts.
        given: whether the first centroids come from the caller.
    """

    init: Init
    n_init: int
    given: bool


def start_of(
    estimator: Any,
    data: Data,
    random_state: np.random.RandomState,
    n_random: int,
    k: int | None = None,
) -> Start:
    """Return how ``estimator`` is to begin; ``n_random`` starts are "auto" where chance decides.

    Begins with ``n_clusters`` centroids, or ``k``.

    Raises:
        TypeError: an array of another kind than the rows.
        ValueError: an array of another shape than ``(n_clusters, n_features)``.

    Warns:
        RuntimeWarning: several starts from given centroids, which are one.
    """
    init, n_init = estimator.init, estimator.n_init
    if isinstance(init, str):
        many = n_random if init == "random" else 1
        return Start(init, many if n_init == "auto" else n_init, False)
    shape = (k or estimator.n_clusters, data.rows.shape[1])
    if callable(init):

        def ask(x: Any, k: int, _: torch.Generator) -> Tensor:
            came = init(data.kind.shown(x), k, random_state=random_state)
            return _centroids(came, data, shape)

        return Start(ask, n_random if n_init == "auto" else n_init, True)
    if n_init not in ("auto", 1):
        warn_caller(
            "Explicit initial center position passed: performing only one init in "
            f"{type(estimator).__name__} instead of n_init={n_init}.",
            RuntimeWarning,
        )
    return Start(_centroids(init, data, shape), 1, True)


def rows_to_begin(estimator: Any, n: int) -> int:
    """Return how many of ``n`` rows a start is sought among, as ``init_size`` says.

    Warns:
        RuntimeWarning: an ``init_size`` below ``n_clusters``.
    """
    size, k = estimator.init_size, estimator.n_clusters
    if size is None:
        size = _INIT_BATCHES * min(estimator.batch_size, n)
        return min(size if size >= k else 3 * k, n)
    if size < k:
        warn_caller(
            f"init_size={size} should be larger than n_clusters={k}. Setting it to "
            "min(3*n_clusters, n_samples)",
            RuntimeWarning,
        )
        size = 3 * k
    return min(size, n)


def generator_from(random_state: np.random.RandomState) -> torch.Generator:
    """Return a generator that is seeded by a draw from ``random_state``."""
    return torch.Generator().manual_seed(int(random_state.randint(_LARGEST_SEED)))


def _centroids(came: Any, data: Data, shape: tuple[int, int]) -> Tensor:
    came = came.toarray() if hasattr(came, "toarray") else came
    centroids = data.kind.tensor(came, "init").to(data.device).contiguous()
    if tuple(centroids.shape) != shape:
        raise ValueError(
            f"init must have shape (n_clusters, n_features) = {shape}, got {tuple(centroids.shape)}"
        )
    return centroids
