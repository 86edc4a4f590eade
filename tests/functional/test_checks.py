"""Bad input at the public doors: the message says what came and what was expected."""

import numpy as np
import pytest
import torch

import torchkm
from torchkm import functional

X = torch.arange(12.0).reshape(6, 2)
C = torch.tensor([[0.0, 1.0], [5.0, 6.0]])


def nan_row():
    x = X.clone()
    x[4, 1] = float("nan")
    return x


ROWS = [
    (torch.zeros(3), ValueError, r"x must have shape \(n, d\), got \(3,\)"),
    (torch.zeros(2, 3, 4), ValueError, r"x must have shape \(n, d\), got \(2, 3, 4\)"),
    (torch.zeros(0, 2), ValueError, r"at least one row and one column, got \(0, 2\)"),
    (torch.zeros(2, 0), ValueError, r"at least one row and one column, got \(2, 0\)"),
    (nan_row(), ValueError, "1 of 6 rows hold NaN or infinity, the first is row 4"),
    (X / torch.tensor([0.0, 1.0]), ValueError, "6 of 6 rows hold NaN or infinity"),
    (X * 1e20, ValueError, "small enough to square in float32, got values up to 1.1e"),
    (X.to(torch.complex64), TypeError, "x must hold float32.* got complex64"),
    (X.to(torch.int64), TypeError, "x must hold float32.* got int64"),
    (X.to_sparse(), TypeError, "x must be (a )?dense.*, got layout torch.sparse_coo"),
    ([[1.0], [2.0, 3.0]], TypeError, "x must be an array of numbers"),
    (np.zeros((2, 2), np.longdouble), TypeError, "x must hold real numbers, got an array of dtype"),
    (np.array([["a", "b"]]), TypeError, "x must hold real numbers, got an array of dtype <U1"),
    (np.array([[None, 1]]), TypeError, "x must hold real numbers, got an array of dtype object"),
]


@pytest.mark.parametrize(("x", "error", "message"), ROWS)
def test_rows(x, error, message):
    for door in (
        lambda: functional.assign(x, C),
        lambda: functional.seed(x, 1),
        lambda: torchkm.kmeans(x, 1),
        lambda: torchkm.nn.KMeans(1, 2).update(x),
    ):
        with pytest.raises(error, match=message):
            door()


@pytest.mark.parametrize(
    ("centroids", "error", "message"),
    [
        (torch.zeros(2, 3), ValueError, r"expected \(k, 2\) for x \(6, 2\), got \(2, 3\)"),
        (torch.zeros(2), ValueError, r"centroids must have shape \(n, d\), got \(2,\)"),
        (C.to(torch.uint8), TypeError, "centroids must hold float numbers, got uint8"),
        (C * float("inf"), ValueError, "centroids must be finite"),
        (C.to("meta"), ValueError, "device of the rows: expected cpu, got meta"),
    ],
)
def test_centroids(centroids, error, message, monkeypatch):
    if centroids.is_meta:  # stands in for another device; it has no values to look at
        monkeypatch.setattr("torchkm.functional.arrays.check_finite", lambda *_: None)
    with pytest.raises(error, match=message):
        functional.assign(X, centroids)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (torch.ones(5), ValueError, r"shape \(6,\), one per row of x, got \(5,\)"),
        (torch.ones(6, 1), ValueError, r"shape \(6,\)"),
        (-torch.ones(6), ValueError, "non-negative, got a smallest weight of -1"),
        (torch.zeros(6), ValueError, "positive weight, got only zeros"),
        (torch.full((6,), 1e38), ValueError, "largest between 1e-15 and 1e\\+15, got 1e\\+38"),
        (torch.full((6,), 1e-30), ValueError, "got 1e-30: scale all of them alike"),
        (torch.full((6,), float("nan")), ValueError, "finite, got NaN"),
        (torch.ones(6, dtype=torch.complex64), TypeError, "real numbers, got complex64"),
    ],
)
def test_sample_weight(weight, error, message):
    for door in (
        lambda: functional.assign_and_accumulate(X, C, weight),
        lambda: torchkm.kmeans(X, 2, sample_weight=weight),
        lambda: torchkm.nn.KMeans(2, 2).update(X, weight),
    ):
        with pytest.raises(error, match=f"sample_weight.*{message}"):
            door()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 7}, ValueError, "at most the number of rows: got k=7 for n=6"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"k": True}, TypeError, "k must be an integer, got True"),
        ({"init": "best"}, ValueError, r"init must be one of 'k-means\+\+', .*; got 'best'"),
        ({"init": torch.zeros(3, 2)}, ValueError, r"init must give k=2 centroids.*\(3, 2\)"),
        ({"init": lambda x, k, g: x[:1]}, ValueError, r"init must give k=2 centroids.*\(1, 2\)"),
        (
            {"solver": "newton"},
            ValueError,
            "solver must be one of 'auto', 'decay'.*'newton'",
        ),
        ({"metric": "l1"}, ValueError, "metric must be one of 'cosine', 'euclidean'; got 'l1'"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1, got 0"),
        ({"n_init": 0}, ValueError, "n_init must be at least 1, got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, got -1"),
        ({"tol": -1.0}, ValueError, "tol must be finite and at least 0, got -1.0"),
        ({"tol": "small"}, TypeError, "tol must be a number, got 'small'"),
        ({"refine": -1}, ValueError, "refine must be at least 0, got -1"),
        ({"refine": 2, "solver": "lloyd"}, ValueError, 'refine belongs to solver "auto"'),
        ({"precision": "int8"}, ValueError, "precision must be one of 'auto', 'bfloat16'.*'int8'"),
        ({"precision": "bfloat16", "solver": "decay"}, ValueError, "precision belongs to solver"),
        ({"callback": 5}, TypeError, "callback must be a function or None, got 5"),
        ({"init": X[:2] > 0}, TypeError, "init must hold real numbers, got bool"),
        ({"generator": 0}, TypeError, "generator must be a torch.Generator, got 0"),
        ({"metric": "cosine"}, ValueError, "1 of 6 rows of x are all zero, the first is row 0"),
    ],
)
def test_kmeans_arguments(arguments, error, message):
    x = X.clone()
    if arguments.get("metric") == "cosine":
        x[0] = 0
    with pytest.raises(error, match=message):
        torchkm.kmeans(x, **{"k": 2, **arguments})


def test_labels_outside_the_clusters():
    assignment = functional.assign(X, C)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\), got 1"):
        functional.accumulate(X, assignment, k=1)
    with pytest.raises(TypeError, match="labels must hold integers, got float32"):
        functional.accumulate(X, assignment._replace(labels=torch.zeros(6)), k=2)


@pytest.mark.parametrize(
    "array",
    [
        X.numpy(),
        np.asfortranarray(X.numpy()),
        X.numpy()[::-1][::-1],
        X.numpy().astype(">f4"),
        X.tolist(),
    ],
    ids=["c", "fortran", "flipped-twice", "big-endian", "lists"],
)
def test_arrays_of_any_layout_are_rows(array):
    got = functional.assign(
        np.asarray(array, dtype=np.float32) if isinstance(array, list) else array, C
    )
    assert torch.equal(got.labels, functional.assign(X, C).labels)


def test_fields_of_packed_records_are_rows():
    """Strides that are no multiple of a number's size, which a tensor cannot express."""
    records = np.zeros(6, np.dtype([("flag", "u1"), ("row", "f4", (2,))]))
    records["row"] = X.numpy()
    got = functional.assign(records["row"], C)
    assert torch.equal(got.labels, functional.assign(X, C).labels)


def test_negative_strides_and_read_only_memory(tmp_path):
    flipped = X.numpy()[::-1]
    want = functional.assign(X, C).labels
    assert torch.equal(functional.assign(flipped, C).labels, want.flip(0))

    np.save(tmp_path / "x.npy", X.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert torch.equal(functional.assign(mapped, C).labels, want)
    result = torchkm.kmeans(mapped, 2, generator=torch.Generator().manual_seed(0))
    assert result.labels.shape == (6,)
