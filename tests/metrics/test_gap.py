"""The gap is that of the paper, over rows drawn from a box around the rows."""

import math

import numpy as np
import pytest
import torch

import torchkm
from torchkm.metrics import GapStatistic, choose_k, gap_statistic


def in_one(rows):
    """The inertia of rows as one cluster."""
    return (rows - rows.mean(0)).square().sum()


class Spy:
    """A clusterer that keeps what it was given."""

    def __init__(self):
        self.rows = []

    def __call__(self, rows):
        self.rows.append(rows)
        return in_one(rows).item()


@pytest.mark.parametrize("reference", ["features", "principal"])
def test_equals_the_definition(reference, blobs, generator):
    spy = Spy()
    found = gap_statistic(blobs, spy, n_references=7, reference=reference, generator=generator)
    own, *references = [math.log(in_one(rows)) for rows in spy.rows]
    assert torch.equal(spy.rows[0], blobs)
    assert len(references) == 7
    assert found.log_inertia == pytest.approx(own)
    assert found.reference_log_inertia == pytest.approx(np.mean(references))
    assert found.gap == pytest.approx(np.mean(references) - own)
    assert found.standard_error == pytest.approx(np.std(references) * math.sqrt(1 + 1 / 7))
    assert found.standard_error > 0


def test_references_lie_in_the_box_that_was_asked_for(generator):
    """Rows on a diagonal: the box of their features is a square, that of their axes a line."""
    x = torch.rand(200, 1, generator=generator).expand(-1, 2) + 3
    thin, wide = Spy(), Spy()
    gap_statistic(x, thin, n_references=2, generator=generator)
    gap_statistic(x, wide, n_references=2, reference="features", generator=generator)
    for rows in thin.rows[1:]:
        assert rows.dtype == x.dtype
        torch.testing.assert_close(rows[:, 0], rows[:, 1], rtol=1e-5, atol=0)
    for rows in wide.rows[1:]:
        assert (rows[:, 0] - rows[:, 1]).abs().max() > 0.5
    for rows in thin.rows[1:] + wide.rows[1:]:
        assert rows.shape == x.shape
        assert rows.min() > x.min() - 1e-5
        assert rows.max() < x.max() + 1e-5
        assert rows[:, 0].max() - rows[:, 0].min() > 0.9


def test_the_generator_decides(blobs):
    def found(seed):
        generator = torch.Generator().manual_seed(seed)
        return gap_statistic(blobs, in_one, generator=generator)

    assert found(0) == found(0)
    assert found(0) != found(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_k_means_finds_the_number_of_blobs(dtype, generator):
    centres = torch.tensor([[40.0, 40], [200, 40], [120, 200]], dtype=torch.float64)
    noise = 8 * torch.randn(3, 60, 2, generator=generator, dtype=torch.float64)
    x = (centres.unsqueeze(1) + noise).flatten(0, 1).to(dtype)

    def gap(k):
        def inertia_of(rows):
            return torchkm.kmeans(rows, k=k, n_init=3, generator=generator).inertia

        return gap_statistic(x, inertia_of, generator=generator)

    gaps = {k: gap(k) for k in (1, 2, 3, 4, 5)}
    assert choose_k(gaps) == 3
    assert max(gaps, key=lambda k: gaps[k].gap) == 3


def test_rows_without_clusters_are_one(generator):
    x = torch.rand(200, 2, generator=generator)
    gaps = {
        k: gap_statistic(
            x,
            lambda rows, k=k: torchkm.kmeans(rows, k=k, n_init=3, generator=generator).inertia,
            generator=generator,
        )
        for k in (1, 2)
    }
    assert choose_k(gaps) == 1


def test_no_inertia_is_an_endless_gap(generator):
    x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])

    def inertia_of(rows):
        return torch.tensor(0.0) if rows is not x and len(rows.unique()) == 2 else in_one(rows)

    found = gap_statistic(x, inertia_of, generator=generator)
    assert found.gap == math.inf
    assert found.log_inertia == -math.inf
    assert math.isfinite(found.standard_error)
    assert choose_k({1: gap_statistic(x, in_one, generator=generator), 2: found, 3: found}) == 2


@pytest.mark.parametrize(
    ("gaps", "want"),
    [
        ({1: 0.2, 2: 0.5, 3: 0.55}, 2),
        ({1: 0.2, 2: 0.5, 3: 0.7}, None),
        ({3: 0.55, 1: 0.2, 2: 0.5}, 2),
        ({2: 0.5, 4: 0.6, 8: 0.3}, 2),
        ({2: 0.3, 4: 0.6, 8: 0.3}, 4),
    ],
)
def test_the_smallest_k_that_the_next_does_not_beat(gaps, want):
    assert choose_k({k: GapStatistic(gap, 0.1, 0.0, gap) for k, gap in gaps.items()}) == want


def test_one_gap_is_no_choice():
    with pytest.raises(ValueError, match="at least 2 numbers of clusters, got 1"):
        choose_k({2: GapStatistic(1.0, 0.1, 0.0, 1.0)})


X = torch.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("x", "inertia_of", "kwargs", "error", "message"),
    [
        (X[0], in_one, {}, ValueError, r"x must have shape \(n, d\), got \(2,\)"),
        (X * torch.inf, in_one, {}, ValueError, "4 of 4 rows hold NaN or infinity"),
        (torch.ones(5, 2), in_one, {}, ValueError, "x must have rows that differ, got 5 equal"),
        (X, 3, {}, TypeError, "inertia_of must be a function of rows, got 3"),
        (X, None, {}, TypeError, "inertia_of must be a function of rows, got None"),
        (X, lambda rows: -1.0, {}, ValueError, r"inertia_of\(rows\) must be finite and at least 0"),
        (X, lambda rows: math.nan, {}, ValueError, r"inertia_of\(rows\) must be finite"),
        (X, lambda rows: rows, {}, TypeError, r"inertia_of\(rows\) must be a number"),
        (X, lambda rows: 0.0, {}, ValueError, r"inertia_of\(4 reference rows\) is 0"),
        (X, in_one, {"n_references": 0}, ValueError, "n_references must be at least 1, got 0"),
        (X, in_one, {"reference": "pca"}, ValueError, "one of 'features', 'principal'; got 'pca'"),
        (X, in_one, {"generator": 3}, TypeError, "generator must be a torch.Generator"),
    ],
)
def test_errors(x, inertia_of, kwargs, error, message):
    with pytest.raises(error, match=message):
        gap_statistic(x, inertia_of, **kwargs)
