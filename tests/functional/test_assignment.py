"""Assignment against brute force, and the promises of its docstring."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from torchkm import functional
from torchkm.functional.assignment import labels_of


def brute_force(x, centroids):
    apart = x.double().unsqueeze(1) - centroids.double()  # (n, k, d)
    return apart.square().sum(2).min(dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_brute_force(blobs, dtype, generator):
    x = blobs.to(dtype)
    centroids = functional.seed(x, 12, "random", generator=generator)
    want = brute_force(x, centroids)
    got = functional.assign(x, centroids)
    assert torch.equal(got.labels, want.indices)
    assert got.labels.dtype == torch.int64
    torch.testing.assert_close(got.sq_distances.double(), want.values, rtol=1e-3, atol=0)


def test_uint8_rows_are_taken_as_numbers():
    x = torch.tensor([[0, 255], [250, 3]], dtype=torch.uint8)
    got = functional.assign(x, torch.tensor([[255.0, 0.0], [0.0, 250.0]]))
    assert got.labels.tolist() == [1, 0]
    torch.testing.assert_close(got.sq_distances, torch.tensor([25.0, 34.0]), rtol=1e-4, atol=0)


def test_a_row_equal_to_its_centroid_is_at_distance_zero(generator):
    x = 100 + torch.randn(50, 20, generator=generator)
    assert functional.assign(x, x).sq_distances.eq(0).all()


def test_small_distances_keep_their_digits(generator):
    """Rows a millionth from their centroid: the expanded form alone would return noise."""
    centroids = 10 * torch.randn(5, 8, generator=generator, dtype=torch.float64)
    x = centroids.repeat(20, 1) + 1e-4 * torch.randn(100, 8, generator=generator)
    x, centroids = x.float(), centroids.float()
    got = functional.assign(x, centroids)
    torch.testing.assert_close(
        got.sq_distances.double(), brute_force(x, centroids).values, rtol=1e-4, atol=0
    )


def test_small_distances_to_one_of_several_centroids_keep_their_digits(generator):
    near = torch.randn(60, 3, generator=generator)
    far = torch.full((1, 3), 4096.0)
    centroids = torch.cat([near.mean(0, keepdim=True), far])
    _, sq_distances = functional.assign(torch.cat([near, far + 3]), centroids)
    assert sq_distances[-1].item() == pytest.approx(27, rel=1e-6)


def test_cosine_is_euclidean_on_unit_rows(blobs, generator):
    centroids = functional.seed(blobs, 4, metric="cosine", generator=generator)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(4, dtype=torch.float64))
    got = functional.assign(blobs, centroids, metric="cosine")
    similarity = torch.nn.functional.cosine_similarity(
        blobs.unsqueeze(1), centroids.unsqueeze(0), dim=2
    )
    assert torch.equal(got.labels, similarity.argmax(1))
    torch.testing.assert_close(got.sq_distances, 2 - 2 * similarity.max(1).values)


def test_scaling_a_row_does_not_change_its_cosine_label(blobs, generator):
    centroids = functional.seed(blobs, 4, metric="cosine", generator=generator)
    once = functional.assign(blobs, centroids, metric="cosine")
    twice = functional.assign(7 * blobs, 3 * centroids, metric="cosine")
    assert torch.equal(once.labels, twice.labels)


def test_permuting_rows_permutes_labels(blobs, generator):
    centroids = functional.seed(blobs, 7, generator=generator)
    order = torch.randperm(len(blobs), generator=generator)
    whole = functional.assign(blobs, centroids).labels
    assert torch.equal(functional.assign(blobs[order], centroids).labels, whole[order])


def test_any_layout_gives_the_same(blobs, generator):
    centroids = functional.seed(blobs, 7, generator=generator)
    want = functional.assign(blobs, centroids).labels
    wide = torch.zeros(600, 10, dtype=torch.float64)
    wide[:, ::2] = blobs
    assert torch.equal(functional.assign(wide[:, ::2], centroids).labels, want)
    assert torch.equal(functional.assign(blobs.T.contiguous().T, centroids).labels, want)


@pytest.mark.parametrize("far", [1e3, 1e5, 1e7])
def test_one_centroid_far_off_does_not_blur_the_others(far, generator):
    x = torch.rand(500, 2, generator=generator)
    centroids = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [far, far]])
    got = functional.assign(x, centroids)
    assert torch.equal(got.labels, brute_force(x, centroids).indices)
    by_distance = functional.distances(x, centroids).argmin(1)
    assert torch.equal(got.labels, by_distance)


@pytest.mark.parametrize("far", [1e5, 1e8])
def test_one_row_far_off_does_not_blur_the_others(far, generator):
    centroids = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    x = centroids.repeat(60, 1) + torch.randn(240, 2, generator=generator)
    want = functional.assign(x, centroids)
    # First, where it is sure to be among the rows that the origin is taken from.
    got = functional.assign(torch.cat([torch.full((1, 2), far), x]), centroids)
    assert torch.equal(got.labels[1:], want.labels)


def test_cosine_of_rows_whose_squares_vanish(blobs):
    x, centroids = blobs.float(), blobs[:5].float()
    want = functional.assign(x, centroids, metric="cosine")
    got = functional.assign(x * 1e-25, centroids, metric="cosine")
    assert torch.equal(got.labels, want.labels)
    torch.testing.assert_close(got.sq_distances, want.sq_distances, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("asked", ["high", "medium"])
def test_fast_products_asked_for_elsewhere_are_not_used(asked, generator):
    x, c = (torch.randn(n, 64, generator=generator) for n in (5000, 300))
    want, before = functional.assign(x, c), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(asked)
    try:
        got = functional.assign(x, c)
        assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(map(torch.equal, got, want))


def test_threads_leave_the_precision_as_it_was(generator):
    x, before = torch.randn(50, 4, generator=generator), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: functional.assign(x, x[:3]), range(400)))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_autocast_does_not_lower_the_precision(blobs, generator):
    x = blobs.float()
    centroids = functional.seed(x, 30, generator=generator)
    want = functional.assign(x, centroids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = functional.assign(x, centroids)
    assert torch.equal(got.sq_distances, want.sq_distances)


def test_distances_are_roots_of_squared_distances(blobs, generator):
    centroids = functional.seed(blobs, 7, generator=generator)
    got = functional.distances(blobs.float(), centroids.float())
    torch.testing.assert_close(got.double(), torch.cdist(blobs, centroids), rtol=1e-5, atol=1e-5)
    assert got.dtype == torch.float32


def test_the_callers_tensors_stay_as_they_were(blobs, generator):
    x, centroids = blobs.clone(), functional.seed(blobs, 3, generator=generator)
    weight = torch.rand(600, generator=generator)
    kept = [t.clone() for t in (x, centroids, weight)]
    for metric in functional.METRICS:
        functional.assign(x, centroids, metric=metric)
        functional.assign_and_accumulate(x, centroids, weight, metric=metric)
    assert all(torch.equal(a, b) for a, b in zip((x, centroids, weight), kept, strict=True))


@pytest.mark.mnist
def test_float32_labels_on_mnist_are_those_of_float64(mnist_rows, generator):
    """They may differ only where two centroids are as good as equally near."""
    centroids = functional.seed(mnist_rows, 256, generator=generator)
    labels = functional.assign(mnist_rows, centroids).labels
    exact = functional.assign(mnist_rows.double(), centroids.double())
    differ = (labels != exact.labels).nonzero().squeeze(1)
    assert len(differ) <= 3
    apart = (mnist_rows[differ].double() - centroids[labels[differ]].double()).square().sum(1)
    torch.testing.assert_close(apart, exact.sq_distances[differ], rtol=1e-5, atol=0)


def test_rows_too_far_off_to_add_up_are_labelled_as_others():
    x = torch.full((1000, 2), 1e18)
    x[500:] *= -1
    assert labels_of(x, x[[0, -1]], "euclidean").tolist() == [0] * 500 + [1] * 500


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("d", [2, 200])
def test_labels_refuse_what_assign_refuses(bad, d):
    x = torch.ones(300, d)
    x[7, 1] = bad
    centroids = torch.arange(2.0).unsqueeze(1).expand(2, d)
    with pytest.raises(ValueError, match="x must") as expected:
        functional.assign(x, centroids)
    with pytest.raises(ValueError, match="x must") as found:
        labels_of(x, centroids, "euclidean")
    assert str(found.value) == str(expected.value)
