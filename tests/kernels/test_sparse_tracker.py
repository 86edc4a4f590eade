"""Sparse rows that are followed, against a whole assignment in each pass."""

import pytest
import scipy.sparse
import torch

from torchkm import kernels
from torchkm.functional.csr import as_csr
from torchkm.kernels import SparseTracker


@pytest.mark.parametrize("weighted", [False, True])
def test_follows_as_if_it_began_anew(weighted, generator):
    x = as_csr(scipy.sparse.random(300, 40, 0.2, format="csr", random_state=0))
    weight = torch.rand(300, generator=generator) if weighted else None
    centroids = torch.rand(6, 40, generator=generator, dtype=torch.float64) / 2
    tracker = SparseTracker(x, weight, 6)
    old, changes = torch.full((300,), -1), []
    for _ in range(8):
        followed = tracker.follow(centroids)
        labels, sq_distances, counts, sums = kernels.nearest_and_sums(
            x, centroids, weight, False, torch.zeros(40)
        )
        assert torch.equal(tracker.labels, labels)
        assert followed.n_changed == (labels != old).sum()
        torch.testing.assert_close((tracker.counts, tracker.sums), (counts, sums))
        weighed = sq_distances if weight is None else sq_distances * weight
        assert tracker.inertia(centroids) == pytest.approx(weighed.sum().item())
        old = labels
        changes.append(followed.n_changed)
        step = torch.randn(6, 40, generator=generator, dtype=torch.float64)
        centroids = centroids + 0.01 * step
    assert min(changes) < 90 < max(changes)  # of 300: added up by changes, and anew


def test_an_empty_cluster_is_left_with_nothing(generator):
    x = as_csr(scipy.sparse.random(30, 8, 0.5, format="csr", random_state=0))
    tracker = SparseTracker(x, None, 2)
    near = torch.zeros(8, dtype=torch.float64)
    assert tracker.follow(torch.stack([near, near + 9])).n_empty == 1
    assert tracker.counts.tolist() == [30, 0]
    assert tracker.sums[1].tolist() == [0] * 8
    dense = x.dense()
    assert tracker.variance == pytest.approx(float(dense.var(0, correction=0).mean()))
