import pytest
import torch

import torchkm
from torchkm import kernels
from torchkm.solvers import on_device


@pytest.fixture
def x(generator):
    return torch.randn(2, 3, 40, 4, generator=generator)


def test_a_batch_is_its_problems_one_by_one(x):
    starts = x[:, :, :5].clone()
    weight = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(1))
    result = torchkm.kmeans_batch(x, 5, init=starts, sample_weight=weight)
    assert result.centroids.shape == (2, 3, 5, 4)
    assert result.labels.shape == (2, 3, 40)
    for i in range(2):
        for j in range(3):
            one = torchkm.kmeans(x[i, j], 5, init=starts[i, j], sample_weight=weight[i, j])
            assert torch.equal(result.centroids[i, j], one.centroids)
            assert torch.equal(result.labels[i, j], one.labels)
            assert result.inertia[i, j].item() == one.inertia
            assert int(result.n_iter[i, j]) == one.n_iter
            assert result.status[3 * i + j] is one.status
    assert repr(result) == "KMeansBatch(batch=(2, 3), k=5, d=4, n=40)"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_gpu_fits_all_at_once(x):
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    flat, starts = x[0, :2], x[0, :2, :5].contiguous()
    going = on_device.Going("auto", 60, 0.0)
    fits = on_device.descend_each(flat.to(device), None, "euclidean", starts.to(device), going)
    for i, rows in enumerate(flat):
        found = torchkm.functional.assign(rows, fits.centroids[i].cpu())
        assert torch.equal(found.labels, fits.labels[i].cpu())
        assert fits.inertia[i].item() == pytest.approx(found.sq_distances.sum().item(), rel=1e-5)
        means = torch.stack([rows[found.labels == j].mean(0) for j in range(5)])
        assert (means - fits.centroids[i].cpu()).abs().max() < 1e-5


@pytest.fixture
def fitted(x):
    """Fit the rows of three small problems as a GPU does."""
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, starts = x[0, :, :20].to(device), x[0, :, :3].contiguous().to(device)
    going = on_device.Going("auto", 6, 0.0)

    def fit(rows=rows, metric="euclidean", order=(0, 1)):
        weight = torch.arange(1.0, 61.0, device=device).view(3, 20)
        weight = weight.permute(order).contiguous().permute(order)
        return on_device.descend_each(rows, weight, metric, starts, going)

    return fit


def same(found, expected):
    assert found.status == expected.status
    assert found.precision == expected.precision
    return all(
        torch.equal(mine, other) for mine, other in zip(found[:4], expected[:4], strict=True)
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_problems_that_find_no_room_together_are_fitted_in_parts(fitted, monkeypatch):
    expected, passes, tried = fitted(), kernels.passes, []

    def room_for_one(rows, starts, *args, **settings):
        tried.append((len(starts), settings["precision"]))
        if len(starts) > 1:
            raise torch.OutOfMemoryError
        return passes(rows, starts, *args, **settings)

    monkeypatch.setattr(kernels, "passes", room_for_one)
    assert same(fitted(), expected)
    both = ("auto", "tf32")
    refused = [(size, way) for size in (3, 2) for way in both]
    assert tried == [*refused, *[(1, "auto")] * 3]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_more_problems_than_a_grid_has_room_for_are_fitted_in_parts(fitted, monkeypatch):
    expected = fitted()
    monkeypatch.setattr(on_device, "_MOST_PROBLEMS", 2)
    assert same(fitted(), expected)


def test_no_room_for_one_problem_is_an_error(fitted, monkeypatch):
    def none(*args, **settings):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(kernels, "passes", none)
    with pytest.raises(torch.OutOfMemoryError):
        fitted()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_of_a_batch_may_lie_in_any_order(fitted, x):
    rows = x[0, :, :20].transpose(0, 1).contiguous().transpose(0, 1)
    for metric in ("euclidean", "cosine"):
        expected = fitted(metric=metric)
        assert same(fitted(rows.to(expected.labels.device), metric, order=(1, 0)), expected)


@pytest.mark.gpu
def test_batches_on_a_gpu(x):
    result = torchkm.kmeans_batch(x.cuda(), 5)
    assert result.centroids.shape == (2, 3, 5, 4)
    assert result.inertia.shape == (2, 3)


def test_bad_batches_are_named(x):
    with pytest.raises(ValueError, match=r"x must have shape \(\*batch, n, d\), got \(40, 4\)"):
        torchkm.kmeans_batch(x[0, 0], 5)
    with pytest.raises(ValueError, match="at least one problem"):
        torchkm.kmeans_batch(x[:0], 5)
    with pytest.raises(ValueError, match=r"of one row, got \(2, 3, 0, 4\)"):
        torchkm.kmeans_batch(x[:, :, :0], 5)
    with pytest.raises(ValueError, match=r"init must have shape \(5, 4\) or \(2, 3, 5, 4\)"):
        torchkm.kmeans_batch(x, 5, init=torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(2, 3, 40\)"):
        torchkm.kmeans_batch(x, 5, sample_weight=torch.ones(40))
    with pytest.raises(ValueError, match="k must"):
        torchkm.kmeans_batch(x, 41)
