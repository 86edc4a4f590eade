"""The two geometries: unit rows, and centroids that stay where their metric keeps them."""

import pytest
import torch

from torchkm.functional import METRICS, unit
from torchkm.functional.geometry import (
    centroids_on,
    check_directions,
    uses_unit_rows,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_unit_rows_have_length_one_and_keep_their_direction(blobs, dtype, scale):
    x = (scale * blobs).to(dtype)
    got = unit(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.norm(dim=1), torch.ones(600, dtype=dtype))
    torch.testing.assert_close(got, unit(blobs).to(dtype), rtol=1e-4, atol=1e-6)


def test_a_row_of_zeros_stays():
    assert unit(torch.tensor([[0.0, 0.0], [0.0, 2.0]])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_unit_leaves_its_input_alone(blobs):
    kept = blobs.clone()
    unit(blobs)
    assert torch.equal(blobs, kept)


def test_names():
    assert [uses_unit_rows(metric) for metric in METRICS] == [True, False]
    with pytest.raises(ValueError, match="metric must be one of 'cosine', 'euclidean'; got 'l2'"):
        uses_unit_rows("l2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_only_cosine_needs_directions(dtype):
    x = torch.tensor([[1, 0], [0, 0], [0, 3], [0, 0]], dtype=dtype)
    check_directions(x, "euclidean")
    check_directions(x[::2], "cosine")
    with pytest.raises(ValueError, match="2 of 4 rows of y are all zero, the first is row 1"):
        check_directions(x, "cosine", "y")


def test_signed_rows_that_sum_to_zero_have_a_direction():
    check_directions(torch.tensor([[1.0, -1.0]]), "cosine")


def test_centroids_return_to_the_sphere():
    moved = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    fallback = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert centroids_on("euclidean", moved, fallback) is moved
    torch.testing.assert_close(
        centroids_on("cosine", moved, fallback), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    )
