"""The benchmark: fits in processes of their own, and what is made of their figures."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import benchmark

    return benchmark


def run(name, seed, seconds, inertia, way=()):
    points = [dict(zip(("centroids", "seconds", "inertia"), p, strict=True)) for p in way]
    return {
        "contender": name,
        "k": 3,
        "seed": seed,
        "seconds": seconds,
        "inertia": inertia,
        "extra_mb": 1.0,
        "way": points,
    }


def test_when_torchkm_reaches_what_another_ends_at(benchmark):
    way = [(0.1, 0.3, 500.0), (0.4, 0.7, 210.0)]
    runs = [run("torchkm", s, 2.0, 100.0, way) for s in range(3)]
    runs += [run("KMeans", s, 9.0 + s, 210.0 + s) for s in range(3)]
    runs += [run("faiss", s, 4.0, 210.0) for s in range(3)]
    runs += [run("SuperKMeans", s, 1.0, 99.0) for s in range(3)]
    rows = {row["contender"]: row for row in benchmark.summary(runs)}
    assert rows["KMeans"]["seconds"] == 10.0
    assert rows["KMeans"]["torchkm_reached"] == 0.7  # with labels, as KMeans has them
    assert rows["faiss"]["torchkm_reached"] == 0.4  # centroids alone
    assert rows["SuperKMeans"]["torchkm_reached"] is None
    table = benchmark.table(benchmark.summary(runs))
    assert "| 3 | KMeans | 10.00 | 211 | 0.70 s | 14.3 |" in table
    assert "| 3 | SuperKMeans | 1.00 | 99 | never |  |" in table


def test_a_missing_library_is_skipped_by_name(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: name == "sklearn")
    assert benchmark._installed(["KMeans", "faiss"]) == ["KMeans"]
    assert "skipped: faiss (faiss is not installed)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"unknown contenders.*known: torchkm"):
        benchmark._installed(["nobody"])
    with pytest.raises(SystemExit, match="--data must be one of mnist"):
        benchmark._rows("cifar", "")


def test_a_mixture_has_clusters_of_unequal_size(benchmark):
    x = benchmark.mixture(2000, 8, n_groups=5)
    assert (x.shape, x.dtype) == ((2000, 8), np.float32)
    assert np.array_equal(x, benchmark.mixture(2000, 8, n_groups=5))


@pytest.mark.parametrize("name", ["torchkm", "KMeans"])
def test_a_contender_fits_in_its_own_process(name, benchmark, tmp_path):
    x = benchmark.mixture(6000, 5, n_groups=4)
    np.save(tmp_path / "rows.npy", x)
    script = str(EXPERIMENTS / "contenders.py")
    command = [sys.executable, script, name, str(tmp_path / "rows.npy"), "4", "0", "1"]
    found = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    assert found["inertia"] < 1.5 * 6000 * 5 * 0.49
    assert found["seconds"] > 0
    assert bool(found["way"]) == (name == "torchkm")
    for point in found["way"]:
        assert point["centroids"] <= point["seconds"]


def test_the_picture_is_drawn(benchmark, tmp_path):
    runs = [run("torchkm", 0, 2.0, 100.0, [(0.1, 0.3, 500.0)]), run("faiss", 0, 4.0, 210.0)]
    benchmark.draw(runs, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_growth_is_measured_and_shown(benchmark):
    import growth

    one = growth.fit_one(9000, 8, 40, 1)
    assert one["seconds"]
    assert one["extra_mb"] >= 0
    other = {"n": 18000, "d": 8, "k": 40, "seconds": [0.2, 0.4, 0.3], "extra_mb": 7.0}
    rows = growth.summary([one, other])
    assert [row["n"] for row in rows] == [9000, 18000]
    assert "| 18,000 | 8 | 40 | 300 | 7 |" in growth.as_table(rows)


def test_torchkm_is_stopped_after_each_of_the_first_passes(benchmark):
    import contenders

    stops = list(itertools.islice(contenders._stops(), 30))
    assert stops[:12] == list(range(1, 13))
    assert all(1 < b / a < 1.3 for a, b in itertools.pairwise(stops[11:]))
