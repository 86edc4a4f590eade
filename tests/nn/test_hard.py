"""The hard k-means layer: its fixed point is Lloyd's, its gradient what differences say."""

import copy

import pytest
import torch
from torch.autograd import gradcheck

import torchkm
from torchkm.nn import HardKMeans, SoftKMeans


@pytest.fixture
def x(generator):
    points = 4 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    return points.repeat(20, 1) + torch.randn(60, 2, generator=generator, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_it_ends_where_lloyd_does(blobs, metric, weighted, generator):
    weight = torch.rand(600, generator=generator, dtype=torch.float64) ** 6 if weighted else None
    options = {"init": blobs[:6], "solver": "lloyd", "metric": metric, "tol": 0}
    out = HardKMeans(6, metric=metric)(blobs, blobs[:6], weight)
    want = torchkm.kmeans(blobs, 6, sample_weight=weight, **options)
    torch.testing.assert_close(out.centroids, want.centroids)
    assert torch.equal(out.labels, want.labels)
    if weighted:
        assert not torch.equal(out.labels, HardKMeans(6, metric=metric)(blobs, blobs[:6]).labels)
    assert out.converged
    assert abs(int(out.n_iter) - want.n_iter) <= 1
    assert out.residual <= 1e-6


def test_weights_count_as_rows_do(x):
    twice = torch.cat([x, x[:20]])
    weight = torch.ones(60).double()
    weight[:20] = 2
    out, want = HardKMeans(3)(x, x[:3], weight), HardKMeans(3)(twice, x[:3])
    torch.testing.assert_close(out.centroids, want.centroids)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("max_iter", [1, 100])
def test_the_gradient_is_exact_after_any_number_of_steps(x, metric, max_iter):
    layer = HardKMeans(3, metric=metric, max_iter=max_iter)
    weight = torch.linspace(0.5, 1.5, 60).double()

    def centroids(x, weight):
        return layer(x, few[:3].detach(), weight).centroids

    few = x[:15].clone()
    assert gradcheck(centroids, (few.requires_grad_(), weight[:15].clone().requires_grad_()))


def test_it_is_soft_kmeans_without_a_temperature(x):
    upstream = torch.arange(6.0).view(3, 2).double()
    grads = []
    for layer in (HardKMeans(3), SoftKMeans(3, temperature=1e-3)):
        rows = x.clone().requires_grad_()
        (layer(rows, x[:3]).centroids * upstream).sum().backward()
        grads.append(rows.grad)
    torch.testing.assert_close(*grads)


def test_a_cluster_without_rows_keeps_its_centroid(x):
    start = torch.cat([x[:2], torch.full((1, 2), 1e3).double()])
    rows = x.clone().requires_grad_()
    out = HardKMeans(3)(rows, start)
    assert torch.equal(out.centroids[2], start[2])
    out.centroids.square().sum().backward()
    assert torch.isfinite(rows.grad).all()


def test_a_batch_is_its_problems_one_by_one_and_maps(x):
    stacked, starts = torch.stack([x, x.flip(0) * 3]), torch.stack([x[:3], x[3:6]])
    whole = HardKMeans(3)(stacked, starts)
    for i in range(2):
        one = HardKMeans(3)(stacked[i], starts[i])
        torch.testing.assert_close(one.centroids, whole.centroids[i])
        assert torch.equal(one.labels, whole.labels[i])
        assert one.n_iter == whole.n_iter[i]
    fixed = HardKMeans(3, max_iter=30, tol=0)
    mapped = torch.func.vmap(lambda *given: fixed(*given).centroids)(stacked, starts)
    torch.testing.assert_close(mapped, whole.centroids)
    grad = torch.func.grad(lambda x: fixed(x, starts[0]).centroids.sin().sum())(x)
    rows = x.clone().requires_grad_()
    fixed(rows, starts[0]).centroids.sin().sum().backward()
    torch.testing.assert_close(grad, rows.grad)


def test_a_fixed_number_of_steps_compiles(x):
    layer = HardKMeans(3, max_iter=5, tol=0)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, x[:3]).centroids, layer(x, x[:3]).centroids)


def test_it_goes_on_where_it_was_and_comes_back(x):
    layer = HardKMeans(3, 2)
    labels = layer(x, generator=seeded()).labels
    for step in range(3):
        out = layer(x + 0.05 * step)
        assert torch.equal(out.labels, labels)
        assert out.n_iter <= 2
    other = HardKMeans(3, 2)
    other.load_state_dict(layer.state_dict())
    for one in (other, copy.deepcopy(layer)):
        assert torch.equal(one.eval()(x).labels, layer.eval()(x).labels)
    before = layer.centroids.clone()
    layer(x + 3)
    assert torch.equal(layer.centroids, before)
    assert "HardKMeans(k=3, n_features=2, metric='euclidean'" in repr(layer)


def test_autocast_leaves_it_in_float32(x):
    rows = x.float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = HardKMeans(3)(rows, x[:3].float())
    out.centroids.square().sum().backward()
    want = HardKMeans(3)(x.float(), x[:3].float())
    assert torch.equal(out.centroids, want.centroids)
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: HardKMeans(2.5), TypeError, "k must be an integer, got 2.5"),
        (lambda: HardKMeans(2, metric="l1"), ValueError, "metric must be one of"),
        (lambda: HardKMeans(2, tol=-1), ValueError, "tol must be finite and at least 0"),
        (lambda: HardKMeans(4)(torch.randn(3, 2)), ValueError, "k must be at most the number"),
        (
            lambda: HardKMeans(2)(torch.ones(3, 2), torch.ones(3, 2)),
            ValueError,
            "centroids must have",
        ),
        (
            lambda: HardKMeans(1)(torch.full((3, 2), torch.nan), torch.ones(1, 2)),
            ValueError,
            "must be finite",
        ),
    ],
)
def test_bad_input_is_named(build, error, match):
    with pytest.raises(error, match=match):
        build()
