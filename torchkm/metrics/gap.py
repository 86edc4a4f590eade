"""The gap statistic: how much better rows cluster than rows without clusters would."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchkm.functional.arrays import as_rows
from torchkm.functional.box import Box, box_around, principal_axes
from torchkm.functional.checks import as_generator, check_integer, check_known, check_number

REFERENCES = ("features", "principal")

InertiaOf = Callable[[Tensor], Any]


class GapStatistic(NamedTuple):
    """The gap of one number of clusters, all in natural logarithms.

    Attributes:
        gap: ``reference_log_inertia - log_inertia``; larger is better. Infinite where the rows
            have inertia 0.
        standard_error: of ``gap``, from the spread of the references: their standard deviation
            times ``sqrt(1 + 1 / n_references)``.
        log_inertia: of the rows; minus infinity where their inertia is 0.
        reference_log_inertia: mean over the references.
    """

    gap: float
    standard_error: float
    log_inertia: float
    reference_log_inertia: float


def gap_statistic(
    x: Any,
    inertia_of: InertiaOf,
    *,
    n_references: int = 10,
    reference: str = "principal",
    generator: torch.Generator | None = None,
) -> GapStatistic:
    """Compare the inertia of a clustering with that of rows drawn evenly from a box.

    Args:
        x: rows ``(n, d)``: float32, float64, bfloat16, float16 or uint8.
        inertia_of: clusters the rows ``(n, d)`` that it is given and returns the inertia, such as
            ``lambda rows: torchkm.kmeans(rows, k=4).inertia``. It is called with ``x`` once, then
            with each set of reference rows, float32 or float64 on the device of ``x``.
        n_references: how many sets of reference rows, each as many as ``x``.
        reference: the box around ``x``: along its ``"principal"`` axes, or along its
            ``"features"``.
        generator: draws the reference rows; None is a fresh one. One seeded alike for each k
            gives each the same references.

    Returns:
        A ``GapStatistic``.

    Raises:
        TypeError: a dtype that rows may not have, an ``inertia_of`` that is no function or
            returns no number.
        ValueError: wrong shapes, rows that are not finite or all equal, an unknown reference, an
            inertia that is negative or not finite; reference rows of inertia 0, whose logarithm
            leaves no gap: there are as many clusters as rows.

    Cost:
        ``n_references + 1`` clusterings. For the principal axes ``4 n d^2 + 10 d^3`` operations in
        float64, and ``2 n d^2`` for each reference.

    Source:
        Tibshirani, Walther and Hastie 2001 (doi:10.1111/1467-9868.00293).

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
        >>> in_one = lambda rows: (rows - rows.mean(0)).square().sum()
        >>> gap_statistic(x, in_one, generator=torch.Generator().manual_seed(0)).gap < 0
        True
    """
    x = as_rows(x)
    n_references = check_integer("n_references", n_references, 1)
    check_known("reference", reference, REFERENCES)
    generator = as_generator(generator)
    if not callable(inertia_of):
        raise TypeError(f"inertia_of must be a function of rows, got {inertia_of!r}")
    box = _box(x, reference)
    inertia = _checked(inertia_of(x))
    log_inertia = math.log(inertia) if inertia else -math.inf
    logs = torch.tensor(
        [_log_of_reference(inertia_of, box.draw(len(x), generator)) for _ in range(n_references)],
        dtype=torch.float64,
        device="cpu",
    )
    mean = logs.mean().item()
    error = logs.std(correction=0).item() * math.sqrt(1 + 1 / n_references)
    return GapStatistic(mean - log_inertia, error, log_inertia, mean)


def choose_k(gaps: Mapping[int, GapStatistic]) -> int | None:
    """Return the smallest k whose gap the next k does not beat by more than its standard error.

    ``gap(k) >= gap(k') - standard_error(k')``, with ``k'`` the next larger k that was tried.

    Args:
        gaps: the gap of each k that was tried, 2 or more.

    Returns:
        That k, or None where every next gap is larger: then try more clusters.

    Raises:
        ValueError: fewer than 2 gaps.

    Cost:
        None to speak of.

    Source:
        Tibshirani, Walther and Hastie 2001 (doi:10.1111/1467-9868.00293).

    Example:
        >>> gaps = {1: 0.2, 2: 0.9, 3: 1.0}
        >>> choose_k({k: GapStatistic(gap, 0.2, 0.0, gap) for k, gap in gaps.items()})
        2
    """
    if len(gaps) < 2:
        raise ValueError(f"gaps must hold those of at least 2 numbers of clusters, got {len(gaps)}")
    for k, following in pairwise(sorted(gaps)):
        if gaps[k].gap >= gaps[following].gap - gaps[following].standard_error:
            return k
    return None


def _box(x: Tensor, reference: str) -> Box:
    box = box_around(x)
    if torch.equal(box.low, box.high):
        raise ValueError(
            f"x must have rows that differ, got {len(x)} equal ones: their box is empty"
        )
    return box if reference == "features" else box_around(x, principal_axes(x))


def _log_of_reference(inertia_of: InertiaOf, rows: Tensor) -> float:
    inertia = _checked(inertia_of(rows))
    if inertia == 0:
        raise ValueError(
            f"inertia_of({len(rows)} reference rows) is 0: they have as many clusters as rows, and "
            "the gap is a difference of logarithms"
        )
    return math.log(inertia)


def _checked(inertia: Any) -> float:
    value = inertia.item() if isinstance(inertia, Tensor) and inertia.numel() == 1 else inertia
    return check_number("inertia_of(rows)", value, 0)
