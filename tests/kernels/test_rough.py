"""Sums by guessed labels: nearly those of the nearest."""

import pytest
import torch

from torchkm.kernels import bfloat16, rough, rough_sums


def nearest_in_float64(x, centroids):
    apart = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1), apart.amin(1).square()


def mixture(n, d, k, generator, spread=1.0):
    centroids = torch.randn(k, d, generator=generator)
    at = torch.randint(k, (n,), generator=generator)
    return centroids[at] + spread * torch.randn(n, d, generator=generator), centroids


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def in_bfloat16(request, monkeypatch):
    """Guess in bfloat16 on any machine, or in float32."""
    monkeypatch.setattr(bfloat16, "pays", lambda: request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("unit_rows", [False, True])
def test_guessed_sums_are_nearly_those_of_the_nearest(unit_rows, dtype, in_bfloat16, generator):
    x, centroids = mixture(3000, 80, 120, generator, spread=0.5)
    x, centroids = (x + 3).to(dtype), centroids + 3
    if unit_rows:
        x, centroids = (t / t.norm(dim=1, keepdim=True) for t in (x, centroids))
    origin = x.to(torch.promote_types(dtype, torch.float32)).mean(0)
    counts, sums, inertia = rough.sums(5 * x if unit_rows else x, centroids, unit_rows, origin)
    rows = torch.nn.functional.normalize(x.double()) if unit_rows else x.double()
    truth, sq_distances = nearest_in_float64(rows, centroids)
    wrong = (counts - torch.bincount(truth, minlength=120)).abs().sum()
    assert wrong < 0.02 * len(x) if in_bfloat16 else wrong == 0
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-3)
    torch.testing.assert_close(sums.sum(0).double(), rows.sum(0), rtol=1e-4, atol=1e-2)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_sums_of_float64_rows_keep_their_digits(in_bfloat16, generator):
    x, centroids = (t.double() for t in mixture(2000, 90, 100, generator, spread=0.01))
    counts, sums, inertia = rough.sums(x, centroids, False, x.mean(0))
    truth, sq_distances = nearest_in_float64(x, centroids)
    assert torch.equal(counts, torch.bincount(truth, minlength=100).double())
    torch.testing.assert_close(
        sums, torch.zeros_like(sums).index_add_(0, truth, x), rtol=1e-12, atol=0
    )
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_rows_beyond_the_digits_are_not_guessed(scale, in_bfloat16, generator):
    x, centroids = (t.double() * scale for t in mixture(500, 90, 100, generator, spread=0.01))
    assert rough.sums(x, centroids, False, 0 * x[0]) is None
    counts, _, inertia = rough_sums(x, centroids, False, 0 * x[0])
    truth, sq_distances = nearest_in_float64(x, centroids)
    assert torch.equal(counts, torch.bincount(truth, minlength=100).double())
    assert inertia.item() == pytest.approx(sq_distances.sum().item(), rel=1e-6)
