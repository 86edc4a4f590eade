"""run.py on the embedded digits: as a user starts it, or in this process, which starts sooner."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

SCRIPT = Path(__file__).parents[2] / "experiments" / "run.py"
SCORES = {"inertia", "homogeneity", "accuracy"}
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def start(*flags, cwd, **environment):
    env = {name: value for name, value in os.environ.items() if name != "TORCHKM_DATA"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, flags)],
        cwd=cwd,
        env=env | NO_NETWORK | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*flags, cwd, **environment):
    process = start(*flags, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def ran(tmp_path, monkeypatch, capsys):
    """What a run in this process prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHKM_DATA", raising=False)

    def call(*flags):
        importlib.import_module("run").main([str(flag) for flag in flags])
        return capsys.readouterr()

    return call


@pytest.fixture
def refused(ran, tmp_path, capsys):
    """What a refusal prints; what was there is as it was."""

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def call(*flags):
        before = files()
        with pytest.raises(SystemExit, match="2"):
            ran(*flags)
        assert files() == before
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return call


@pytest.fixture
def not_resumed(refused):
    """The one line that says why a run cannot be resumed."""

    def call(*flags):
        (line,) = refused(*flags).splitlines()
        return line

    return call


def test_a_run_leaves_what_it_promises(tmp_path):
    code, out, err = run("--data", "digits", "--k", 20, "--max-epochs", 4, cwd=tmp_path)
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    (events,) = folder.glob("events.out.tfevents.*")
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    promised = {"config.yaml", "metrics.json", "centroids.png", "checkpoints/last.ckpt"}
    assert left == promised | {events.name}
    assert all((folder / name).stat().st_size > 0 for name in left)

    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset"] == "digits"
    assert (metrics["n_train"], metrics["n_test"], metrics["k"]) == (1437, 360, 20)
    assert (metrics["n_iter"], metrics["status"], metrics["seed"]) == (4, "max_iter", 0)
    assert metrics["accelerator"] in ("cpu", "cuda")
    assert metrics["fit_seconds"] > 0
    for split in ("train", "test"):
        assert metrics[split].keys() == SCORES
        assert 0.5 < metrics[split]["accuracy"] <= 1

    assert f"{metrics['test']['accuracy']:.4f}" in out
    assert "tensorboard --logdir runs" in out
    assert "Tip" not in err
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["k"], config["data"], config["solver"]) == (20, "digits", "decay")


def test_tensorboard_shows_the_scores_beside_the_settings(tmp_path, ran):
    ran("--data", "digits", "--k", 20, "--max-epochs", 2)
    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    logged = {f"{split}/{name}" for split in ("train", "test") for name in SCORES}
    assert set(events.Tags()["scalars"]) >= logged
    assert not any(tag.startswith("hp") for tag in events.Tags()["scalars"])

    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    given = HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["k"].number_value == 20
    assert given["data"].string_value == "digits"
    assert "output_dir" not in given
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    infos = HParamsPluginData.FromString(experiment).experiment.metric_infos
    assert {info.name.tag for info in infos} == logged


@pytest.mark.ddp
def test_two_processes_make_one_run(tmp_path):
    job = ("--data", "digits", "--k", 20, "--max-epochs", 3, "--accelerator", "cpu")
    code, out, err = run(*job, "--devices", 2, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert code == 0, err
    assert "Warning" not in err
    assert "recommended" not in err
    assert out.count("tensorboard --logdir runs") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["n_train"], metrics["n_iter"]) == (1437, 3)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert int(checkpoint["state_dict"]["kmeans.n_rows_seen"]) == 3 * 1437


def test_flags_override_the_file_and_a_second_run_gets_its_own_folder(tmp_path, ran):
    (tmp_path / "job.yaml").write_text("data: digits\nk: 12\nmax_epochs: 1\nsolver: lloyd\n")
    for _ in range(2):
        out, _ = ran("--k", 7, "--config", "job.yaml", "--output-dir", "a b")
        assert "tensorboard --logdir 'a b'" in out
    names = sorted(p.name for p in (tmp_path / "a b").iterdir())
    assert names == ["digits-k7-lloyd-seed0", "digits-k7-lloyd-seed0-2"]
    one, two = (json.loads((tmp_path / "a b" / n / "metrics.json").read_text()) for n in names)
    assert one["train"] == two["train"]


def test_the_default_run_without_mnist_goes_on_with_the_digits_and_says_so(tmp_path, ran):
    _, err = ran("--k", 5, "--max-epochs", 1)
    assert "GOING ON WITH SCIKIT-LEARN'S EMBEDDED DIGITS" in err
    assert str(Path("data") / "MNIST" / "raw") in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "metrics.json").read_text())["dataset"] == "digits"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "mnist"], "Either point --data-root or $TORCHKM_DATA"),
        (["--data", "digits", "--k", 2000], "at most the number of rows: got k=2000 for n=1437"),
        (["--data", "digits", "--k", 0], "--k must be at least 1, got 0"),
        (["--data", "digits", "--tol", -1], "--tol must be finite and at least 0, got -1.0"),
        (["--data", "digits", "--fit-on", "test"], "--fit-on test goes with the MNIST family"),
        (["--data", "digits", "--half-life", 9, "--solver", "lloyd"], "half_life belongs to"),
        (["--data", "cifar"], "cifar"),
        (["--fit-on", "test"], "mnist is not in"),
        (["--resum", "nowhere"], "unrecognized arguments: --resum"),
        (["--resume", "nowhere"], "there is no"),
        (["--nonsense", "1"], "unrecognized arguments: --nonsense"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, refused, flags, message):
    assert message in refused(*flags)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU"
)
def test_a_gpu_that_is_not_there(refused):
    assert refused("--data", "digits", "--accelerator", "gpu").splitlines() == [
        "run.py: error: --accelerator gpu: PyTorch sees no GPU on this machine; use cpu or auto"
    ]


def test_a_refusal_is_an_exit_without_a_traceback(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    code, out, err = run("--data", "digits", "--output-dir", "taken", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "--output-dir taken: cannot write there" in err
    assert "Traceback" not in err


def test_an_interrupted_run_resumes_to_the_same_centroids(tmp_path, ran, not_resumed):
    job = ("--data", "digits", "--k", 30, "--tol", 0, "--batch-size", 100)
    process = start(*job, "--max-epochs", 2000, "--output-dir", "cut", cwd=tmp_path)
    checkpoint = tmp_path / "cut" / "digits-k30-decay-seed0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "--resume" in out, err
    assert "Traceback" not in err
    done = torch.load(checkpoint, weights_only=True)["epoch"] + 1

    target = done + 3
    resumed = ("--resume", checkpoint.parents[1], "--max-epochs", target)
    ran(*resumed)
    events = EventAccumulator(str(checkpoint.parents[1]), size_guidance={"scalars": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        steps = [scalar.step for scalar in events.Scalars(tag)]
        assert len(steps) == len(set(steps)), tag
    ran(*job, "--max-epochs", target, "--output-dir", "whole")
    whole = tmp_path / "whole" / "digits-k30-decay-seed0"
    states = [
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for p in (checkpoint.parents[1], whole)
    ]
    assert int(states[0]["kmeans.n_rows_seen"]) == target * 1437
    assert torch.equal(states[0]["kmeans.centroids"], states[1]["kmeans.centroids"])

    assert "raise --max-epochs above that" in not_resumed(*resumed)


def test_what_cannot_be_resumed_is_left_as_it_is(tmp_path, ran, not_resumed):
    job = ("--data", "digits", "--k", 8, "--max-epochs", 2, "--tol", 0, "--batch-size", 100)
    ran(*job)
    folder = Path("runs") / "digits-k8-decay-seed0"
    resume = ("--resume", folder, "--max-epochs")
    assert "made with k=8, and cannot go on with 9" in not_resumed(*resume, 4, "--k", 9)
    assert "passes made so far: 2; to go on, raise" in not_resumed(*resume, 1)
    (tmp_path / "job.yaml").write_text(f"resume: {folder}\nk: 8\ndata: digits\n")
    assert "--resume belongs on the command line" in not_resumed("--config", "job.yaml")
    checkpoint = tmp_path / folder / "checkpoints" / "last.ckpt"
    os.truncate(checkpoint, 3000)
    message = not_resumed(*resume, 4)
    assert "last.ckpt cannot be read" in message
    assert "weights_only" not in message  # torch's advice, which is to trust the file
    (tmp_path / folder / "config.yaml").write_bytes(b"\xff\xfe")
    assert "config.yaml cannot be read" in not_resumed(*resume, 4)


def test_a_converged_run_is_not_resumed(ran, not_resumed):
    out, _ = ran("--data", "digits", "--k", 4)
    assert "converged" in out
    resume = ("--resume", Path("runs") / "digits-k4-decay-seed0")
    assert "has converged; to go on, lower --tol" in not_resumed(*resume)
    ran(*resume, "--tol", 0)


def test_the_data_that_a_run_fell_back_to_is_what_it_resumes_with(tmp_path, ran):
    batches = ("--batch-size", 100)  # small ones, that do not come to rest
    ran("--k", 5, *batches, "--max-epochs", 1, "--tol", 0)
    (folder,) = (tmp_path / "runs").iterdir()
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == "digits"
    _, err = ran("--resume", folder, "--max-epochs", 2)
    assert "GOING ON" not in err


def test_help_describes_every_flag(ran, capsys):
    with pytest.raises(SystemExit, match="0"):
        ran("--help")
    out, _ = capsys.readouterr()
    flags = "k accelerator devices data data-root seed batch-size max-epochs solver init precision"
    for flag in [*flags.split(), "output-dir", "config", "resume", "metric", "tol"]:
        assert f"--{flag} " in out
