"""Lloyd's passes with followed labels: those of the plain loop and of scikit-learn."""

import numpy as np
import pytest
import torch
from proving import leave_loops
from sklearn.cluster import KMeans

import torchkm
from torchkm import kernels
from torchkm.functional.problem import as_problem
from torchkm.functional.seeding import seeds
from torchkm.kernels.layout import RUN
from torchkm.solvers import Status
from torchkm.solvers.lloyd import lloyd
from torchkm.solvers.loop import Stopping, run
from torchkm.solvers.rules import Lloyd


def multiply_alike():
    """Whether torch and NumPy, and so scikit-learn, round products alike on this CPU."""
    random = np.random.RandomState(0)
    x, c = random.rand(2, RUN, 3), random.rand(5, 3)
    scores = torch.bmm(torch.from_numpy(c).expand(2, 5, 3), torch.from_numpy(x).mT)
    return np.array_equal(x @ c.T, scores.mT.numpy())


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
@pytest.mark.parametrize("narrow", [True, False])
def test_followed_labels_make_the_passes_of_the_plain_loop(
    narrow, k, metric, generator, monkeypatch
):
    x = torch.randn(1500, 6, generator=generator, dtype=torch.float64)
    weight = torch.rand(1500, generator=generator).round(decimals=1)
    problem = as_problem(x, weight, metric)
    start = seeds(problem, k, x[:k] + 0.01, generator)
    two = run(problem, start, Lloyd(), 1, Stopping(300, 0.0, None), generator)
    monkeypatch.setattr(kernels.dispatch, "is_compact", lambda *_: narrow)
    one = lloyd(problem, start, Stopping(300, 0.0, None))
    assert one.status is two.status
    assert torch.equal(one.labels, two.labels)
    assert one.inertia == pytest.approx(two.inertia, rel=1e-9)
    torch.testing.assert_close(one.centroids, two.centroids)
    for mine, other in zip(one.history, two.history, strict=True):
        assert mine.n_changed == other.n_changed
        assert mine.inertia == pytest.approx(other.inertia, rel=1e-9)
        assert mine.shift == pytest.approx(other.shift, rel=1e-6, abs=1e-20)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("stop", [Stopping(3, 0.0, None), Stopping(300, 0.5, None)])
def test_labels_belong_to_the_centroids_that_a_limit_leaves(narrow, stop, generator, monkeypatch):
    monkeypatch.setattr(kernels.dispatch, "is_compact", lambda *_: narrow)
    x = torch.randn(3000, 5, generator=generator)
    problem = as_problem(x, None, "euclidean")
    fit = lloyd(problem, x[:20].clone(), stop)
    assert fit.status is not Status.LABELS_UNCHANGED
    apart = torch.cdist(x.double(), fit.centroids.double()).square()
    best, labels = apart.min(1)
    assert torch.equal(fit.labels, labels)
    assert fit.inertia == pytest.approx(best.sum().item(), rel=1e-6)


def test_narrow_float32_rows_are_computed_in_float32(generator):
    x = torch.randn(3000, 5, generator=generator)
    seen = []
    bmm = torch.bmm

    def spy(left, right, **out):
        seen.append(left.dtype)
        return bmm(left, right, **out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "bmm", spy)
        leave_loops(patch)
        torchkm.kmeans(x, 4, init=x[:4], solver="lloyd")
    assert set(seen) == {torch.float32}
