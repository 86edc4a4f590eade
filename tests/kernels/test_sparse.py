"""The kernels for sparse rows against the reference on dense ones, across blocks."""

import pytest
import scipy.sparse
import torch

from torchkm import kernels
from torchkm.functional.csr import as_csr
from torchkm.kernels import layout, reference, sparse


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 rows, so that small data has many."""
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 16)


def pair(n, d, dtype, density=0.3):
    matrix = scipy.sparse.random(n, d, density, format="csr", random_state=1)
    dense = torch.from_numpy(matrix.toarray()).to(dtype)
    return as_csr(scipy.sparse.csr_matrix(dense.numpy())), dense


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (16, 3, 2), (131, 40, 5), (47, 33, 40)])
def test_matches_the_reference(n, d, k, dtype, weighted, unit_rows, generator):
    x, dense = pair(n, d, dtype)
    centroids = torch.rand(k, d, generator=generator, dtype=dtype)
    weight = torch.rand(n, generator=generator) if weighted else None
    origin = kernels.origin_of(x, unit_rows)

    labels, sq_distances, counts, sums = kernels.nearest_and_sums(
        x, centroids, weight, unit_rows, origin
    )

    exact = reference.distances(dense.double(), centroids.double(), unit_rows)
    chosen = exact.gather(1, labels.unsqueeze(1)).squeeze(1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(chosen, exact.min(dim=1).values, **close)
    torch.testing.assert_close(sq_distances.double(), chosen, **close)
    assert sq_distances.dtype == dtype
    want_counts, want_sums = reference.segment_sums(dense, labels, k, weight, unit_rows)
    torch.testing.assert_close(counts, want_counts)
    torch.testing.assert_close(sums, want_sums, rtol=1e-6, atol=1e-6)
    assert torch.equal(kernels.nearest(x, centroids, unit_rows, origin)[0], labels)
    torch.testing.assert_close(
        kernels.distances(x, centroids, unit_rows).double(), exact, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_several_starts_are_as_many_runs(weighted, generator):
    x, _ = pair(50, 20, torch.float64)
    weight = torch.rand(50, generator=generator) if weighted else None
    starts = torch.rand(3, 4, 20, generator=generator, dtype=torch.float64)
    origin = kernels.origin_of(x, False)
    each = kernels.inertia_and_sums_of_each(x, starts, weight, False, origin)
    for start, inertia, counts, sums in zip(starts, *each, strict=True):
        _, sq_distances, *want = kernels.nearest_and_sums(x, start, weight, False, origin)
        torch.testing.assert_close([counts, sums], want)
        weighed = sq_distances if weight is None else sq_distances * weight
        torch.testing.assert_close(inertia, weighed.sum())


def test_rows_are_added_and_taken_away(generator):
    x, _ = pair(50, 20, torch.float64)
    labels = torch.randint(4, (50,), generator=generator)
    weight = torch.rand(50, generator=generator)
    counts, sums = kernels.segment_sums(x, labels, 4, weight, False)
    some = torch.arange(0, 50, 3)
    rest = torch.ones(50, dtype=torch.bool).index_fill_(0, some, False).nonzero().squeeze(1)
    sparse.add_rows(x.take(some), labels[some], weight[some], counts, sums, -1)
    want = kernels.segment_sums(x.take(rest), labels[rest], 4, weight[rest], False)
    torch.testing.assert_close((counts, sums), want)


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_keep_their_digits(dtype, unit_rows, generator):
    """Centroids a hair beside the rows, on numbers that these have and on others."""
    x, dense = pair(60, 25, dtype)
    rows = unit(dense) if unit_rows else dense
    centroids = rows[:20] + 1e-4 * torch.rand(20, 25, generator=generator, dtype=dtype)
    labels, index = torch.arange(60) % 20, torch.arange(0, 60, 2)
    found = kernels.sq_differences(x, centroids, labels, index, unit_rows)
    apart = rows[index].double() - centroids[labels[index]].double()
    tolerance = 1e-2 if dtype == torch.float32 and unit_rows else 1e-8
    torch.testing.assert_close(found, apart.square().sum(1), rtol=tolerance, atol=0)
    of_all = kernels.sq_differences(x, centroids, labels, None, unit_rows)
    torch.testing.assert_close(of_all[index], found)


def test_nothing_is_left_of_equals():
    x, dense = pair(60, 25, torch.float64)
    labels = torch.arange(60)
    assert kernels.sq_differences(x, dense, labels, labels, False).tolist() == [0.0] * 60


def unit(rows):
    return kernels.unit(rows)
