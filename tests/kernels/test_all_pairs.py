"""Mean distances to clusters, against every distance taken by itself."""

import pytest
import torch

from torchkm.kernels import all_pairs, layout, origin_of

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 rows against 16, so that small data has many."""
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 16)


def brute_force(x, labels, unit_rows):
    x = x.double()
    if unit_rows:
        x = x / x.norm(dim=1, keepdim=True)
    apart = (x.unsqueeze(1) - x).norm(dim=2)  # (n, n)
    apart = apart.square() / 2 if unit_rows else apart
    own, other = torch.zeros(2, len(x), dtype=torch.float64)
    for i, label in enumerate(labels):
        fellows = labels == label
        fellows[i] = False
        own[i] = apart[i, fellows].mean().nan_to_num()
        other[i] = min(apart[i, labels == j].mean() for j in labels.unique() if j != label)
    return own, other


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(16, 3, 2), (131, 7, 5), (47, 33, 40)])
def test_matches_brute_force(n, d, k, dtype, unit_rows, generator):
    x = (40 * torch.rand(n, d, generator=generator) + 1).to(dtype)
    labels = torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=generator)])
    before = x.clone()
    each = torch.stack([labels, labels % 2])
    counts = [one.bincount() for one in each]
    got = all_pairs.mean_distances(x, each, counts, unit_rows, origin_of(x, unit_rows))
    wants = zip(*(brute_force(x, one, unit_rows) for one in each), strict=True)
    for means, want in zip(got, wants, strict=True):
        assert means.dtype == torch.float64
        torch.testing.assert_close(means, torch.stack(want), rtol=1e-10, atol=1e-14)
    assert torch.equal(x, before)


@pytest.mark.parametrize("unit_rows", [False, True])
def test_equal_rows_are_at_distance_zero(unit_rows, generator):
    """The two clusters share all their values: what is left of a distance would be noise."""
    x = torch.rand(3, 50, generator=generator, dtype=torch.float64) + 5
    x = x[[0, 0, 0, 0, 1, 1, 2]]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    origin = x[-1]
    if unit_rows:
        origin = origin / origin.norm()
    got = all_pairs.mean_distances(x, labels[None], [labels.bincount()], unit_rows, origin)
    own, other = (means.squeeze(0) for means in got)
    assert own.tolist() == [0] * 7
    assert other[:4].tolist() == [0] * 4
    assert bool((other[4:] > 1e-4).all())
