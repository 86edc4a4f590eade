"""Lloyd's passes over narrow rows: those of the plain loop and of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import torchkm
from torchkm import kernels


def multiply_alike():
    """Whether torch and NumPy, and so scikit-learn, round products alike on this CPU."""
    random = np.random.RandomState(0)
    x, c = random.rand(300, 3), random.rand(5, 3)
    return np.array_equal(x @ c.T, (torch.from_numpy(x) @ torch.from_numpy(c).T).numpy())


@pytest.mark.skipif(
    not multiply_alike(), reason="torch and NumPy round products in ways of their own"
)
@pytest.mark.parametrize("seed", range(12))
def test_ties_among_whole_numbers_fall_as_in_scikit_learn(seed):
    random = np.random.RandomState(seed)
    x = random.randint(0, 4, (300, 3)).astype(float)
    different = np.unique(x, axis=0)
    init = different[random.permutation(len(different))[:5]]
    theirs = KMeans(5, init=init, n_init=1, tol=0, algorithm="lloyd").fit(x)
    ours = torchkm.kmeans(x, 5, init=init, solver="lloyd", tol=0)
    assert np.array_equal(ours.labels.numpy(), theirs.labels_)
    assert ours.n_iter == theirs.n_iter_


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [5, 90])
def test_the_plain_loop_makes_the_same_passes(k, metric, generator, monkeypatch):
    x = torch.randn(1500, 6, generator=generator, dtype=torch.float64)
    weight = torch.rand(1500, generator=generator).round(decimals=1)
    settings = {"init": x[:k] + 0.01, "sample_weight": weight, "metric": metric, "tol": 0}
    one = torchkm.kmeans(x, k, solver="lloyd", **settings)
    monkeypatch.setattr(kernels, "is_compact", lambda x: False)
    two = torchkm.kmeans(x, k, solver="lloyd", **settings)
    assert torch.equal(one.labels, two.labels)
    torch.testing.assert_close(one.centroids, two.centroids)
    for mine, other in zip(one.history, two.history, strict=True):
        assert mine.n_changed == other.n_changed
        assert mine.inertia == pytest.approx(other.inertia, rel=1e-9)
        assert mine.shift == pytest.approx(other.shift, rel=1e-6, abs=1e-20)
