"""Calinski-Harabasz and Davies-Bouldin equal scikit-learn's, also where they are degenerate."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn import metrics as sk

from torchkm import metrics
from torchkm.kernels import layout

SCORES = {
    metrics.calinski_harabasz: sk.calinski_harabasz_score,
    metrics.davies_bouldin: sk.davies_bouldin_score,
}
each_score = pytest.mark.parametrize("score", SCORES)


def davies_bouldin_of(x, labels):
    """From differences: scikit-learn's distances of rows on their means are 1e-8 of the rows."""
    rows = [x[labels == j] for j in labels.unique()]
    means = torch.stack([some.mean(0) for some in rows])
    spread = torch.stack([(s - m).norm(dim=1).mean() for s, m in zip(rows, means, strict=True)])
    apart = (means.unsqueeze(1) - means).norm(dim=2).fill_diagonal_(torch.inf)
    return ((spread.unsqueeze(1) + spread) / apart).amax(1).mean().item()


@each_score
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("k", [2, 6, 300])
def test_equals_scikit_learn(score, k, offset, blobs, generator, monkeypatch):
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 100)  # several blocks
    # Numbers without rows, and clusters of one.
    labels = 3 * torch.randint(k, (600,), generator=generator)
    labels[:100] = 0
    labels[7] = 10_000
    x = blobs + offset
    got = score(x, labels)
    assert got.dtype == torch.float64
    want = SCORES[score](x.numpy(), labels.numpy())
    if score is metrics.davies_bouldin:
        assert got.item() == pytest.approx(want, rel=1e-6)
        want = davies_bouldin_of(x, labels)
    assert got.item() == pytest.approx(want, rel=1e-10)


@each_score
def test_real_rows_equal_scikit_learn(score, digits):
    x, targets = digits
    want = SCORES[score](x.numpy(), targets.numpy())
    assert score(x, targets).item() == pytest.approx(want, rel=1e-10)
    assert score(x.float(), targets).item() == pytest.approx(want, rel=1e-6)


@each_score
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_other_rows_are_scored_in_float64(score, dtype, blobs, generator):
    labels = torch.randint(6, (600,), generator=generator)
    x = (blobs - blobs.min() + 1).to(dtype)
    before = x.clone()
    torch.testing.assert_close(score(x, labels), score(x.double(), labels), rtol=1e-12, atol=0)
    assert torch.equal(x, before)


@each_score
@pytest.mark.parametrize(
    ("x", "labels"),
    [
        ([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1]),
        ([[-1.0], [1.0], [-2.0], [2.0]], [0, 0, 1, 1]),
        ([[-1.0], [1.0], [-2.0], [2.0], [7.0], [9.0]], [0, 0, 1, 1, 2, 2]),
        ([[3.0], [3.0], [3.0]], [0, 0, 1]),
    ],
    ids=["no spread", "one mean", "two means alike", "one value"],
)
def test_degenerate_rows_equal_scikit_learn(score, x, labels):
    assert score(x, labels).item() == pytest.approx(SCORES[score](x, labels), rel=1e-12)


@each_score
def test_rounding_is_no_spread(score):
    """Three times 0.1 has the mean 0.1 and a last digit."""
    x = torch.tensor([[0.1], [0.1], [0.1], [0.7], [0.7]], dtype=torch.float64)
    want = 1 if score is metrics.calinski_harabasz else 0
    assert score(x, [0, 0, 0, 1, 1]).item() == want


def test_means_that_differ_by_rounding_are_not_compared(generator):
    """Two rings around one point, and a third cluster beside them."""
    turn = torch.linspace(0, 2 * torch.pi, 12, dtype=torch.float64)[:-1]
    ring = torch.stack([turn.cos(), turn.sin()], dim=1)
    x = torch.cat([ring, 3 * ring, ring / 10 + 8]) + 0.1
    got = metrics.davies_bouldin(x, torch.arange(3).repeat_interleave(11))
    apart = 128**0.5
    want = (1.1 / apart + 3.1 / apart + 3.1 / apart) / 3
    assert got.item() == pytest.approx(want, rel=1e-9)


X = torch.arange(8.0).reshape(4, 2)


@each_score
@pytest.mark.parametrize(
    ("x", "labels", "error", "message"),
    [
        (X, [0, 0, 0, 0], ValueError, "at least 2 clusters .* got 1 for 4 rows"),
        (X, [0, 1, 2, 3], ValueError, "fewer than there are rows, got 4 for 4 rows"),
        (X, [0, 1], ValueError, r"labels must have shape \(4,\)"),
        (X, [0, 0, 1, 0.5], TypeError, "labels must hold integers, got float64"),
        (X * torch.nan, [0, 0, 1, 1], ValueError, "4 of 4 rows hold NaN or infinity"),
        (X[0], [0, 0], ValueError, r"x must have shape \(n, d\), got \(2,\)"),
    ],
)
def test_errors(score, x, labels, error, message):
    with pytest.raises(error, match=message):
        score(x, labels)


@pytest.mark.parametrize("score", [metrics.calinski_harabasz, metrics.davies_bouldin])
def test_sparse_rows_are_scored_as_dense_ones(score):
    x = scipy.sparse.random(300, 40, 0.2, format="csr", random_state=0)
    labels = np.arange(300) % 3
    torch.testing.assert_close(score(x, labels), score(x.toarray(), labels))
