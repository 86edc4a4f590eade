"""What fits with several k are worth, and a table that says so."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchkm.cluster.kinds import Data
from torchkm.functional.sampling import draw_without_replacement
from torchkm.kernels import take_rows
from torchkm.metrics import bayesian_information, silhouette_of_each
from torchkm.solvers import KMeansResult

Values = np.ndarray[Any, Any]


class Column(NamedTuple):
    """A column of a ``table``.

    Attributes:
        values: one for each k.
        best: the k that gets an asterisk, or None.
        form: how a number is written, as in a format string.
    """

    values: Values
    best: int | None
    form: str


def silhouettes(
    data: Data,
    results: list[KMeansResult],
    metric: str,
    sample_size: int | None,
    generator: torch.Generator,
) -> Values:
    """Return the mean silhouette of each of ``results``, NaN where there is none.

    Of ``sample_size`` rows among themselves, the same for all; None takes all rows.
    """
    n, rows, labels = data.rows.shape[0], data.rows, [result.labels for result in results]
    if sample_size is not None and sample_size < n:
        index = draw_without_replacement(n, sample_size, None, generator, data.device)
        labels = [each[index] for each in labels]
        rows = take_rows(rows, index)
    out = np.full(len(results), np.nan)
    able = [i for i, each in enumerate(labels) if 2 <= _n_held(each) < len(each)]
    if able:
        means = silhouette_of_each(rows, [labels[i] for i in able], metric=metric)
        out[able] = means.cpu().numpy()
    return out


def _n_held(labels: Tensor) -> int:
    """Return how many clusters hold rows."""
    return int((torch.bincount(labels) > 0).sum())


def bic(data: Data, result: KMeansResult) -> float:
    """Return the Bayesian information criterion of a fit; a row counts by its weight."""
    k, d = result.centroids.shape
    counts = torch.bincount(result.labels, data.weight, minlength=k)
    return bayesian_information(result.inertia, counts, d)


def first_best(ks: list[int], losses: Values) -> int | None:
    """Return the k of the least loss that is a number, the first among equals; None without."""
    return None if np.isnan(losses).all() else ks[int(np.nanargmin(losses))]


def table(ks: list[int], columns: dict[str, Column]) -> str:
    """Return a line for each k under the names of ``columns``, aligned to be printed."""
    lines = [["k", *columns]]
    for i, k in enumerate(ks):
        cells = (f"{each.values[i]:{each.form}}" for each in columns.values())
        lines.append([str(k), *cells])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    stars = [None, *(each.best for each in columns.values())]
    return "\n".join(
        "".join(
            f"  {cell:>{width}}{'*' if star is not None and star == k else ' '}"
            for cell, width, star in zip(cells, widths, stars, strict=True)
        ).rstrip()
        for k, cells in zip([None, *ks], lines, strict=True)
    )
