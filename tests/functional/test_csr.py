"""Sparse rows at the public doors: what comes in, what is refused, and what is left as it was."""

import numpy as np
import pytest
import scipy.sparse
import torch

import torchkm
from torchkm import functional
from torchkm.functional import accumulate, assign, assign_and_accumulate, distances, seed
from torchkm.functional.csr import as_csr


@pytest.fixture
def matrix():
    """200 rows of 150 numbers, 15 of them not zero on average."""
    return scipy.sparse.random(200, 150, 0.1, format="csr", random_state=0)


def make(value=0):
    return torch.Generator().manual_seed(value)


def given_as(matrix):
    numbers = (matrix.indptr, matrix.indices, matrix.data)
    tensors = [torch.from_numpy(part) for part in numbers]
    wide = matrix.copy()
    wide.indptr, wide.indices = wide.indptr.astype(np.int64), wide.indices.astype(np.int64)
    frozen = matrix.copy()
    frozen.data.flags.writeable = False
    return {
        "matrix": matrix,
        "array": scipy.sparse.csr_array(matrix),
        "int64": wide,
        "read-only": frozen,
        "tensor": torch.sparse_csr_tensor(*tensors, matrix.shape, check_invariants=True),
    }


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("form", ["matrix", "array", "int64", "read-only", "tensor"])
def test_each_form_is_taken(matrix, form):
    rows = as_csr(given_as(matrix)[form])
    assert np.array_equal(rows.dense().numpy(), matrix.toarray())


def test_numbers_at_one_place_add_up_and_columns_may_come_in_any_order():
    data, cols, starts = [1.0, 2.0, 4.0, 8.0, 0.0], [2, 0, 2, 1, 0], [0, 3, 3, 5]
    matrix = scipy.sparse.csr_matrix((data, cols, starts), shape=(3, 3))
    rows = as_csr(matrix)
    assert rows.dense().tolist() == [[2, 0, 5], [0, 0, 0], [0, 8, 0]]
    assert rows.sq_norms.tolist() == [29, 0, 64]
    assert matrix.data.tolist() == data
    assert matrix.indices.tolist() == cols


@pytest.mark.parametrize(
    ("dtype", "want"),
    [("float64", torch.float64), ("float32", torch.float32), ("uint8", torch.float32)],
)
def test_dtypes(dtype, want):
    rows = as_csr(scipy.sparse.csr_array(np.eye(3, dtype=dtype)))
    assert rows.dtype == want
    assert rows.dense().tolist() == np.eye(3).tolist()


def broken(**fields):
    matrix = scipy.sparse.csr_array(np.eye(3))
    for name, value in fields.items():
        setattr(matrix, name, np.array(value))
    return matrix


def with_number(value):
    matrix = scipy.sparse.csr_array(np.eye(3))
    matrix.data[1] = value
    return matrix


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (scipy.sparse.eye(3, format="csc"), TypeError, r"csc_matrix: convert it with \.tocsr\(\)"),
        (torch.eye(3).to_sparse(), TypeError, r"convert it with \.to_sparse_csr\(\)"),
        (
            scipy.sparse.eye(3, format="csr", dtype=int),
            TypeError,
            "x must hold float32.* got int64",
        ),
        (scipy.sparse.csr_array((0, 3)), ValueError, "at least one row and one column"),
        (broken(indices=[0, 1, 3]), ValueError, r"columns must lie in \[0, 3\), got 0 to 3"),
        (broken(indices=[0, -1, 2]), ValueError, r"columns must lie in \[0, 3\), got -1 to 2"),
        (broken(indptr=[0, 2, 1, 3]), ValueError, "its rows do not fit its numbers"),
        (broken(indptr=[0, 1, 2, 9]), ValueError, "its rows do not fit its numbers"),
        (broken(indptr=[0, 1, 3]), ValueError, "its rows do not fit its numbers"),
        (with_number(np.nan), ValueError, "1 of 3 rows hold NaN or infinity, the first is row 1"),
        (with_number(-np.inf), ValueError, "1 of 3 rows hold NaN or infinity, the first is row 1"),
        (with_number(1e30).astype(np.float32), ValueError, "small enough to square in float32"),
        (with_number(1e200), ValueError, "small enough to square in float64, got values up to"),
    ],
)
def test_what_is_refused(x, error, message):
    for door in (
        lambda: assign(x, torch.zeros(1, 3)),
        lambda: seed(x, 1),
        lambda: torchkm.kmeans(x, 1),
        lambda: torchkm.kmeans(x, 1, solver="lloyd"),
    ):
        with pytest.raises(error, match=message):
            door()


def test_where_only_dense_rows_go(matrix):
    with pytest.raises(TypeError, match="x must be a dense array, got a sparse csr_matrix"):
        torchkm.nn.KMeans(2, 150).update(matrix)
    with pytest.raises(TypeError, match="centroids must be a dense array, got a sparse csr_matrix"):
        assign(matrix, matrix[:2])
    with pytest.raises(TypeError, match="init must be a dense array, got a sparse csr_matrix"):
        torchkm.kmeans(matrix, 2, init=matrix[:2])


def test_cosine_needs_directions(matrix):
    matrix.data[matrix.indptr[3] : matrix.indptr[4]] = 0
    with pytest.raises(ValueError, match="1 of 200 rows of x are all zero, the first is row 3"):
        assign(matrix, torch.ones(1, 150), metric="cosine")


@pytest.mark.parametrize("metric", functional.METRICS)
def test_steps_match_those_of_dense_rows(matrix, metric, generator):
    dense = torch.from_numpy(matrix.toarray())
    centroids = torch.rand(7, 150, generator=generator, dtype=torch.float64) + 0.01
    centroids[0] = dense[5]
    weight = torch.rand(200, generator=generator)
    found, want = (assign(x, centroids, metric=metric) for x in (matrix, dense))
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(
        distances(matrix, centroids, metric=metric), distances(dense, centroids, metric=metric)
    )
    one, other = (
        assign_and_accumulate(x, centroids, weight, metric=metric)[1] for x in (matrix, dense)
    )
    two = accumulate(matrix, found, 7, weight, metric=metric)
    for stats in (one, two):
        torch.testing.assert_close(
            (stats.counts, stats.sums, stats.inertia), (other.counts, other.sums, other.inertia)
        )


def test_a_row_on_its_centroid_is_at_zero(matrix):
    found = assign(matrix, matrix[:20].toarray())
    assert found.labels[:20].tolist() == list(range(20))
    assert found.sq_distances[:20].tolist() == [0.0] * 20


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
@pytest.mark.parametrize("n", [40, 200])
def test_seeds_are_rows(matrix, init, n):
    x = matrix[:n]
    seeds = seed(x, 9, init, generator=make())
    found = (seeds.unsqueeze(1) == torch.from_numpy(x.toarray())).all(2)  # (9, n)
    assert found.any(1).all()
    assert found.any(0).sum() == 9
    assert torch.equal(seeds, seed(x, 9, init, generator=make()))


def test_plusplus_spreads_over_groups():
    """Ten groups that share no column: k-means++ finds a row of each."""
    blocks = [scipy.sparse.csr_array(np.full((12, 40), 1.0)) for _ in range(10)]
    x = scipy.sparse.block_diag(blocks, format="csr")
    seeds = seed(x, 10, generator=make())
    assert sorted((seeds.argmax(1) // 40).tolist()) == list(range(10))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_function_is_given_a_sparse_tensor(matrix):
    def init(x, k, generator):
        assert x.layout == torch.sparse_csr
        return x.to_dense()[:k]

    assert np.array_equal(seed(matrix, 3, init).numpy(), matrix[:3].toarray())
