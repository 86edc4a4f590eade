"""Rows scored in registers: as one number after the other would be, whatever the registers."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from llvmlite import binding

from torchkm.kernels.compiled.columns import (
    RUN,
    add_squares,
    label_run,
    lead_run,
    room,
    score_run,
    turn,
)
from torchkm.kernels.compiled.tile import WIDTH


def run_of(d, dtype, seed=0):
    generator = np.random.default_rng(seed)
    columns = room(d, np.zeros(1, dtype))
    columns[:] = generator.normal(size=columns.shape)
    return columns, generator


def scores_of(columns, aims):
    return aims[:, :-1].astype(float) @ columns + aims[:, -1:]  # (k, RUN)


def label(columns, aims, n=RUN):
    best, found = np.empty(RUN, columns.dtype), np.empty(RUN, np.int32)
    labels = np.full(n, -1)
    label_run(columns, aims, best, found, labels)
    return best, labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 64, 129])
@pytest.mark.parametrize("k", range(1, 14))
def test_the_best_and_the_second_best_are_found(k, d, dtype):
    columns, generator = run_of(d, dtype)
    aims = generator.normal(size=(k, d + 1)).astype(dtype)
    scores = scores_of(columns, aims)
    best, labels = label(columns, aims)
    tolerance = {"rtol": 0, "atol": 1e2 * np.finfo(dtype).eps * d}
    assert (labels == scores.argmax(0)).all()
    np.testing.assert_allclose(best, scores.max(0), **tolerance)
    top, second = np.empty(RUN, dtype), np.empty(RUN, dtype)
    lead_run(columns, aims, top, second)
    assert (top == best).all()
    runner_up = np.sort(scores, 0)[-2] if k > 1 else np.full(RUN, -np.inf)
    np.testing.assert_allclose(second, runner_up, **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_added_up_in_their_order_and_the_bias_last(dtype):
    large, columns = 2 / np.finfo(dtype).eps, room(3, np.zeros(1, dtype))
    columns[:] = np.array([[large], [1], [-large]])
    # Alike as numbers are, but the small one is lost where it comes after a large one.
    aims = np.array([[1, 1, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0.75]], dtype)
    best, labels = label(columns, aims)
    assert (labels == 1).all()
    best, labels = label(columns, aims[[0, 2]])
    assert (best == 0.75).all()
    assert (labels == 1).all()


@pytest.mark.parametrize("k", [4, 6, 7])
def test_of_equal_scores_the_first_counts(k):
    columns, generator = run_of(5, np.float32)
    aims = generator.normal(size=(k, 6)).astype(np.float32)
    _, labels = label(columns, np.tile(aims, (5, 1)))
    assert (labels == label(columns, aims)[1]).all()
    top, second = np.empty(RUN, np.float32), np.empty(RUN, np.float32)
    lead_run(columns, np.tile(aims, (2, 1)), top, second)
    assert (top == second).all()


def test_a_row_that_is_no_number_gets_a_label_and_no_other_is_touched():
    columns, generator = run_of(4, np.float32)
    aims = generator.normal(size=(6, 5)).astype(np.float32)
    _, want = label(columns, aims)
    columns[2, 7], columns[1, 50] = np.nan, np.inf
    _, labels = label(columns, aims)
    kept = np.delete(np.arange(RUN), [7, 50])
    assert (labels[kept] == want[kept]).all()
    assert labels[7] == 0
    assert 0 <= labels[50] < 6


def test_a_short_run_is_written_no_further():
    columns, generator = run_of(4, np.float32)
    aims = generator.normal(size=(6, 5)).astype(np.float32)
    _, some = label(columns, aims, 9)
    assert (some == label(columns, aims)[1][:9]).all()


def test_columns_begin_where_a_line_of_the_cache_does():
    for d in range(1, 20):
        assert room(d, np.zeros(1, np.float32)).ctypes.data % 64 == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 8, 30, RUN])
@pytest.mark.parametrize("d", [3, 8, 11, 19])
def test_rows_are_laid_side_by_side(d, n, dtype):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(n, d)).astype(dtype)
    origin = generator.normal(size=d).astype(dtype)
    columns = np.zeros((d, RUN), dtype)
    turn(rows, origin, columns, RUN - n)
    assert (columns[:, RUN - n :] == (rows - origin).T).all()
    assert not columns[:, : RUN - n].any()
    norms = np.ones(RUN, dtype)
    add_squares(columns, norms)
    np.testing.assert_allclose(norms, 1 + (columns**2).sum(0), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 7, 8])
def test_all_scores_are_written(k, dtype):
    columns, generator = run_of(9, dtype)
    aims = generator.normal(size=(k, 10)).astype(dtype)
    scores = np.full((k, RUN), np.nan, dtype)
    score_run(columns, aims, scores)
    np.testing.assert_allclose(scores, scores_of(columns, aims), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("fewer", "width"), [("avx512|amx", 64), ("avx|amx|fma", 32)])
def test_other_registers_find_the_same(fewer, width, tmp_path):
    code = f"""
import re
from llvmlite import binding
features = binding.get_host_cpu_features()
for name in features:
    if re.match("{fewer}", name):
        features[name] = False
binding.get_host_cpu_features = lambda: features
import numpy as np
from torchkm.kernels.compiled import tile
from torchkm.kernels.compiled.columns import RUN, label_run
from torchkm.kernels.compiled.wide import score
from torchkm.kernels.compiled.wide_tile import aims_of
found = [tile.WIDTH]
for dtype in (np.float32, np.float64):
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(9, RUN)).astype(dtype)
    aims = generator.normal(size=(7, 10)).astype(dtype)
    best, whose = np.empty(RUN, dtype), np.empty(RUN, np.int32)
    labels = np.empty(RUN, np.int64)
    label_run(columns, aims, best, whose, labels)
    scores = aims[:, :9].astype(float) @ columns + aims[:, 9:]
    found.append(int((labels != scores.argmax(0)).sum()))
    rows = generator.normal(size=(6, 37)).astype(dtype)
    centroids, bias = generator.normal(size=(8, 37)).astype(dtype), np.arange(8).astype(dtype)
    scores = np.empty((8, RUN), dtype)
    score(rows, aims_of(centroids, bias), scores)
    far = abs(scores[:, :6] - (centroids.astype(float) @ rows.T + bias[:, None])) > 1e-5
    found.append(int(far.sum()))
print(*found)
"""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env=env)
    # What a CPU does not have is not missed; one with NEON has nothing else.
    fewest = min(width, WIDTH) if binding.get_host_cpu_features().get("sse2") else WIDTH
    assert out.split() == [str(fewest), *"0000"]
