"""When loops are compiled, on how many threads they run, and what happens without Numba."""

import builtins
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import numba

import torchkm
from torchkm.kernels import compiled
from torchkm.kernels.compiled import jit, narrow, once


def test_without_numba_there_are_none(monkeypatch):
    assert compiled.available()
    import_one = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("numba"):
            raise ImportError(f"no {name} here")
        return import_one(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        assert not compiled.available.__wrapped__()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not compiled.available.__wrapped__()


def test_a_fit_is_the_same_without(monkeypatch, blobs):
    found = torchkm.kmeans(blobs, 6, init=blobs[:6], solver="lloyd")
    monkeypatch.setattr(compiled, "available", lambda: False)
    want = torchkm.kmeans(blobs, 6, init=blobs[:6], solver="lloyd")
    assert torch.equal(found.labels, want.labels)
    assert found.n_iter == want.n_iter
    torch.testing.assert_close(found.centroids, want.centroids)


def test_what_cannot_be_kept_is_compiled_each_time(monkeypatch):
    real, asked = numba.njit, []

    def njit(cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    twice = jit.in_order(lambda number: 2 * number)
    assert asked == [True, False]
    assert twice(21) == 42


@pytest.mark.parametrize("n_threads", [1, 2, 64])
def test_loops_take_as_many_threads_as_torch_and_leave_it_those(n_threads):
    torch.set_num_threads(n_threads)
    seen = []

    def on_threads(rows, origin, aims, labels):
        seen.append(numba.get_num_threads())
        return narrow.label_on_threads(rows, origin, aims, labels)

    found, rows = np.empty(9000, np.int64), np.random.default_rng(0).normal(size=(9000, 3))
    aims = np.column_stack([rows[:4], -(rows[:4] ** 2).sum(1) / 2])
    squares = jit.run(narrow.label, on_threads, rows, np.zeros(3), aims, found)
    assert squares == pytest.approx((rows**2).sum())
    assert torch.get_num_threads() == n_threads
    most = numba.config.NUMBA_NUM_THREADS
    assert seen == ([] if n_threads == 1 else [min(n_threads, most)])


def test_callers_on_several_threads_do_not_get_in_each_others_way(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(once, "_MANY", 0)
    problems = [torch.randn(30_000, 4) for _ in range(6)]

    def label(x):
        return [once.labels(x, x[:8], x[0]) for _ in range(5)]

    with ThreadPoolExecutor(3) as pool:
        for x, found in zip(problems, pool.map(label, problems), strict=True):
            want = np.empty(len(x), np.int64)
            aims = np.column_stack([x[:8], -x[:8].square().sum(1) / 2]).astype(np.float32)
            narrow.label(x.numpy(), np.zeros(4, np.float32), aims, want)
            assert all((one.numpy() != want).sum() <= 3 for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_process_that_forks_after_a_fit_labels_in_its_child(n_threads):
    code = f"""
import os, numpy, torch, torchkm
from torchkm.kernels.compiled.once import labels
torch.set_num_threads(2)
x = torch.rand(400_000, 4)
aims = x[:8].clone(), x[0].clone()
want = labels(x, *aims)
child = os.fork()
if child == 0:
    torch.set_num_threads({n_threads})
    os._exit(0 if numpy.array_equal(labels(x, *aims), want) else 3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""
    # Python 3.12 warns of a fork beside threads, which is what is tried here.
    out = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], text=True)
    assert out.strip() == "0"


def test_a_loop_that_may_take_threads_is_read_back_before_they_are_there(tmp_path):
    code = """
import torch, torchkm
x = torch.arange(600.0).view(-1, 2) % 7
print(torchkm.kmeans(x, 3, init=x[:3]).n_iter)
"""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = partial(subprocess.check_output, [sys.executable, "-c", code], text=True, env=env)
    assert run() == run()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_to_start_numbas_threads_leaves_torch_as_many_as_it_had(n_threads):
    code = f"""
import torch
from torchkm.kernels import labels
torch.set_num_threads({n_threads})
x = torch.rand(400_000, 4)
labels(x, x[:8], False)
print(torch.get_num_threads())
"""
    env = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env=env)
    assert out.strip() == str(n_threads)


def test_a_loop_is_compiled_anew_where_what_it_calls_has_changed(tmp_path):
    shutil.copytree(Path(torchkm.__file__).parent, tmp_path / "torchkm")
    code = """
import torch
from torchkm.kernels import labels
x = torch.tensor([[0.0], [1.0], [9.0]])
print(labels(x, x[:2], False)[0].tolist())
"""
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    run = partial(subprocess.check_output, [sys.executable, "-c", code], text=True, env=env)
    assert run(cwd=tmp_path).strip() == "[0, 1, 1]"
    called = tmp_path / "torchkm/kernels/compiled/columns.py"
    text = called.read_text()
    assert "labels[i] = found[i]" in text
    called.write_text(text.replace("labels[i] = found[i]", "labels[i] = found[i] + 7"))
    assert run(cwd=tmp_path).strip() == "[7, 8, 8]"
