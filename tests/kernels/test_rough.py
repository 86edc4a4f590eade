"""Labels as bfloat16 sees them: what is not in doubt is right, and guesses are nearly."""

import pytest
import torch

from torchkm.kernels import labels, origin_of, rough


def nearest_in_float64(x, centroids):
    apart = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1), apart.amin(1).square()


def mixture(n, d, k, generator, spread=1.0):
    centroids = torch.randn(k, d, generator=generator)
    at = torch.randint(k, (n,), generator=generator)
    return centroids[at] + spread * torch.randn(n, d, generator=generator), centroids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
def test_labels_that_are_not_in_doubt_are_right(dtype, offset, generator):
    x, centroids = mixture(5000, 50, 30, generator, spread=0.5)
    x, centroids = (x + offset).to(dtype), centroids + offset
    found, doubtful = rough.labels(x, centroids, origin_of(x, False))
    sure = torch.ones(len(x), dtype=torch.bool).index_fill_(0, doubtful, False)
    truth = nearest_in_float64(x, centroids)[0]
    assert torch.equal(found[sure], truth[sure])
    assert (sure.float().mean() > 0.5) == (offset < 100)  # far off nothing can be proven


def test_whole_numbers_of_one_byte(generator):
    x = torch.randint(256, (3000, 60), generator=generator).to(torch.uint8)
    centroids = x[:20].float() + 0.25
    found, doubtful = rough.labels(x, centroids, origin_of(x, False))
    sure = torch.ones(len(x), dtype=torch.bool).index_fill_(0, doubtful, False)
    assert torch.equal(found[sure], nearest_in_float64(x, centroids)[0][sure])
    assert sure.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30, 1e-30, 1e-42])
def test_rows_beyond_the_numbers_are_in_doubt(bad, generator):
    x, centroids = mixture(100, 40, 5, generator)
    x[7] *= bad
    centroids = centroids * 1e-30 if 0 < abs(bad) < 1 else centroids
    assert 7 in rough.labels(x, centroids, torch.zeros(40))[1]


def test_equal_centroids_are_in_doubt_and_go_to_the_first(generator):
    x, centroids = mixture(4000, 64, 200, generator)
    twice = torch.cat([centroids, centroids])
    assert len(rough.labels(x, twice, torch.zeros(64))[1]) == len(x)
    found, _ = labels(x, twice, False, torch.zeros(64))
    assert int(found.max()) < 200
    assert torch.equal(found, nearest_in_float64(x, centroids)[0])


@pytest.mark.parametrize("unit_rows", [False, True])
def test_guessed_sums_are_nearly_those_of_the_nearest(unit_rows, generator):
    x, centroids = mixture(3000, 80, 120, generator, spread=0.5)
    x, centroids = x + 3, centroids + 3
    if unit_rows:
        x, centroids = (t / t.norm(dim=1, keepdim=True) for t in (x, centroids))
    counts, sums, inertia = rough.sums(5 * x if unit_rows else x, centroids, unit_rows, x.mean(0))
    truth, sq_distances = nearest_in_float64(x, centroids)
    assert (counts - torch.bincount(truth, minlength=120)).abs().sum() < 0.02 * len(x)
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
    torch.testing.assert_close(sums.sum(0), x.sum(0), rtol=1e-4, atol=1e-2)
