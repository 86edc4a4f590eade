"""Clusters that have rows are numbered from 0, and their means measured from the differences."""

import pytest
import torch

from torchkm.functional.partition import as_partition, distances_among
from torchkm.kernels import layout


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 16)


def test_empty_clusters_are_skipped():
    partition = as_partition(torch.rand(5, 2), torch.tensor([7, 10**12, 7, 3, 3]))
    assert partition.labels.tolist() == [1, 2, 1, 0, 0]
    assert partition.counts.tolist() == [2, 2, 1]


def test_means_and_squared_distances(blobs, generator):
    labels = torch.randint(6, (600,), generator=generator)
    partition = as_partition(blobs, labels)
    means = partition.means()
    want = torch.stack([blobs[labels == j].mean(0) for j in range(6)])
    torch.testing.assert_close(means, want, rtol=1e-13, atol=1e-13)
    got = partition.sq_distances_to(means)
    torch.testing.assert_close(got, (blobs - want[labels]).square().sum(1), rtol=1e-12, atol=0)


def test_rounding_of_means_is_no_distance():
    x = torch.tensor([[0.1], [0.1], [0.1], [0.7], [0.7], [0.9]], dtype=torch.float64)
    partition = as_partition(x, [0, 0, 0, 1, 1, 2])
    means = partition.means()
    assert means[0] != 0.1
    assert partition.sq_distances_to(means).tolist() == [0] * 6


def test_distances_among_means(generator):
    means = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    means[7] = means[30] * (1 + 2**-52)
    got = torch.cat([apart for _, apart in distances_among(means)])
    want = (means.unsqueeze(1) - means).norm(dim=2)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    assert got[7, 30] == got[30, 7] == 0
    assert int((got == 0).sum()) == 42
