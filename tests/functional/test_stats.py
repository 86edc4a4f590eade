"""ClusterStats add, and adding is exact where it matters."""

import pytest
import torch

from torchkm.functional import ClusterStats, accumulate, assign, assign_and_accumulate, seed


def test_parts_add_up_to_the_whole(blobs, generator):
    centroids = seed(blobs, 7, generator=generator)
    weight = torch.rand(600, generator=generator, dtype=torch.float64)
    _, whole = assign_and_accumulate(blobs, centroids, weight)
    parts = [
        assign_and_accumulate(x, centroids, w)[1]
        for x, w in zip(blobs.split(130), weight.split(130), strict=True)
    ]
    total = sum(parts[1:], parts[0])
    for name in ("counts", "sums", "inertia"):
        torch.testing.assert_close(getattr(total, name), getattr(whole, name))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_one_read_is_assign_then_accumulate(blobs, metric, generator):
    centroids = seed(blobs, 7, metric=metric, generator=generator)
    weight = torch.rand(600, generator=generator)
    found, once = assign_and_accumulate(blobs, centroids, weight, metric=metric)
    want = assign(blobs, centroids, metric=metric)
    twice = accumulate(blobs, want, 7, weight, metric=metric)
    assert torch.equal(found.labels, want.labels)
    for name in ("counts", "sums", "inertia"):
        torch.testing.assert_close(getattr(once, name), getattr(twice, name))


def test_by_brute_force(blobs, generator):
    centroids = seed(blobs, 4, generator=generator)
    found, stats = assign_and_accumulate(blobs, centroids)
    for j in range(4):
        mine = blobs[found.labels == j]
        assert stats.counts[j] == len(mine)
        torch.testing.assert_close(stats.sums[j], mine.sum(0))
        torch.testing.assert_close(stats.means[j], mine.mean(0))
    torch.testing.assert_close(stats.inertia, found.sq_distances.sum())


def test_counts_are_exact_past_float32():
    big = ClusterStats(
        torch.tensor([2.0**24], dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
    )
    _, one = assign_and_accumulate(torch.ones(1, 1), torch.ones(1, 1))
    assert (big + one).counts.item() == 2**24 + 1


def test_sums_of_half_precision_rows_do_not_overflow():
    x = torch.full((5000, 1), 60_000.0, dtype=torch.float16)
    _, stats = assign_and_accumulate(x, torch.tensor([[60_000.0]]))
    assert stats.sums.item() == 5000 * 60_000.0  # float16 ends at 65,504
    assert stats.inertia == 0


def test_sums_of_many_equal_rows_keep_their_digits():
    """One float32 sum of 200,000 tenths would be off by more than a thousandth."""
    x = torch.full((200_000, 1), 0.1)
    _, stats = assign_and_accumulate(x, torch.zeros(1, 1))
    exact = 200_000 * x[0].double().item()
    assert stats.sums.item() == pytest.approx(exact, rel=1e-4)


def test_means_of_empty_clusters_are_finite():
    stats = ClusterStats(torch.tensor([0.0, 2.0]), torch.tensor([[0.0], [6.0]]), torch.tensor(0.0))
    assert stats.means.tolist() == [[0.0], [3.0]]


def test_labels_are_counted_by_weight(generator):
    labels = torch.randint(0, 5, (1000,), generator=generator)
    weight = torch.rand(1000, generator=generator)
    want = [weight[labels == j].double().sum().item() for j in range(7)]
    assert ClusterStats.counted(labels, weight, 7).tolist() == pytest.approx(want)
    assert ClusterStats.counted(labels, None, 7).tolist() == labels.bincount(minlength=7).tolist()
    assert ClusterStats.counted(labels, None, 7).dtype == torch.float64
