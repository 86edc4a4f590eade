"""Sparse rows against the same rows made dense by SciPy."""

import pytest
import scipy.sparse
import torch

from torchkm.functional.csr import as_csr
from torchkm.kernels import csr, dense_rows, take_batch, take_rows, unit


@pytest.fixture(params=[torch.float32, torch.float64])
def pair(request):
    """40 sparse rows, the fifth of them empty, and the same as a dense tensor."""
    matrix = scipy.sparse.random(40, 30, 0.2, format="csr", random_state=0)
    matrix.data -= 0.5
    dense = torch.from_numpy(matrix.toarray()).to(request.param)
    dense[4] = 0
    return as_csr(scipy.sparse.csr_array(dense.numpy())), dense


def test_what_they_offer_of_a_tensor(pair):
    rows, dense = pair
    assert (len(rows), rows.shape, rows.dtype, rows.device) == (
        len(dense),
        dense.shape,
        dense.dtype,
        dense.device,
    )
    assert torch.equal(dense_rows(rows), dense)
    assert torch.equal(rows.matrix.to_dense(), dense)


def test_a_dense_batch_takes_over_the_memory_of_the_last_one(monkeypatch):
    x = torch.arange(24.0).view(8, 3)
    first = take_batch(x, torch.tensor([1, 5]))
    second = take_batch(x, torch.tensor([7, 0]))
    assert first.data_ptr() == second.data_ptr() != x.data_ptr()
    assert torch.equal(second, x[[7, 0]])
    monkeypatch.setattr(csr, "_KEPT", 5)
    large = take_batch(x, torch.tensor([1, 5]))
    assert torch.equal(large, x[[1, 5]])
    assert large.data_ptr() != second.data_ptr()


def test_rows_are_taken_in_any_order_and_more_than_once(pair):
    rows, dense = pair
    index = torch.tensor([7, 4, 0, 7, 39])
    assert torch.equal(dense_rows(take_rows(rows, index)), dense[index])
    assert torch.equal(dense_rows(rows, index), dense[index])
    assert torch.equal(dense_rows(take_batch(rows, index)), dense[index])
    assert torch.equal(take_batch(dense, index), dense[index])
    none = index[:0]
    assert dense_rows(rows, none).shape == (0, 30)


def test_blocks_are_the_rows_in_turn(pair):
    rows, dense = pair
    found = [(at, block.dense()) for at, block in rows.blocks(7)]
    assert all(torch.equal(block, dense[at]) for at, block in found)
    assert torch.equal(torch.cat([block for _, block in found]), dense)


def test_norms_and_largest_numbers(pair):
    rows, dense = pair
    torch.testing.assert_close(rows.sq_norms, dense.double().square().sum(1))
    assert torch.equal(rows.largest, dense.abs().amax(1))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_unit_rows(pair, scale):
    _, dense = pair
    rows = as_csr(scipy.sparse.csr_array((dense * scale).numpy()))
    torch.testing.assert_close(rows.unit.dense(), unit(dense * scale))


def test_columns_without_a_number_fall_out(pair):
    rows, dense = pair
    few = rows.take(torch.tensor([3, 4, 9]))
    kept = dense[[3, 4, 9]]
    assert torch.equal(few.without_empty_columns().dense(), kept[:, (kept != 0).any(0)])
    nothing = rows.take(torch.tensor([4])).without_empty_columns()
    assert nothing.dense().tolist() == [[0.0]]
