"""Whether labels and centroids on a GPU are right: beside float64 products, which take longest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Scores held at once, in float64.
_SCORES = 1 << 26

# Float32 may take a neighbour that is farther by so little, as a share of the mean distance; and
# means of float32 rows are off by so little, as a share of their length.
FARTHER, ASTRAY = 1e-5, 1e-5


def nearest(x: Tensor, centroids: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return labels ``(n,)`` and squared distances ``(n,)`` in float64 products.

    Args:
        x: rows ``(n, d)`` of any dtype.
        centroids: ``(k, d)``.
        given: labels ``(n,)``; the squared distances to those come third.
    """
    wide = centroids.double()
    half = wide.square().sum(1) / 2  # (k,)
    found = []
    block = max(1, _SCORES // max(wide.shape))
    for start in range(0, len(x), block):
        rows = x[start : start + block].double()
        scores = torch.addmm(half, rows, wide.T, alpha=-1.0)  # (rows, k)
        norms = rows.square().sum(1)
        least, labels = scores.min(1)
        parts = [labels, (norms + 2 * least).clamp_(min=0)]
        if given is not None:
            chosen = scores.gather(1, given[start : start + block, None].long())[:, 0]
            parts.append((norms + 2 * chosen).clamp_(min=0))
        found.append(parts)
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def inertia(x: Tensor, centroids: Tensor) -> float:
    """Return the inertia of all rows ``(n, d)``, in float64."""
    return float(nearest(x, centroids)[1].sum())


def check_pass(
    x: Tensor, starts: Tensor, labels: Tensor, centroids: Tensor | None, problems: Sequence[int]
) -> dict[str, float]:
    """Return how one pass from ``starts`` compares with float64, over some of the problems.

    Args:
        x: rows ``(b, n, d)``.
        starts: ``(b, k, d)``.
        labels: ``(b, n)``, found for ``starts``.
        centroids: ``(b, k, d)``, the means that follow from ``labels``; None: not known.
        problems: which to look at.

    Returns:
        ``agreement``: share of the labels that are those of float64; ``farther``: by how much the
        worst label is farther than the best, as a share of the mean squared distance; ``astray``:
        how far centroids are from the means of their rows, as a share of those means' length.
    """
    found: list[dict[str, float]] = []
    for i in problems:
        best, least, chosen = nearest(x[i], starts[i], labels[i])
        one = {
            "agreement": float((best == labels[i]).double().mean()),
            "farther": float(((chosen - least).max() / least.mean()).item()),
        }
        if centroids is not None:
            one["astray"] = astray(x[i], labels[i], centroids[i])
        found.append(one)
    worst: dict[str, Any] = {"agreement": min, "farther": max, "astray": max}
    return {name: worst[name](one[name] for one in found) for name in found[0]}


def astray(x: Tensor, labels: Tensor, centroids: Tensor) -> float:
    """Return how far ``centroids`` are from the means of the rows labelled so; empty ones aside."""
    k, d = centroids.shape
    sums = torch.zeros(k, d, dtype=torch.float64, device=x.device)
    block = max(1, _SCORES // d)
    for start in range(0, len(x), block):
        rows = x[start : start + block].double()
        sums.index_add_(0, labels[start : start + block].long(), rows)
    counts = torch.zeros(k, dtype=torch.float64, device=x.device)
    counts.index_add_(0, labels.long(), torch.ones(len(x), dtype=torch.float64, device=x.device))
    lives = counts > 0
    means = sums[lives] / counts[lives, None]
    return float((centroids[lives].double() - means).norm() / means.norm())


def failures(check: dict[str, float], certain: bool) -> list[str]:
    """Return in words what float32 does not excuse; NaN never passes.

    Args:
        check: of ``check_pass``.
        certain: whether labels have to be those of float32, or may be those of fewer bits.
    """
    words = []
    if certain and not check["farther"] <= FARTHER:
        words.append(f"a label is farther by {check['farther']:.1e} of the mean squared distance")
    if "astray" in check and not check["astray"] <= ASTRAY:
        words.append(f"centroids are {check['astray']:.1e} off the means of their rows")
    return words
