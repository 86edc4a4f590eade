"""Loops over narrow rows: their labels are those of a fresh look, whatever the shape."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import torchkm
from torchkm.kernels import (
    blocked,
    compiled,
    dispatch,
    labels,
    nearest_and_sums,
    rough,
    rough_sums,
    sq_differences,
)
from torchkm.kernels import nearest as look_up
from torchkm.kernels.compiled import kept, narrow, once
from torchkm.kernels.compiled.columns import RUN


def aims_of(centroids):
    return np.column_stack([centroids, -(centroids**2).sum(1) / 2])


def rows_and_centroids(n, d, k, dtype, seed=0):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n, d)).astype(dtype)
    return rows, generator.normal(size=(k, d)).astype(dtype)


def nearest(rows, centroids):
    apart = (rows[:, None].astype(np.float64) - centroids[None]) ** 2
    return apart.sum(2).argmin(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 16, 17, 31, 40])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (RUN - 1, 3), (RUN, 2), (3 * RUN + 7, 12)])
@pytest.mark.parametrize("label", [narrow.label, narrow.label_on_threads])
def test_labels_are_those_of_the_nearest(label, n, k, d, dtype):
    rows, centroids = rows_and_centroids(n, d, k, dtype)
    origin, found = np.full(d, 0.5, dtype), np.full(n, -1)
    squares = label(rows, origin, aims_of(centroids - origin), found)
    assert (found != nearest(rows, centroids)).sum() <= n // 500
    assert squares == pytest.approx(((rows - origin).astype(np.float64) ** 2).sum())


def test_rows_on_threads_get_what_they_get_on_one():
    rows, centroids = rows_and_centroids(50 * RUN + 3, 6, 9, np.float32)
    found = np.full((2, len(rows)), -1)
    for label, into in zip((narrow.label, narrow.label_on_threads), found, strict=True):
        label(rows, np.zeros(6, np.float32), aims_of(centroids), into)
    assert (found[0] == found[1]).all()
    columns = np.zeros((51, 6, RUN), np.float32)
    columns.transpose(0, 2, 1).reshape(-1, 6)[: len(rows)] = rows  # a copy, so below as well
    for start in range(0, len(rows), RUN):
        some = rows[start : start + RUN]
        columns[start // RUN, :, : len(some)] = some.T
    in_runs = np.full((2, len(rows)), -1)
    for label, into in zip((kept.label_runs, kept.label_runs_on_threads), in_runs, strict=True):
        label(columns, aims_of(centroids), into)
    assert (in_runs == found).all()


@pytest.mark.parametrize(("k", "d"), [(8, 6), (40, 6), (33, 60), (300, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_loops_label_as_operations_do(k, d, dtype, offset, monkeypatch, generator):
    asked, label = [], once.labels
    monkeypatch.setattr(once, "labels", lambda *args: asked.append(args) or label(*args))
    x = (torch.randn(5000, d, generator=generator, dtype=torch.float64) + offset).to(dtype)
    centroids = x[:k].clone()
    found, measured = labels(x, centroids, False)
    assert len(asked) == 1
    assert measured is None
    want, _ = blocked.labels(x, centroids, False, dispatch.origin_of(x, False))
    assert (found != want).sum() <= 2
    assert torch.equal(found[:k], torch.arange(k))


@pytest.mark.parametrize(("k", "d"), [(4, 3), (64, 40)])
def test_of_equal_centroids_the_first_takes_the_rows(k, d, generator):
    x = torch.randn(900, d, generator=generator)
    found, _ = labels(x, x[:k].repeat(3, 1), False)
    assert found.max() < k
    assert torch.equal(found[:k], torch.arange(k))


@pytest.mark.parametrize(("k", "d"), [(4, 3), (64, 40)])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_rows_that_cannot_be_squared_are_left_to_be_told(k, d, number, generator):
    x = torch.randn(900, d, generator=generator)
    assert once.labels(x, x[:k], x[0]) is not None
    x[700, 2] = number
    assert once.labels(x, x[:k], x[0]) is None
    assert not labels(x, x[:k], False)[1].isfinite().all()


def drawn_weights(weighted, n, generator):
    if not weighted:
        return None
    return torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) > 0.2)


@pytest.mark.parametrize(("k", "d"), [(1, 1), (8, 6), (3, 100), (40, 6), (33, 60), (300, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [400, 9000])
def test_loops_measure_and_add_up_as_operations_do(n, k, d, dtype, offset, weighted, generator):
    x = (torch.randn(n, d, generator=generator, dtype=torch.float64) + offset).to(dtype)
    centroids, origin = x[:k] + 0.1, dispatch.origin_of(x, False)
    weight = drawn_weights(weighted, n, generator)
    assert compiled.reader_of(x, centroids, False) is once
    found, sq_distances, counts, sums = nearest_and_sums(x, centroids, weight, False, origin)
    want, far, *_ = blocked.nearest_and_sums(x, centroids, weight, False, origin)
    assert (found != want).sum() <= 2
    assert all(part.is_contiguous() for part in (found, sq_distances, counts, sums))
    torch.testing.assert_close(sq_distances, far, atol=1e-4, rtol=1e-4)
    weights = torch.ones(n, dtype=torch.float64) if weight is None else weight.double()
    member = torch.nn.functional.one_hot(found, k).double() * weights.unsqueeze(1)  # (n, k)
    torch.testing.assert_close(counts, member.sum(0))
    torch.testing.assert_close(sums, member.T @ x.double())
    again = look_up(x, centroids, False, origin)
    assert torch.equal(again[0], found)
    assert torch.equal(again[1], sq_distances)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [400, 30_000])
@pytest.mark.parametrize("some", [False, True])
def test_distances_to_given_centroids_are_those_of_operations(some, n, dtype, generator):
    x = 1000 + torch.randn(n, 20, generator=generator, dtype=dtype)
    centroids, labels = x[:7] + 0.1, torch.randint(7, (n,), generator=generator)
    index = torch.randperm(n, generator=generator)[: n // 2] if some else None
    found = sq_differences(x, centroids, labels, index, False)
    want = blocked.sq_differences(x, centroids, labels, index, False)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=0)
    assert compiled.reader_of(x, centroids, False) is once


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_on_threads_are_those_on_one(weighted, generator):
    x = torch.randn(20_000, 5, generator=generator)
    weight = drawn_weights(weighted, 20_000, generator)
    found = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(nearest_and_sums(x, x[:9], weight, False, x[0]))
    assert torch.equal(found[0][0], found[1][0])
    for part, same in zip(*found, strict=True):
        torch.testing.assert_close(part, same)


@pytest.mark.parametrize(("k", "d"), [(4, 3), (64, 40)])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_rows_that_cannot_be_squared_show_in_their_distance(k, d, number, generator):
    x = torch.randn(900, d, generator=generator)
    x[700, 2] = number
    _, sq_distances = look_up(x, x[:k], False, x[0])
    assert torch.equal(torch.nonzero(~sq_distances.isfinite()).squeeze(1), torch.tensor([700]))


def test_a_batch_of_narrow_rows_is_not_guessed(monkeypatch, generator):
    monkeypatch.setattr(rough, "sums", None)
    x = torch.randn(700, 6, generator=generator)
    counts, sums, inertia = rough_sums(x, x[:8], False, x[0], rough.Directions())
    _, sq_distances, its_counts, its_sums = nearest_and_sums(x, x[:8], None, False, x[0])
    assert torch.equal(counts, its_counts)
    assert torch.equal(sums, its_sums)
    assert inertia.item() == pytest.approx(sq_distances.double().sum().item())


def test_gradients_that_nobody_asked_for_are_not_in_the_way(generator):
    x = torch.randn(300, 6, generator=generator).requires_grad_()
    centroids = torch.randn(4, 6, generator=generator).requires_grad_()
    with torch.no_grad():
        found = torchkm.functional.assign(x, centroids)
    assert torch.equal(found.labels, torch.cdist(x, centroids).argmin(1))
    assert not found.sq_distances.requires_grad


@pytest.mark.parametrize("change", ["strided", "unit", "uint8", "half", "another dtype", "wide"])
def test_what_is_not_for_a_loop_takes_operations(change, monkeypatch, generator):
    monkeypatch.setattr(once, "labels", None)
    x = torch.rand(600, 20, generator=generator)
    centroids = x[:5]
    if change == "strided":
        x = torch.rand(600, 40, generator=generator)[:, ::2]
    if change == "uint8":
        x = (255 * x).to(torch.uint8)
    if change == "half":
        assert compiled.reader_of(x.half(), centroids.half(), False) is None
        x = x.half()
    if change == "another dtype":
        centroids = centroids.double()
    if change == "wide":
        x = torch.rand(600, 130, generator=generator)
        centroids = x[:40]
    found, _ = labels(x, centroids, change == "unit")
    if change != "unit":
        assert torch.equal(found, torch.from_numpy(nearest(x.numpy(), centroids.numpy())))


def test_a_loop_pays_where_little_is_multiplied(monkeypatch):
    def reads(k, d):
        return compiled.reader_of(torch.empty(9, d), torch.empty(k, d), False) is once

    assert reads(1000, 128)
    assert not reads(4, 129)
    assert reads(3, 129)
    monkeypatch.setattr(compiled, "available", lambda: False)
    assert not reads(2, 2)
