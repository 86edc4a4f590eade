"""What is timed of estimators: cases, in groups that are a table each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# The small problems: all of these together, as far as they stay below so many operations a pass.
_SIZES, _WIDTHS, _KS = (2000, 8000, 20_000, 100_000), (8, 64), (8, 64)
_KINDS = (("uniform", "float64"), ("blobs", "float32"))
_MOST_WORK, _ROWS_PER_CLUSTER = 1e9, 15


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        group: table that it belongs to.
        estimator: name of the class.
        method: "fit", "given" for a fit from given centroids, "first" for the first in a process,
            "cold" for that on a machine; or one of a fitted estimator.
        rows: name of the rows: "mnist", "iris", "csr-20000x10000", "blobs-2000x8", ...
        dtype: of the rows.
        k: number of clusters.
        repeats: timed calls to a process.
    """

    group: str
    estimator: str
    method: str
    rows: str
    dtype: str
    k: int
    repeats: int


def cases(groups: Iterable[str]) -> list[Case]:
    """Return what is to be timed of ``groups``."""
    return [case for group in groups for case in GROUPS[group]()]


def of_mnist() -> Iterable[Case]:
    """Fits of MNIST, one to a process, and predictions of 10,000 rows."""
    for k in (10, 64, 256):
        yield Case("mnist", "KMeans", "fit", "mnist", "float32", k, 1)
        yield Case("mnist", "KMeans", "predict", "mnist", "float32", k, 20)


def of_given() -> Iterable[Case]:
    """Fits from the first rows as centroids, where both sides make Lloyd's passes."""
    for k in (10, 64, 256):
        yield Case("given", "KMeans", "given", "mnist", "float32", k, 1)
    for rows, k, repeats in (("2000x8", 8, 20), ("20000x8", 64, 10), ("20000x64", 64, 10)):
        yield Case("given", "KMeans", "given", f"uniform-{rows}", "float32", k, repeats)
        yield Case("given", "KMeans", "given", f"uniform-{rows}", "float64", k, repeats)


def of_narrow() -> Iterable[Case]:
    """Predictions of narrow rows."""
    for rows, k in (("2000x8", 8), ("10000x8", 8), ("10000x8", 64), ("10000x64", 64)):
        yield Case("narrow", "KMeans", "predict", f"blobs-{rows}", "float32", k, 100)


def of_others() -> Iterable[Case]:
    """What else estimators do, on narrow rows."""
    for rows, k in (("2000x8", 8), ("10000x64", 64)):
        for dtype in ("float32", "float64"):
            for method in ("score", "transform"):
                yield Case("others", "KMeans", method, f"uniform-{rows}", dtype, k, 100)
            name = f"uniform-{rows}"
            yield Case("others", "MiniBatchKMeans", "partial_fit", name, dtype, k, 100)
            yield Case("others", "MiniBatchKMeans", "fit", name, dtype, k, 20)
            yield Case("others", "BisectingKMeans", "fit", name, dtype, k, 5)


def of_batches() -> Iterable[Case]:
    """Fits of MNIST that learn from batches."""
    for k in (10, 64, 256):
        yield Case("minibatch", "MiniBatchKMeans", "fit", "mnist", "float32", k, 1)


def of_double() -> Iterable[Case]:
    """MNIST in float64, which is what NumPy makes of pictures."""
    yield Case("float64", "KMeans", "fit", "mnist", "float64", 256, 1)
    yield Case("float64", "MiniBatchKMeans", "fit", "mnist", "float64", 256, 1)
    yield Case("float64", "KMeans", "predict", "mnist", "float64", 256, 20)


def of_sparse() -> Iterable[Case]:
    """Fits of sparse rows at a density of one percent."""
    for dtype in ("float32", "float64"):
        yield Case("sparse", "KMeans", "fit", "csr-20000x10000", dtype, 100, 1)


def of_iris() -> Iterable[Case]:
    """Fits of iris, the smallest problem that everybody knows."""
    for k in (3, 8):
        yield Case("iris", "KMeans", "fit", "iris", "float64", k, 50)


def of_first() -> Iterable[Case]:
    """The first fit on a machine, for which loops are compiled, and in a process."""
    for method in ("cold", "first"):
        yield Case("first", "KMeans", method, "uniform-2000x8", "float64", 8, 1)


def of_small() -> Iterable[Case]:
    """Fits of rows that fit into the cache, or nearly so."""
    for n in _SIZES:
        for d in _WIDTHS:
            for k in _KS:
                if n * d * k > _MOST_WORK or k * _ROWS_PER_CLUSTER > n:
                    continue
                repeats = int(np.clip(2e7 / (n * d * k) ** 0.5 / 1e2, 2, 20))
                for rows, dtype in _KINDS:
                    yield Case("small", "KMeans", "fit", f"{rows}-{n}x{d}", dtype, k, repeats)


GROUPS = {
    "mnist": of_mnist,
    "given": of_given,
    "minibatch": of_batches,
    "float64": of_double,
    "sparse": of_sparse,
    "iris": of_iris,
    "narrow": of_narrow,
    "others": of_others,
    "small": of_small,
    "first": of_first,
}
