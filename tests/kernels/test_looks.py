"""Products that prove labels: the fastest that tells enough, and none in vain."""

from itertools import pairwise

import pytest
import torch
from proving import (
    leave_loops,
    mixture,
    multiply_in_bfloat16,
    multiply_in_eight_bits,
    sure_and_right,
)

from torchkm.kernels import bfloat16, int8, looks, proof, rivals


@pytest.fixture(autouse=True)
def no_loops(monkeypatch):
    leave_loops(monkeypatch)


@pytest.fixture
def scored(monkeypatch):
    """Note which products find labels, of how many rows at a time."""
    noted = []
    for way in (looks.InInt8, looks.InBfloat16, looks.Plain):

        def score(self, rows, found, way=way, score=way.score):
            paid = score(self, rows, found)
            noted.extend([(way, len(rows))] if paid else [])
            return paid

        monkeypatch.setattr(way, "score", score)
    return noted


def test_rows_that_eight_bits_tell_little_of_are_multiplied_otherwise(
    monkeypatch, scored, generator
):
    multiply_in_bfloat16(monkeypatch)
    multiply_in_eight_bits(monkeypatch)
    monkeypatch.setattr(rivals, "_FEW", 1 / 16)
    monkeypatch.setattr(int8, "_FEWEST", 128)
    x, centroids = mixture(4000, 200, 128, generator)
    assert sure_and_right(x, centroids) > 0.99
    assert scored == [(looks.InInt8, 4000)]
    scored.clear()
    blurred = torch.randn(4000, 200, generator=generator)
    assert sure_and_right(blurred, blurred[:128] / 10) > 0.9
    assert scored == [(looks.InBfloat16, 4000)]
    scored.clear()
    proof.labels(x, centroids[:127])
    assert scored == [(looks.InBfloat16, 4000)]


def test_eight_bits_are_left_behind_where_they_tell_no_more(monkeypatch, scored, generator):
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    multiply_in_eight_bits(monkeypatch)
    monkeypatch.setattr(rivals, "_FEW", 1 / 16)
    monkeypatch.setattr(looks, "_MOST_ROWS", 1000)
    x, centroids = mixture(4000, 200, 128, generator)
    x[2500] = torch.nan
    assert 2500 in proof.labels(x, centroids)[1]
    assert scored == [(looks.InInt8, 1000)] * 2 + [(looks.Plain, 1000)] * 2


@pytest.mark.parametrize("in_cache", [200, 1000])
def test_rows_that_reach_further_and_further_take_a_grid_each(in_cache, monkeypatch, generator):
    multiply_in_eight_bits(monkeypatch)
    monkeypatch.setattr(looks, "_IN_CACHE", in_cache * 200)
    grids, make = [], int8.BoundedCentroids.keys
    monkeypatch.setattr(
        int8.BoundedCentroids, "keys", lambda self, grid: grids.append(grid) or make(self, grid)
    )
    room = rivals.Found.room

    def unknown(n, dtype):
        found = room(n, dtype)
        found.leads.fill_(torch.nan)
        return found

    monkeypatch.setattr(rivals.Found, "room", unknown)
    x, centroids = mixture(4000, 200, 128, generator)
    x[1000:2000] *= 2
    x[3000:] *= 5
    assert sure_and_right(x, centroids) > 0.98
    assert 3 <= len(grids) <= 20
    assert all(wider.step > grid.step for grid, wider in pairwise(grids))


def test_products_that_are_not_needed_are_not_made_ready(monkeypatch, generator):
    multiply_in_bfloat16(monkeypatch)
    multiply_in_eight_bits(monkeypatch)
    x, centroids = mixture(4000, 200, 128, generator)
    made = []
    for way in (looks.InInt8, looks.InBfloat16, looks.Projected, looks.Plain):

        def make(self, *args, way=way, make=way.__init__):
            made.append(way)
            make(self, *args)

        monkeypatch.setattr(way, "__init__", make)
    proof.labels(x, centroids)
    assert made == [looks.InInt8]
