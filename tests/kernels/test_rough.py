"""Sums by labels that bfloat16 guesses: nearly those of the nearest."""

import pytest
import torch

from torchkm.kernels import rough


def nearest_in_float64(x, centroids):
    apart = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1), apart.amin(1).square()


def mixture(n, d, k, generator, spread=1.0):
    centroids = torch.randn(k, d, generator=generator)
    at = torch.randint(k, (n,), generator=generator)
    return centroids[at] + spread * torch.randn(n, d, generator=generator), centroids


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
