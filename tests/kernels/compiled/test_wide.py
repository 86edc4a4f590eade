"""Wide rows scored as they lie, and added up by their labels."""

import numpy as np
import pytest

pytest.importorskip("numba")

from torchkm.kernels.compiled import segments, wide
from torchkm.kernels.compiled.columns import RUN
from torchkm.kernels.compiled.wide_tile import aims_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [16, 17, 23, 31, 48, 150])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 2), (4, 3), (5, 7), (RUN, 13)])
def test_scores_are_products_and_what_is_added(n, k, d, dtype):
    generator = np.random.default_rng(0)
    rows, centroids = (generator.normal(size=(m, d)).astype(dtype) for m in (n, k))
    bias, scores = generator.normal(size=k).astype(dtype), np.full((k, RUN), 7, dtype)
    wide.score(rows, aims_of(centroids, bias), scores)
    truth = centroids.astype(float) @ rows.T + bias[:, None]
    tolerance = 2 * d * np.finfo(dtype).eps
    np.testing.assert_allclose(scores[:, :n], truth, rtol=tolerance, atol=10 * tolerance)
    assert (scores[:, n:] == 7).all()


@pytest.mark.parametrize("at", [0, 16, 36])
def test_a_number_that_is_none_spoils_its_row_alone(at):
    generator = np.random.default_rng(0)
    rows, centroids = (generator.normal(size=(m, 37)).astype(np.float32) for m in (4, 5))
    rows[2, at] = np.nan
    scores = np.zeros((5, RUN), np.float32)
    wide.score(rows, aims_of(centroids, np.zeros(5)), scores)
    assert np.isnan(scores[:, 2]).all()
    assert np.isfinite(scores[:, [0, 1, 3]]).all()


@pytest.mark.parametrize("n", [1, 9, RUN])
def test_squares_of_rows_are_added_up(n):
    rows = np.random.default_rng(0).normal(size=(n, 37)).astype(np.float32)
    squares = np.full(RUN, 7, np.float32)
    wide.measure(rows, squares)
    np.testing.assert_allclose(squares[:n], (rows.astype(float) ** 2).sum(1), rtol=1e-5)
    assert (squares[n:] == 7).all()


def test_of_equal_scores_the_first_is_best():
    scores = np.random.default_rng(0).normal(size=(5, RUN)).astype(np.float32)
    best, found = np.empty(RUN, np.float32), np.empty(RUN, np.int32)
    wide.find_best(np.concatenate([scores, scores]), best, found)
    assert (found == scores.argmax(0)).all()
    assert (best == scores.max(0)).all()


@pytest.mark.parametrize("add", [segments.add, segments.add_on_threads])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, segments.NUMBERS, 2 * segments.NUMBERS + 3])
def test_rows_are_added_to_the_sums_of_their_clusters(d, dtype, add):
    generator = np.random.default_rng(0)
    rows, origin = (generator.normal(size=size).astype(dtype) for size in ((300, d), d))
    labels, sums = generator.integers(0, 6, 300), generator.normal(size=(7, d)).astype(dtype)
    truth = sums.astype(float)
    np.add.at(truth, labels, rows.astype(float) - origin)
    squares = np.zeros(-(-d // segments.NUMBERS))
    add(rows, origin, labels, sums, squares)
    np.testing.assert_allclose(sums, truth, rtol=0, atol=1e3 * np.finfo(dtype).eps)
    assert squares.sum() == pytest.approx(((rows.astype(float) - origin) ** 2).sum(), rel=1e-5)
