"""What fits are worth: sparse rows as dense ones, and the table."""

import numpy as np
import pytest
import scipy.sparse
import torch

import torchkm
from torchkm.cluster.kinds import Data, Kind
from torchkm.cluster.scoring import Column, first_best, silhouettes, table
from torchkm.functional.csr import as_csr

KIND = Kind("NumPy array", torch.device("cpu"), lambda tensor: tensor.numpy())


@pytest.mark.parametrize("sample_size", [None, 100, 10_000])
def test_sparse_rows_score_as_dense_ones(blobs, generator, sample_size):
    x = blobs.clamp(min=0)
    results = [torchkm.kmeans(x, k, generator=generator) for k in (2, 5)]
    each = [
        silhouettes(Data(rows, None, KIND), results, "euclidean", sample_size, seeded)
        for rows, seeded in (
            (x, torch.Generator().manual_seed(0)),
            (as_csr(scipy.sparse.csr_array(x.numpy())), torch.Generator().manual_seed(0)),
        )
    ]
    np.testing.assert_allclose(*each, rtol=1e-10)


def test_the_first_of_equals_is_best():
    assert first_best([2, 3, 4, 5], np.array([np.nan, 1.0, 0.5, 0.5])) == 4
    assert first_best([2, 3], np.array([1.0, -np.inf])) == 3
    assert first_best([2, 3], np.array([np.nan, np.nan])) is None


def test_columns_stand_under_their_names():
    columns = {
        "one": Column(np.array([1.25, 100.0]), 10, ".2f"),
        "another": Column(np.array([np.nan, 3.0]), None, ".1f"),
    }
    assert table([9, 10], columns).splitlines() == [
        "   k      one   another",
        "   9     1.25       nan",
        "  10   100.00*      3.0",
    ]
