"""Fits of sparse rows against those of the same rows made dense, and against scikit-learn."""

import resource

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.cluster import KMeans

import torchkm
from torchkm.functional import assign
from torchkm.solvers import RULES, EmptyClusterWarning


@pytest.fixture(scope="module")
def matrix():
    """600 rows of 150 numbers around 12 sparse centres, float64."""
    rng = np.random.default_rng(0)
    centres = scipy.sparse.random(12, 150, 0.1, format="csr", random_state=0)
    noise = scipy.sparse.random(600, 150, 0.05, format="csr", random_state=1)
    return (centres[rng.integers(12, size=600)] + 0.8 * noise).tocsr()


def make(value=0):
    return torch.Generator().manual_seed(value)


def same(sparse, dense, rtol=1e-9):
    assert torch.equal(sparse.labels, dense.labels)
    assert sparse.n_iter == dense.n_iter
    assert sparse.status is dense.status
    assert sparse.inertia == pytest.approx(dense.inertia, rel=rtol)
    torch.testing.assert_close(sparse.centroids, dense.centroids, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_lloyd_is_that_of_scikit_learn(matrix, tol):
    init = matrix[:15].toarray()
    want = KMeans(15, init=init, n_init=1, tol=tol).fit(matrix)
    found = torchkm.kmeans(matrix, 15, init=init, solver="lloyd", tol=tol)
    assert np.array_equal(found.labels.numpy(), want.labels_)
    assert found.n_iter == want.n_iter_
    assert found.inertia == pytest.approx(want.inertia_, rel=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", [*RULES, "auto"])
def test_each_solver_is_that_of_dense_rows(matrix, solver, weighted, metric, generator):
    weight = torch.rand(600, generator=generator) if weighted else None
    settings = {"solver": solver, "batch_size": 200, "max_iter": 6, "metric": metric}
    dense = torch.from_numpy(matrix.toarray())
    same(
        *(
            torchkm.kmeans(x, 8, init=dense[:8], sample_weight=weight, generator=make(), **settings)
            for x in (matrix, dense)
        )
    )


def test_float32_stays_float32(matrix):
    found = torchkm.kmeans(matrix.astype(np.float32), 8, generator=make())
    assert found.centroids.dtype == torch.float32
    assert found.precision == "float32"
    exact = assign(matrix, found.centroids.double())
    assert found.inertia == pytest.approx(float(exact.sq_distances.sum()), rel=1e-5)


@pytest.mark.parametrize("n_init", [1, 3])
def test_auto_ends_where_lloyd_rests(matrix, n_init):
    found = torchkm.kmeans(matrix, 12, n_init=n_init, tol=0, generator=make())
    again = torchkm.kmeans(matrix, 12, init=found.centroids, solver="lloyd", tol=0)
    assert found.status.converged
    assert again.n_iter <= 2  # where rows left, sums of zeros are only nearly 0
    assert torch.equal(again.labels, found.labels)


@pytest.mark.parametrize("solver", ["auto", "lloyd", "minibatch"])
def test_lost_centroids_come_back(matrix, solver):
    init = matrix[:6].toarray()
    init[[1, 4]] += 1e3
    found = torchkm.kmeans(matrix, 6, init=init, solver=solver, batch_size=500, generator=make())
    assert found.history[0].n_reseeded == 2
    assert torch.bincount(found.labels, minlength=6).min() > 0


def test_equal_rows_leave_clusters_empty():
    x = scipy.sparse.csr_array(np.array([[0.0, 0.0], [0.0, 0.3]]).repeat(40, axis=0))
    with pytest.warns(EmptyClusterWarning, match="1 of 3 clusters"):
        found = torchkm.kmeans(x, 3, generator=make())
    assert found.inertia == 0


@pytest.mark.parametrize("solver", ["auto", "lloyd", "minibatch"])
def test_rows_without_a_number(solver):
    x = scipy.sparse.csr_array((9, 200))
    found = torchkm.kmeans(x, 1, solver=solver, generator=make())
    assert found.inertia == 0
    assert found.centroids.abs().max() == 0


@pytest.mark.parametrize("solver", ["auto", "lloyd"])
def test_no_more_than_a_block_is_made_dense(solver, generator):
    """80 GB if they were: 2,000 rows of 5,000,000 numbers, ten of each not zero."""
    n, d = 2000, 5_000_000
    cols = torch.randint(d, (n * 10,), generator=generator)
    cols[::10] = torch.arange(n) % 3  # what they share: one of three columns
    data = torch.rand(n * 10, generator=generator) / 10
    data[::10] = 5
    x = scipy.sparse.csr_array((data.numpy(), cols.numpy(), range(0, n * 10 + 1, 10)), shape=(n, d))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = torchkm.kmeans(x, 3, solver=solver, max_iter=3, generator=make(1))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [len(set(found.labels[i::3].tolist())) for i in range(3)] == [1, 1, 1]
    assert (after - before) < 4 * 2**20  # in KiB


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refine": 2}, "refine is for dense rows, got refine=2 with sparse ones"),
        ({"precision": "bfloat16"}, "precision 'bfloat16' is for dense rows"),
        ({"precision": "float32"}, "precision 'float32' is for dense rows"),
    ],
)
def test_what_is_for_dense_rows_alone(matrix, settings, message):
    with pytest.raises(ValueError, match=message):
        torchkm.kmeans(matrix.astype(np.float32), 3, **settings)
