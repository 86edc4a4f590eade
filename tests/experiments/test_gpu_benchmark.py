"""What is timed on a GPU, played on the CPU with small shapes: all but the device's own calls."""

import gzip
import importlib
import itertools
import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CPU = torch.device("cpu")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


class FakePasses:
    """The interface of ``torchkm.kernels.gpu.passes.Passes``, in float64 on the CPU."""

    stops_after = 1000

    def __init__(self, x, starts, *, precision, max_iter):
        self._x = x.double()
        b, k, d = starts.shape
        self.centroids = torch.empty(b, k, d)
        self.labels = torch.zeros(x.shape[:2], dtype=torch.int32)
        self.state = types.SimpleNamespace(
            n_passes=torch.zeros(b, dtype=torch.int32),
            history=torch.zeros(b, max_iter + 1, 5, dtype=torch.float64),
        )
        self.restart(starts)

    def restart(self, starts):
        self.centroids.copy_(starts)
        self.state.n_passes.zero_()

    def begin(self):
        self.advance(1)

    def advance(self, count, *, proven=False, anew=False):
        made = int(self.state.n_passes[0])
        for number in range(made, min(made + count, self.stops_after)):
            labels = torch.cdist(self._x, self.centroids.double()).argmin(-1)  # (b, n)
            self.state.history[:, number, 2] = (labels != self.labels).sum(1).double()
            self.labels.copy_(labels)
            for rows, at, centroids in zip(self._x, labels, self.centroids, strict=True):
                for j in at.unique():
                    centroids[j] = rows[at == j].mean(0)
            self.state.n_passes += 1


@pytest.fixture
def fake(monkeypatch):
    module = types.ModuleType("torchkm.kernels.gpu.passes")
    module.Passes = type("Passes", (FakePasses,), {})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.Passes


def write_mnist(root, pixels):
    """Write images ``(n, 784)`` as both splits of MNIST, with labels that go round."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    n = len(pixels)
    for split in ("train", "t10k"):
        images = b"".join(size.to_bytes(4, "big") for size in (2051, n, 28, 28))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images + pixels.numpy().tobytes())
        labels = (2049).to_bytes(4, "big") + n.to_bytes(4, "big")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(labels + bytes(i % 10 for i in range(n)))


@pytest.fixture
def stage(load, tmp_path):
    """A stage on the CPU, with MNIST of random pixels and ceilings that nobody measured."""
    clock, ceilings = load("gpu.clock"), load("gpu.ceilings")
    host = clock.HostClock(CPU)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (90, 784), generator=generator, dtype=torch.uint8)
    write_mnist(tmp_path, pixels)
    return load("gpu.stage").Stage(
        device=CPU,
        clock=host,
        host_clock=host,
        ceilings=ceilings.Ceilings(1e9, dict.fromkeys(ceilings.RATES, 1e9)),
        budget=clock.Budget(1000),
        repeats=2,
        data_root=str(tmp_path),
        pixels=pixels,
        output=tmp_path / "report.json",
        machine={},
    )


@pytest.fixture
def small(load, monkeypatch):
    """The shapes of every group with few rows, and no library but ours and torch."""
    shapes = load("gpu.shapes").SHAPES
    for group, of_group in shapes.items():
        few = [replace(s, b=min(s.b, 2), n=90, k=6, warm=1, count=2) for s in of_group]
        monkeypatch.setitem(shapes, group, few)
    monkeypatch.setattr(load("gpu.benchmark"), "_SEEDING_KS", (5,))
    monkeypatch.setattr(load("gpu.benchmark"), "_FIT_KS", (5,))
    monkeypatch.setattr(load("gpu.benchmark"), "_JOB_KS", (5,))
    timing = load("gpu.timing")
    absent = ("flash_kmeans", "fastkmeans")
    monkeypatch.setattr(
        timing, "missing", lambda name: f"{name} is not installed" if name in absent else None
    )


def mixture(b=2, n=200, d=5, k=4):
    generator = torch.Generator().manual_seed(1)
    centres = 6 * torch.randn(b, k, d, generator=generator)
    names = torch.arange(n) % k
    return centres[:, names] + torch.randn(b, n, d, generator=generator), centres + 0.5


def brute_force(x, centroids):
    """Return labels and the means that follow, row by row in float64."""
    labels = torch.cdist(x.double(), centroids.double()).argmin(-1)
    means = centroids.double().clone()
    for i, j in itertools.product(range(len(x)), range(centroids.shape[1])):
        if (labels[i] == j).any():
            means[i, j] = x[i][labels[i] == j].double().mean(0)
    return labels, means


def test_every_group_is_checked_timed_and_reported(load, stage, small, fake, capsys):
    benchmark = load("gpu.benchmark")
    benchmark.play(stage, list(benchmark.GROUPS))
    assert stage.failed == []
    report = json.loads(stage.output.read_text())
    assert {row["group"] for row in report["passes"]} == set(load("gpu.shapes").SHAPES)
    for row in report["passes"]:
        assert row["floor"] > 0
        assert row["over_floor"] == pytest.approx(row["seconds"] / row["floor"])
        assert len(row["all_seconds"]) == 2
        assert row["check"]["agreement"] > 0.95
    names = {row["contender"] for row in report["passes"] if row["group"] == "half"}
    assert names == {"torchkm", "torchkm, all sums anew", "torch float16"}
    assert {row["group"] for row in report["fits"]} == {"seeding", "fit", "job"}
    fit = next(row for row in report["fits"] if row["contender"] == "torchkm, lloyd")
    assert fit["fits"][0]["status"]
    assert fit["fits"][0]["agreement"] > 0.99
    assert len(fit["fits"]) == 2
    job = next(row for row in report["fits"] if row["group"] == "job")
    assert job["contender"] == "run.py"
    assert all(one["n_iter"] > 0 and one["status"] for one in job["fits"])
    assert job["inertia"] == pytest.approx(fit["inertia"], rel=0.05)
    tables = load("gpu.tables")
    text = tables.passes(report["passes"]) + tables.fits(report["fits"])
    assert "| certified: 90 x 784 float32, k=6 | torchkm, proven labels |" in text
    widths = {row.count("|") for row in tables.passes(report["passes"]).splitlines()}
    assert len(widths) == 1
    assert any("flash_kmeans is not installed" in line for line in report["skipped"])
    assert "skipped: half, 90 x 128 float16, k=6, fastkmeans" in capsys.readouterr().err


def test_passes_that_took_no_time_are_no_result(load, stage, small, fake):
    fake.stops_after = 1
    load("gpu.benchmark").play(stage, ["half"])
    assert any("stood still after 1 of 3 passes" in line for line in stage.failed)
    assert {row["contender"] for row in stage.passes} == {"torch float16"}


def test_wrong_labels_of_ours_are_told(load, stage, small, fake, monkeypatch):
    true = FakePasses.advance

    def wrong(self, count, **options):
        true(self, count, **options)
        if options.get("proven"):
            self.labels[:, :5] = (self.labels[:, :5] + 1) % self.centroids.shape[1]

    monkeypatch.setattr(fake, "advance", wrong)
    load("gpu.benchmark").play(stage, ["certified"])
    assert any("proven labels: a label is farther by" in line for line in stage.failed)
    assert not any(line.startswith("certified") and "float32:" in line for line in stage.failed)


def test_a_contender_that_fails_leaves_the_others(load, stage, small, fake, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(fake, "begin", broken)
    load("gpu.benchmark").play(stage, ["ten"])
    assert [row["contender"] for row in stage.passes] == ["torch float16"]
    assert stage.passes[0]["over_torchkm"] is None
    assert any("RuntimeError: no such kernel" in line for line in stage.failed)
    assert json.loads(stage.output.read_text())["failed"] == stage.failed


def test_a_job_that_cannot_run_is_told(load, stage, small, tmp_path):
    for file in (tmp_path / "MNIST/raw").iterdir():
        file.write_bytes(b"")
    load("gpu.benchmark").play(stage, ["job"])
    assert any("run.py: error: the files of mnist in" in line for line in stage.failed)
    assert stage.fits == []


def test_without_time_or_mnist_shapes_are_skipped_by_name(load, stage, small, fake):
    stage.pixels = None
    load("gpu.benchmark").play(stage, ["mnist", "seeding"])
    assert "seeding, k=5: no MNIST" in stage.skipped
    stage.budget = load("gpu.clock").Budget(0)
    load("gpu.benchmark").play(stage, ["half"])
    assert stage.skipped[-1].startswith("half, 90 x 128 float16, k=6: ")
    assert stage.passes == stage.fits == []


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("block", [1 << 20, 70])
def test_plain_torch_makes_lloyds_passes(load, monkeypatch, one_hot, block):
    contenders = load("gpu.contenders")
    monkeypatch.setattr(contenders, "_SCORES", block * 4)
    x, starts = mixture()
    plain = contenders.Torch(x, starts, torch.float32, one_hot)
    labels, means = plain.first()
    expected = brute_force(x, starts)
    assert torch.equal(labels, expected[0])
    torch.testing.assert_close(means.double(), expected[1], rtol=1e-5, atol=1e-5)
    plain.advance(1)
    torch.testing.assert_close(
        plain.found()[1].double(), brute_force(x, expected[1])[1], rtol=1e-5, atol=1e-5
    )
    plain.restart()
    plain.advance(1)
    assert torch.equal(plain.found()[1], means)


def test_an_empty_cluster_keeps_its_centroid_in_plain_torch(load):
    x, starts = mixture(b=1)
    starts[0, 0] = 1000.0
    _, means = load("gpu.contenders").Torch(x, starts, torch.float32).first()
    torch.testing.assert_close(means[0, 0], starts[0, 0])


def test_checks_see_wrong_labels_and_wrong_means(load):
    checks = load("gpu.checks")
    x, starts = mixture()
    labels, means = brute_force(x, starts)
    right = checks.check_pass(x, starts, labels, means, problems=[0, 1])
    assert right["agreement"] == 1
    assert checks.failures(right, certain=True) == []
    wrong = labels.clone()
    wrong[1, 7] = (wrong[1, 7] + 1) % 4
    found = checks.check_pass(x, starts, wrong, brute_force(x, starts)[1], problems=[0, 1])
    assert found["agreement"] == pytest.approx(199 / 200)
    assert len(checks.failures(found, certain=True)) == 2
    assert len(checks.failures(found, certain=False)) == 1  # the means are those of other labels
    assert checks.check_pass(x, starts, wrong, None, problems=[0])["agreement"] == 1
    means[0, 1, 2] = float("nan")
    assert checks.failures(checks.check_pass(x, starts, labels, means, [0]), certain=False)


def test_distances_come_in_blocks(load, monkeypatch):
    checks = load("gpu.checks")
    x, starts = mixture()
    whole = checks.nearest(x[0], starts[0])
    monkeypatch.setattr(checks, "_SCORES", 35)
    parts = checks.nearest(x[0], starts[0])
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1])
    assert checks.inertia(x[0], starts[0]) == pytest.approx(
        float(torch.cdist(x[0].double(), starts[0].double()).min(1).values.square().sum())
    )


def test_floors_are_of_bytes_or_of_operations(load):
    ceilings = load("gpu.ceilings")
    found = ceilings.Ceilings(4e12, {"fp16": 800e12})
    assert found.floor(8e9, 1e12, "fp16") == pytest.approx(2e-3)
    assert found.floor(8e6, 8e12, "fp16") == pytest.approx(1e-2)
    clock = load("gpu.clock").HostClock(CPU)
    measured = ceilings.measure_ceilings(clock, CPU, n_bytes=1 << 16, side=16, repeats=2)
    assert measured.bandwidth > 0
    assert set(measured.rates) == {"fp32", "tf32", "bf16", "fp16"}


def test_the_precision_of_products_is_put_back(load):
    setting = torch.backends.cuda.matmul
    name = "fp32_precision" if hasattr(setting, "fp32_precision") else "allow_tf32"
    before = getattr(setting, name)
    with load("gpu.ceilings").products_in("tf32"):
        assert getattr(setting, name) in ("tf32", True)
    assert getattr(setting, name) == before


def test_contenders_take_turns_and_those_that_fail_drop_out(load):
    clock = load("gpu.clock")
    order, seconds = [], itertools.count()

    def measure(name):
        order.append(name)
        if name == "b" and len(order) > 2:
            raise ValueError("b is tired")
        return float(next(seconds))

    measures = {name: lambda name=name: measure(name) for name in "abc"}
    times, errors = clock.in_turn(measures, 3, clock.Budget(100))
    assert "".join(order) == "abcabcac"
    assert [len(times[name]) for name in "abc"] == [3, 1, 3]
    assert errors == {"b": "ValueError: b is tired"}
    ticks = itertools.count()
    short = clock.Budget(4, now=lambda: next(ticks))
    times, _ = clock.in_turn({"a": lambda: 1.0}, 10, short)
    assert len(times["a"]) < 10


def test_fastkmeans_is_timed_by_a_difference(load, monkeypatch):
    one = load("gpu.peers").Fast.__new__(load("gpu.peers").Fast)
    calls = []
    monkeypatch.setattr(one, "_call", calls.append, raising=False)
    clock = types.SimpleNamespace(seconds=lambda work: work() or 1.0 + 0.25 * calls[-1])
    assert one.seconds(clock, 4, 8) == pytest.approx(0.25)
    assert calls == [4, 12]


def test_plain_torch_seeds_and_fits(load):
    fits = load("gpu.fits")
    x, centres = mixture(b=1, n=400, d=8, k=6)
    seeds = fits.plain_seeds(x[0], 6, 0).centroids
    assert all((x[0] == row).all(1).any() for row in seeds)
    inertia = load("gpu.checks").inertia
    best = inertia(x[0], brute_force(x, centres)[1][0])
    assert inertia(x[0], seeds) < 6 * best
    found = fits.plain(x[0], 6, 0)
    _, means = brute_force(x, found.centroids[None])
    torch.testing.assert_close(found.centroids.double(), means[0], rtol=2e-3, atol=2e-3)
    assert found.n_iter % 10 == 0


@pytest.mark.parametrize("packed", [False, True])
def test_pixels_are_read_plain_and_packed(load, tmp_path, packed):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    pixels = torch.arange(3 * 4, dtype=torch.uint8)
    header = b"".join(n.to_bytes(4, "big") for n in (2051, 3, 2, 2))
    data = header + bytes(pixels.tolist())
    write = gzip.compress if packed else bytes
    path = raw / ("train-images-idx3-ubyte" + (".gz" if packed else ""))
    path.write_bytes(write(data))
    read = load("common.mnist_rows").train_pixels
    assert torch.equal(read(tmp_path), pixels.view(3, 4))
    for damaged in (data[:-1], data[:9], b"\0" + data):
        path.write_bytes(write(damaged))
        with pytest.raises(ValueError, match="not a whole idx file"):
            read(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither train-images.*\.gz is in"):
        read(tmp_path)


def test_the_command_says_what_it_cannot_do(load, monkeypatch, tmp_path):
    benchmark = load("benchmark")
    command = ["benchmark.py", "--device", "cuda", "--output", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--groups", "[mnist,half]"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a GPU"):
        benchmark.main()
    monkeypatch.setattr(sys, "argv", [*command, "--groups", "[nothing]"])
    with pytest.raises(SystemExit, match=r"unknown groups.*known: mnist, half, batch, ten"):
        benchmark.main()
    assert set(benchmark._GROUPS) == set(load("gpu.benchmark").GROUPS)
