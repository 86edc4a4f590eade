"""Rows kept in runs: what is added up of them is that of a plain sum, on one thread and on several.

Numbers are whole, so that sums are exact in whatever order.
"""

from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from torchkm.kernels.compiled import kept
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.jit import run


def rows_in_runs(n, d, weighted):
    generator = np.random.default_rng(0)
    rows = generator.integers(-50, 50, (n, d)).astype(np.float32)
    columns = np.zeros((-(-n // RUN), d, RUN), np.float32)
    weights = generator.integers(0, 3, n).astype(float) if weighted else np.empty(0)
    kept.keep(rows, np.zeros(d, np.float32), 0, weights, columns)
    return rows, columns, weights, generator


def totals_of(rows, weights, labels, k):
    weights = weights if len(weights) else np.ones(len(rows))
    member = (labels[:, None] == np.arange(k)) * weights[:, None]  # (n, k)
    members = ((labels[:, None] == np.arange(k)) & (weights[:, None] > 0)).sum(0)
    return np.column_stack([member.T @ rows, member.sum(0), members])


@pytest.mark.parametrize("n_threads", [None, 2, 3])
@pytest.mark.parametrize("k", [2, 3, 4, 30])
@pytest.mark.parametrize(("n", "d"), [(5, 3), (700, 9), (3001, 64), (60_000, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.9])
def test_totals_are_brought_up_to_labels(share, weighted, n, d, k, n_threads):
    rows, columns, weights, generator = rows_in_runs(n, d, weighted)
    torch.set_num_threads(n_threads or 1)
    before, totals = generator.integers(0, k, n), np.full((k, d + 2), 7.0)
    now = np.where(generator.random(n) < share, generator.integers(0, k, n), before)
    add_up = partial(kept.add_up, columns, weights)
    threads = partial(run, add_up, add_up)
    assert threads(before, before, True, totals, n_threads) == 0
    assert (totals == totals_of(rows, weights, before, k)).all()
    assert threads(before, now, False, totals, n_threads) == (before != now).sum()
    assert (totals == totals_of(rows, weights, now, k)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_on_threads_are_those_on_one(weighted):
    torch.set_num_threads(2)
    n, k = 5000, 6
    rows, columns, weights, generator = rows_in_runs(n, 4, weighted)
    centroids = generator.integers(-50, 50, (k, 4)).astype(np.float32)
    aims = np.column_stack([centroids, -(centroids**2).sum(1) / 2])
    apart = ((rows[:, None] - centroids) ** 2).sum(2)  # (n, k)
    labels, (first, second) = apart.argmin(1), np.sort(apart, 1).T[:2]
    want = np.bincount(labels, (second - first) * (weights if weighted else 1), k)
    for losses in (kept.losses, partial(run, kept.losses, kept.losses_on_threads)):
        out = np.zeros(k)
        losses(columns, aims, weights, labels, out)
        assert (out == want).all()
