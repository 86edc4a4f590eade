"""The blocked kernels against the plain reference, across blocks, dtypes and layouts."""

import numpy as np
import pytest
import torch
from sklearn.utils.extmath import row_norms

from torchkm.kernels import blocked, layout, origin_of, reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 16 rows, so that small data has many."""
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 16)


def rows(n, d, dtype, generator):
    x = 40 * torch.rand(n, d, generator=generator, dtype=torch.float64)
    return x.to(dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_each_of_several_starts_gets_what_it_gets_alone(dtype, unit_rows, weighted, generator):
    x = rows(131, 7, dtype, generator)
    starts = rows(15, 7, torch.promote_types(dtype, torch.float32), generator).view(3, 5, 7)
    starts = starts / starts.norm(dim=2, keepdim=True) if unit_rows else starts
    weight = torch.rand(131, generator=generator) if weighted else None
    origin = origin_of(x, unit_rows)
    each = blocked.inertia_and_sums_of_each(x, starts, weight, unit_rows, origin)
    for start, inertia, counts, sums in zip(starts, *each, strict=True):
        _, sq_distances, *want = blocked.nearest_and_sums(x, start, weight, unit_rows, origin)
        sq_distances = sq_distances.double() * (1 if weight is None else weight)
        torch.testing.assert_close(inertia, sq_distances.sum(), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close([counts, sums], want)


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (131, 7, 5), (1500, 33, 40)])
@pytest.mark.parametrize("in_one", [False, True])
def test_few_rows_at_once_get_the_labels_of_blocks(
    in_one, n, d, k, dtype, unit_rows, monkeypatch, generator
):
    monkeypatch.setattr(blocked, "_ONE_PRODUCT", n * k if in_one else n * k - 1)
    x, centroids = rows(n, d, dtype, generator), rows(k, d, torch.float32, generator)
    origin = origin_of(x, unit_rows)
    at_once, far = blocked.labels(x, centroids, unit_rows, origin)
    monkeypatch.setattr(blocked, "_AT_ONCE", n * (d + k) - 1)
    in_blocks, each = blocked.labels(x, centroids, unit_rows, origin)
    assert torch.equal(at_once, in_blocks)
    assert len(far) == 1
    assert len(each) == -(-n // 16)
    torch.testing.assert_close(far.sum(), each.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (16, 3, 2), (131, 7, 5), (47, 33, 40)])
def test_matches_the_reference(n, d, k, dtype, unit_rows, generator):
    x = rows(n, d, dtype, generator)
    centroids = rows(k, d, torch.float32, generator)
    weight = torch.rand(n, generator=generator)

    origin = origin_of(x, unit_rows)

    labels, sq_distances, counts, sums = blocked.nearest_and_sums(
        x, centroids, weight, unit_rows, origin
    )

    exact = reference.distances(x.double(), centroids.double(), unit_rows)
    scale = float(exact.max()) + 1
    chosen = exact.gather(1, labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(chosen, exact.min(dim=1).values, atol=1e-5 * scale, rtol=0)
    torch.testing.assert_close(sq_distances.double(), chosen, atol=1e-5 * scale, rtol=0)
    want_counts, want_sums = reference.segment_sums(x, labels, k, weight, unit_rows)
    torch.testing.assert_close(counts, want_counts, rtol=1e-6, atol=0)
    torch.testing.assert_close(sums, want_sums, rtol=1e-5, atol=1e-4)
    assert torch.equal(blocked.nearest(x, centroids, unit_rows, origin)[0], labels)


def test_segment_sums_match_the_reference(generator):
    x = rows(100, 4, torch.float32, generator)
    labels = torch.randint(3, (100,), generator=generator)
    got = blocked.segment_sums(x, labels, 5, None, False)
    want = reference.segment_sums(x, labels, 5, None, False)
    torch.testing.assert_close(got, want)
    assert got[0][3:].tolist() == [0, 0]


def test_distances_match_cdist(generator):
    x, centroids = rows(100, 4, torch.float64, generator), rows(9, 4, torch.float64, generator)
    got = blocked.distances(x, centroids, False).sqrt()
    torch.testing.assert_close(got, torch.cdist(x, centroids))


@pytest.mark.parametrize("kernel", [blocked, reference])
def test_the_origin_changes_nothing_but_the_rounding(kernel, generator):
    x, centroids = rows(100, 4, torch.float64, generator), rows(9, 4, torch.float64, generator)
    want, got = (kernel.nearest(x, centroids, False, o) for o in (x.mean(0), x[3]))
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_add_up_as_in_scikit_learn(dtype, generator):
    """To the bit: rows at the same distance from two centroids go where rounding sends them."""
    centroids = torch.rand(50, 784, generator=generator).to(dtype)
    want = row_norms(centroids.numpy(), squared=True)
    assert np.array_equal(layout.sq_norms_of_centroids(centroids).numpy(), want)


def test_ties_go_to_the_lowest_index():
    x = torch.tensor([[0.0], [2.0]])
    labels, _ = blocked.nearest(x, torch.tensor([[1.0], [1.0], [3.0], [1.0]]), False, x[0])
    assert labels.tolist() == [0, 0]


def test_a_large_common_offset_keeps_the_labels(generator):
    """Without the shift, float32 scores of rows at 1e4 would be off by more than the gaps."""
    x = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    centroids = torch.randn(10, 8, generator=generator, dtype=torch.float64)
    want = reference.nearest(x, centroids, False, x[0])[0]
    far = (x + 1e4).float()
    got, _ = blocked.nearest(far, (centroids + 1e4).float(), False, origin_of(far, False))
    assert (got != want).float().mean() < 0.02
    lost = (
        (centroids + 1e4).float().square().sum(1) / 2
        - (x + 1e4).float() @ (centroids + 1e4).float().T
    ).argmin(1)
    assert (lost != want).float().mean() > 0.2


def test_no_array_of_all_scores_is_allocated(generator, monkeypatch):
    """A block of scores at most: watch every allocation that a product writes to."""
    seen = []
    baddbmm = torch.baddbmm

    def spy(*args, **kwargs):
        runs, _, length = kwargs["out"].shape
        seen.append(runs * length)
        return baddbmm(*args, **kwargs)

    monkeypatch.setattr(torch, "baddbmm", spy)
    x, centroids = rows(200, 4, torch.float32, generator), rows(3, 4, torch.float32, generator)
    blocked.nearest(x, centroids, False, x[0])
    assert max(seen) == 16
    assert sum(seen) == 200
