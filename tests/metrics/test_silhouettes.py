"""Silhouettes equal scikit-learn's, row by row, and sample as it does."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn import metrics as sk

from torchkm import metrics
from torchkm.kernels import layout

METRICS = ["euclidean", "cosine"]
each_metric = pytest.mark.parametrize("metric", METRICS)


def some_labels(generator, n=600, k=6):
    """Overlapping clusters; number 2 has no row, and the last has one."""
    labels = torch.randint(k, (n,), generator=generator)
    labels[labels == 2] = 11
    labels[5] = 40
    return labels


@each_metric
def test_rows_equal_scikit_learn(metric, blobs, generator):
    labels = some_labels(generator)
    got = metrics.silhouette_samples(blobs, labels, metric=metric)
    want = sk.silhouette_samples(blobs.numpy(), labels.numpy(), metric=metric)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    assert got[5] == 0
    mean = metrics.silhouette(blobs, labels, metric=metric)
    assert mean.item() == pytest.approx(want.mean(), rel=1e-10)


@each_metric
def test_real_rows_equal_scikit_learn(metric, digits, monkeypatch):
    monkeypatch.setattr(layout, "_MOST_ROWS", 500)  # several blocks
    x, targets = digits
    got = metrics.silhouette(x, targets, metric=metric)
    want = sk.silhouette_score(x.numpy(), targets.numpy(), metric=metric)
    assert got.item() == pytest.approx(want, rel=1e-10)


@each_metric
def test_several_clusterings_score_as_one_by_one(metric, blobs, generator, monkeypatch):
    monkeypatch.setattr(layout, "_MOST_ROWS", 256)  # several blocks
    each = [some_labels(generator, k=k) for k in (6, 3, 17)]
    got = metrics.silhouette_of_each(blobs, each, metric=metric)
    want = [metrics.silhouette(blobs, labels, metric=metric).item() for labels in each]
    assert got.tolist() == pytest.approx(want, rel=1e-12)
    with pytest.raises(ValueError, match="labels must hold at least one clustering, got none"):
        metrics.silhouette_of_each(blobs, [])


def test_silhouettes_by_hand():
    got = metrics.silhouette_samples([[0.0], [2.0], [3.0], [9.0]], [0, 0, 1, 2])
    # Row 0: a = 2, b = 3. Row 1: a = 2, b = 1. The others are alone.
    assert got.tolist() == [pytest.approx(1 / 3), -0.5, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
@each_metric
def test_other_rows_are_scored_in_float64(metric, dtype, blobs, generator):
    labels = some_labels(generator)
    x = (blobs - blobs.min() + 1).to(dtype)
    got = metrics.silhouette_samples(x, labels, metric=metric)
    want = metrics.silhouette_samples(x.double(), labels, metric=metric)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_close_rows_far_apart_keep_their_digits(generator):
    """Rows 0.01 from each other, 1000 from the next cluster and a million from 0."""
    x = 1e-2 * torch.randn(60, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(60) % 3
    x += 1000 * labels.unsqueeze(1) + 1e6
    got = metrics.silhouette_samples(x, labels)
    apart = (x.unsqueeze(1) - x).norm(dim=2)
    own = torch.stack([apart[i, labels == labels[i]].sum() / 19 for i in range(60)])
    other = torch.stack(
        [
            torch.stack([apart[i, labels == j].mean() for j in range(3) if j != labels[i]]).min()
            for i in range(60)
        ]
    )
    # 1e-5 of the scale of the rows: a product in float32 would lose all of it.
    torch.testing.assert_close(1 - got, own / other, rtol=1e-3, atol=0)


def test_equal_rows_of_two_clusters_score_zero(generator):
    x = torch.rand(3, 50, generator=generator)[[0, 0, 0, 0, 1, 1, 2]]
    got = metrics.silhouette_samples(x, [0, 0, 1, 1, 2, 2, 3])
    assert got.tolist() == [0, 0, 0, 0, 1, 1, 0]


@each_metric
def test_a_sample_is_scored_among_itself(metric, blobs, generator):
    labels = some_labels(generator)
    found = {
        metrics.silhouette(
            blobs,
            labels,
            metric=metric,
            sample_size=50,
            generator=torch.Generator().manual_seed(seed),
        ).item()
        for seed in (0, 0, 1)
    }
    assert len(found) == 2
    everyone = metrics.silhouette(blobs, labels, metric=metric).item()
    assert everyone not in found
    whole = metrics.silhouette(blobs, labels, metric=metric, sample_size=700)
    assert whole.item() == pytest.approx(everyone, rel=1e-12)


def test_a_sample_has_each_row_once(blobs):
    """Rows drawn twice would lie at distance 0: in 3 pairs out of 6 rows they would show."""
    x = torch.tensor([[0.0], [1.0], [10.0], [12.0], [30.0], [33.0]])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    subsets = {
        round(metrics.silhouette(x[pick], labels[pick]).item(), 9)
        for pick in torch.combinations(torch.arange(6), 5)
    }
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        got = metrics.silhouette(x, labels, sample_size=5, generator=generator)
        assert round(got.item(), 9) in subsets


def test_arrays_lists_and_gradients(blobs, generator):
    labels = some_labels(generator)
    want = metrics.silhouette(blobs, labels)
    assert metrics.silhouette(blobs.numpy(), labels.numpy()) == want
    assert metrics.silhouette(blobs.tolist(), labels.tolist()) == want
    got = metrics.silhouette(blobs.requires_grad_(), labels)
    assert got == want
    assert not got.requires_grad


X = torch.arange(12.0).reshape(6, 2) + 1
LABELS = [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("x", "labels", "kwargs", "error", "message"),
    [
        (X, [3] * 6, {}, ValueError, "at least 2 clusters .* got 1 for 6 rows"),
        (X, list(range(6)), {}, ValueError, "fewer than there are rows, got 6 for 6 rows"),
        (X, [0, 1], {}, ValueError, r"labels must have shape \(6,\)"),
        (X, [0, 0, 0, 1, 1, -1], {}, ValueError, "labels must not be negative, got -1"),
        (X, [0.0] * 6, {}, TypeError, "labels must hold integers, got float64"),
        (X / 0, LABELS, {}, ValueError, "6 of 6 rows hold NaN or infinity"),
        (X.long(), LABELS, {}, TypeError, "x must hold float32.* got int64"),
        (X, LABELS, {"metric": "manhattan"}, ValueError, "metric must be one of 'cosine', 'eucl"),
        (X - X, LABELS, {"metric": "cosine"}, ValueError, "6 of 6 rows of x are all zero"),
        (X, LABELS, {"sample_size": 2}, ValueError, "sample_size must be at least 3, got 2"),
        (X, LABELS, {"sample_size": 4.0}, TypeError, "sample_size must be an integer"),
        (X / 0, LABELS, {"sample_size": 3}, ValueError, "6 of 6 rows hold NaN or infinity"),
        (X, LABELS, {"sample_size": 3, "generator": 7}, TypeError, "generator must be a torch"),
        (X, [0] * 6, {"sample_size": 4}, ValueError, "at least 2 clusters .* got 1 for 4 rows"),
    ],
)
def test_errors(x, labels, kwargs, error, message):
    with pytest.raises(error, match=message):
        metrics.silhouette(x, labels, **kwargs)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_sparse_rows_are_scored_as_dense_ones(metric):
    x = scipy.sparse.random(300, 40, 0.2, format="csr", random_state=0)
    x = scipy.sparse.csr_array(x + scipy.sparse.eye_array(300, 40, format="csr"))
    x = x[np.diff(x.indptr) > 0]  # rows with a direction
    labels = np.arange(x.shape[0]) % 3
    np.testing.assert_allclose(
        metrics.silhouette_samples(x, labels, metric=metric),
        metrics.silhouette_samples(x.toarray(), labels, metric=metric),
        atol=1e-12,
    )
