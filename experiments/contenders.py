"""The k-means that experiments/benchmark.py times: one fit of one of them, in a process of its own.

    python experiments/contenders.py torchkm rows.npy 256 0 2

prints a line of JSON. Every contender first fits a few rows, untimed, so that loading libraries and
starting threads counts for none. The inertia is taken here, for all alike, in float64.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from common.machine import forget_the_peak, peak

Fit = Callable[[Any, int, int], Any]

_WARM_ROWS, _WARM_ROWS_PER_CLUSTER, _BLOCK = 2000, 40, 4096

# After which passes torchkm is stopped to see how far it has come: each of the first, where the
# inertia falls fast, and then every so many more in proportion.
_EACH_OF_FIRST, _GROWTH = 12, 1.25

# Seconds until it has the centroids, and shares of the whole fit, beyond which it is not stopped.
_LONG, _SHARE = 4.0, 0.1


class Contender(NamedTuple):
    """One to be timed.

    Attributes:
        needs: module that has to be there.
        fit: takes rows ``(n, d)``, k and a seed; returns centroids ``(k, d)``.
        labels: whether a fit also labels every row, as torchkm's does.
        does: what it is asked to do.
    """

    needs: str
    fit: Fit
    labels: bool
    does: str


def minibatch(x: Any, k: int, seed: int) -> Any:
    """scikit-learn's MiniBatchKMeans, defaults."""
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(k, random_state=seed).fit(x).cluster_centers_


def lloyd(x: Any, k: int, seed: int) -> Any:
    """scikit-learn's KMeans, defaults."""
    from sklearn.cluster import KMeans

    return KMeans(k, random_state=seed).fit(x).cluster_centers_


def lloyd10(x: Any, k: int, seed: int) -> Any:
    """scikit-learn's KMeans, best of ten."""
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=10, random_state=seed).fit(x).cluster_centers_


def intelex(x: Any, k: int, seed: int) -> Any:
    """Intel's extension, defaults."""
    from sklearnex.cluster import KMeans

    return KMeans(k, random_state=seed).fit(x).cluster_centers_


def faiss(x: Any, k: int, seed: int) -> Any:
    """25 passes over all rows: by default faiss would take 256 rows for each centroid."""
    import faiss as library

    model = library.Kmeans(x.shape[1], k, niter=25, seed=seed + 1, max_points_per_centroid=len(x))
    model.train(x)
    return model.centroids


def superkmeans(x: Any, k: int, seed: int) -> Any:
    """SuperKMeans, defaults but for the seed."""
    from superkmeans import SuperKMeans

    return np.array(SuperKMeans(k, x.shape[1], seed=seed).train(x))


def fastkmeans(x: Any, k: int, seed: int) -> Any:
    """fastkmeans, defaults but for the seed."""
    from fastkmeans import FastKMeans

    model = FastKMeans(x.shape[1], k, seed=seed, gpu=False)
    model.train(x)
    return model.centroids


def torchkm(x: Any, k: int, seed: int, **settings: Any) -> Any:
    """``torchkm.kmeans``, defaults but for the seed."""
    import torch

    import torchkm as library

    generator = torch.Generator().manual_seed(seed)
    return library.kmeans(x, k, generator=generator, **settings).centroids


def refined(x: Any, k: int, seed: int) -> Any:
    """``torchkm.kmeans(refine=20)``."""
    return torchkm(x, k, seed, refine=20)


CONTENDERS = {
    "torchkm": Contender("torchkm", torchkm, True, "defaults"),
    "torchkm refine=20": Contender("torchkm", refined, True, "defaults and 20 rounds of swaps"),
    "MiniBatchKMeans": Contender("sklearn", minibatch, True, "defaults"),
    "KMeans": Contender("sklearn", lloyd, True, "defaults, converged"),
    "KMeans n_init=10": Contender("sklearn", lloyd10, True, "best of ten"),
    "scikit-learn-intelex": Contender("sklearnex", intelex, True, "defaults, converged"),
    "faiss": Contender("faiss", faiss, False, "25 passes over all rows"),
    "SuperKMeans": Contender("superkmeans", superkmeans, False, "defaults"),
    "fastkmeans": Contender("fastkmeans", fastkmeans, False, "defaults"),
}


def inertia(x: Any, centroids: Any) -> float:
    """Return the inertia of all rows, in float64."""
    centroids = np.asarray(centroids, dtype=np.float64)
    norms = np.einsum("ij,ij->i", centroids, centroids)
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK].astype(np.float64)
        nearest = (norms - 2 * rows @ centroids.T).min(1)
        total += float((np.einsum("ij,ij->i", rows, rows) + nearest).sum())
    return total


def _way(x: Any, k: int, seed: int, whole: float) -> list[dict[str, float]]:
    """Return how far torchkm has come after some of its passes, in a fit of ``whole`` seconds.

    ``centroids`` is when it has the centroids, ``seconds`` when a call that is stopped there has
    returned with labels for every row. Not followed to the end where that would take long.
    """
    stopped = []
    for stop in _stops():
        times, seconds, centroids = _clock(x, k, seed, stop)
        if len(times) < stop or times[-1] > max(_LONG, _SHARE * whole):
            break
        stopped.append((times[-1], seconds, centroids))
    # The inertia only now: NumPy's threads spin on for a while after its products, and would slow
    # down what is timed next.
    return [
        {"centroids": first, "seconds": seconds, "inertia": inertia(x, centroids)}
        for first, seconds, centroids in stopped
    ]


def _stops() -> Iterator[int]:
    """Return the passes to stop after."""
    stop = 1
    while True:
        yield stop
        stop = max(stop + 1, int(stop * _GROWTH)) if stop >= _EACH_OF_FIRST else stop + 1


def _clock(x: Any, k: int, seed: int, stop: int) -> tuple[list[float], float, Any]:
    times: list[float] = []
    start = time.perf_counter()

    def callback(record: Any) -> bool:
        times.append(time.perf_counter() - start)
        return record.n_iter == stop

    centroids = torchkm(x, k, seed, callback=callback)
    return times, time.perf_counter() - start, centroids


def main() -> None:
    """Fit once, timed, and print what came of it."""
    if len(sys.argv) != 6 or sys.argv[1] not in CONTENDERS:
        raise SystemExit(f"usage: contenders.py {{{','.join(CONTENDERS)}}} ROWS.npy K SEED THREADS")
    name, path, k, seed, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    import torch

    torch.set_num_threads(threads)
    x, fit = np.load(path), CONTENDERS[name].fit
    fit(x[: max(_WARM_ROWS, _WARM_ROWS_PER_CLUSTER * k)], k, seed)
    forget_the_peak()
    before = peak()
    start = time.perf_counter()
    centroids = fit(x, k, seed)
    seconds = time.perf_counter() - start
    extra = peak() - before
    found = {
        "contender": name,
        "k": k,
        "seed": seed,
        "seconds": seconds,
        "inertia": inertia(x, centroids),
        "extra_mb": extra / 1024,
        "way": _way(x, k, seed, seconds) if name == "torchkm" else [],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
