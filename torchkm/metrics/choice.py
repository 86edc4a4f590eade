"""How many clusters: what fits with several k say of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from torchkm.functional.arrays import as_tensor, as_values
from torchkm.functional.checks import check_integer, check_number

# Inertia below this share of the largest is only rounding.
_NOTHING = 1e-14


def bayesian_information(inertia: float, counts: Any, d: int) -> float:
    """Return the Bayesian information criterion of a fit, in nats; lower is better.

    The clusters are taken for Gaussians of one spherical variance and of shares ``n_j / n``::

        variance = inertia / (d (n - k))
        log L    = sum_j n_j ln(n_j / n) - n d / 2 ln(2 pi variance) - d (n - k) / 2
        criterion = (k d + k) ln n - 2 log L

    with ``k d`` numbers in the centroids, ``k - 1`` shares and one variance to be learnt.

    Args:
        inertia: sum of squared distances of the rows to their centroids.
        counts: rows of each cluster, ``(k,)``; or their summed weights, where a row of weight 2
            is two rows. Empty clusters count as learnt.
        d: numbers of a row.

    Returns:
        A float: minus infinity where the inertia is 0, NaN where there are no more rows than
        clusters.

    Raises:
        TypeError: counts that are not numbers; a ``d`` that is no integer.
        ValueError: an inertia that is negative or not finite, counts that are not ``(k,)``.

    Cost:
        ``k`` operations.

    Source:
        Pelleg and Moore 2000, X-means (https://www.cs.cmu.edu/~dpelleg/download/xmeans.pdf), with
        the variance of one number where theirs is that of a row.

    Example:
        >>> two = bayesian_information(1.0, [2, 2], 1)  # of 0, 1, 9, 10 about 0.5 and 9.5
        >>> one = bayesian_information(82.0, [4], 1)
        >>> two < one
        True
    """
    inertia = check_number("inertia", inertia, 0)
    d = check_integer("d", d, 1)
    each = as_values(as_tensor(counts, "counts").double(), "counts")  # (k,)
    n, k = float(each.sum()), len(each)
    if n <= k:
        return math.nan
    if inertia == 0:
        return -math.inf
    variance = inertia / (d * (n - k))
    shares = float(torch.xlogy(each, each / n).sum())
    log_likelihood = shares - n * d / 2 * math.log(2 * math.pi * variance) - d * (n - k) / 2
    return (k * d + k) * math.log(n) - 2 * log_likelihood


def elbow(ks: Sequence[int], inertias: Sequence[float]) -> int | None:
    """Return the k where the falling logarithm of the inertia bends most.

    Of the curve from the first point to the last, both axes scaled to [0, 1], it is the point
    farthest below the straight line between them. In logarithms, because a cluster more that takes
    away half of what is left says as much when little is left: on the inertia itself the first
    few k outweigh what comes later.

    Args:
        ks: numbers of clusters, rising.
        inertias: of a fit with each.

    Returns:
        One of ``ks``; None where there is no point below the line, or fewer than three points.

    Raises:
        ValueError: ``ks`` that do not rise; another number of inertias, or inertias that are
            negative or not finite.

    Cost:
        A few operations for each k.

    Source:
        Satopaa et al. 2011, Kneedle (doi:10.1109/ICDCSW.2011.20).

    Example:
        >>> elbow([1, 2, 3, 4, 5], [100.0, 40.0, 4.0, 3.5, 3.0])
        3
    """
    if any(after <= before for before, after in pairwise(ks)):
        raise ValueError(f"ks must rise, got {list(ks)!r}")
    if len(ks) != len(inertias):
        raise ValueError(f"inertias must be as many as ks, {len(ks)}, got {len(inertias)}")
    values = [check_number("inertias", value, 0) for value in inertias]
    if len(ks) < 3 or max(values) == 0:
        return None
    logs = (
        torch.tensor(values, dtype=torch.float64, device="cpu")
        .clamp(min=_NOTHING * max(values))
        .log()
    )
    below = _below_chord(torch.tensor(ks, dtype=torch.float64, device="cpu"), logs)  # (m,)
    best = int(below.argmax())
    return ks[best] if below[best] > 0 else None


def _below_chord(across: Tensor, down: Tensor) -> Tensor:
    """Return how far points lie below the line from the first to the last, in shares, ``(m,)``."""
    across = (across - across[0]) / (across[-1] - across[0])
    fall = down[0] - down[-1]
    return (down[0] - down) / fall - across if fall > 0 else torch.zeros_like(down)
