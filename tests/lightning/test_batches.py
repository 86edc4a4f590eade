"""Batches: every row once, in an order that the seed and the epoch decide."""

import pytest
import torch

from torchkm.lightning.batches import Batches, EpochOrder, Rows

X = torch.arange(103.0).unsqueeze(1)


def seen(batches):
    return torch.cat(list(batches)).squeeze(1)


def test_every_row_comes_once_in_batches_of_nearly_equal_size():
    batches = Batches(Rows(X), batch_size=25, seed=0)
    sizes = [len(rows) for rows in batches]
    assert len(batches) == len(sizes) == 5
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 25
    assert seen(batches).sort().values.tolist() == X.squeeze(1).tolist()


def test_order_depends_on_seed_and_epoch_alone():
    one, two = (Batches(Rows(X), 25, seed=7) for _ in range(2))
    assert torch.equal(seen(one), seen(two))
    assert torch.equal(seen(one), seen(one))
    two.sampler.set_epoch(1)
    assert not torch.equal(seen(one), seen(two))
    one.sampler.set_epoch(1)
    assert torch.equal(seen(one), seen(two))
    assert not torch.equal(seen(Batches(Rows(X), 25, seed=8)), seen(Batches(Rows(X), 25, seed=7)))


def test_seed_and_epoch_are_not_added_up():
    later = EpochOrder(50, seed=0)
    later.set_epoch(1)
    assert not torch.equal(later.order(), EpochOrder(50, seed=1).order())


def test_without_a_seed_the_stored_order_stays():
    assert torch.equal(seen(Batches(Rows(X), 10)), X.squeeze(1))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_batch_without_overlap(world_size):
    ranks = [Batches(Rows(X), 25, 0, rank, world_size) for rank in range(world_size)]
    whole = list(Batches(Rows(X), 25, 0))
    for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(parts).sort(0).values, batch.sort(0).values)


def test_more_processes_than_rows_in_a_batch():
    with pytest.raises(ValueError, match=r"each of the 4 processes: 103 rows .* one with 2"):
        Batches(Rows(X), batch_size=3, world_size=4)


def test_rows_are_converted_and_divided_on_the_way_out():
    stored = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8)
    rows = Rows(stored, torch.tensor([3, 4]), torch.float32, divisor=255.0)
    x, targets = rows.take(torch.tensor([1, 0]))
    torch.testing.assert_close(x, torch.tensor([[1.0, 0.4], [0.0, 0.2]]))
    assert targets.tolist() == [4, 3]
    assert stored.tolist() == [[0, 51], [255, 102]]
