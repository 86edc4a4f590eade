"""Learning a metric through clustering: the experiment at a size for tests, and its parts."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import bilevel

    return bilevel


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a small run printed, and where it wrote."""
    folder, out = tmp_path_factory.mktemp("bilevel"), io.StringIO()
    given = {
        "--data": ["planted"],
        "--gradients": ["implicit", "one_step", "unroll 10", "envelope"],
        "--seeds": ["0", "1", "2"],
        "--temperatures": ["0.3", "0.6"],
        "--n-steps": ["25"],
        "--output": [folder / "found.json"],
        "--picture": [folder / "found.png"],
        "--output-dir": [folder / "runs"],
    }
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.syspath_prepend(str(EXPERIMENTS))
        import bilevel

        bilevel.main([str(word) for flag, values in given.items() for word in (flag, *values)])
    return json.loads((folder / "found.json").read_text()), out.getvalue(), folder


def test_every_gradient_is_written_down(parts, found):
    from feature_weights import tables as bilevel_tables

    known, out, folder = found
    keys = [(run["gradient"], run["temperature"]) for run in known["runs"]]
    names = ["implicit", "one_step", "unroll 10", "envelope"]
    assert keys == [(name, share) for name in names for share in (0.3, 0.6)]
    for run in known["runs"]:
        assert len(run["curve"]) == 25
        weights = torch.tensor(run["weights"])
        assert weights.shape == (3, 6)
        torch.testing.assert_close(weights.log().mean(1), torch.zeros(3), atol=1e-4, rtol=0)
        assert all(0 < share <= 1 for share in run["accuracy"])
        assert run["curve"][0] == pytest.approx(sum(run["validation_before"]) / 3, rel=1e-3) or (
            run["gradient"] == "unroll 10"  # whose first steps end before they rest
        )
    assert "planted, one_step: score 0." in out
    assert (folder / "found.md").read_text() == bilevel_tables.as_page(known)
    assert bilevel_tables.as_table(known, "planted") in out
    assert (folder / "found.png").stat().st_size > 10_000
    assert len([*folder.glob("runs/bilevel-planted/*/seed?-at-0.*/events*")]) == 4 * 3 * 2


def test_implicit_gradients_are_the_true_ones_and_learn_where_others_do_not(found):
    known, _, _ = found
    for share in (0.3, 0.6):
        by_name = {run["gradient"]: run for run in known["runs"] if run["temperature"] == share}
        assert by_name["implicit"]["cosine"] == pytest.approx([1, 1, 1], abs=1e-5)
        assert by_name["implicit"]["length"] == pytest.approx([1, 1, 1], abs=1e-3)
        assert sum(by_name["one_step"]["length"]) < 0.8 * 3
        after = {name: sum(run["validation"]) for name, run in by_name.items()}
        before = sum(by_name["implicit"]["validation_before"])
        assert after["implicit"] < 0.95 * before
        assert after["implicit"] < after["one_step"] < after["envelope"]


def test_all_centroids_merge_above_the_critical_temperature_alone(parts):
    problem = parts.stacked("planted", [0], 2)
    shares = torch.tensor([0.9, 1.1], dtype=torch.float64)
    metric = parts.Metric(problem, shares * parts.critical(problem.train))
    start = problem.validation.means(3)
    way = parts.Way(parts.Envelope(), 5000, 1e-12)
    _, centroids = metric.settled(torch.zeros(2, 6, dtype=torch.float64), start, way)
    apart = (centroids - centroids.mean(1, keepdim=True)).norm(dim=(1, 2))
    assert apart[0] > 0.3
    assert apart[1] < 1e-3


def test_problems_are_those_of_their_seed(parts):
    from feature_weights.problems import PROBLEMS

    for name, draw in PROBLEMS.items():
        batch = parts.stacked(name, [4, 7], 2)
        for i, seed in enumerate([4, 7, 4, 7]):
            alone = draw(seed)
            assert torch.equal(batch.train[i], alone.train)
            assert torch.equal(batch.test.classes[i], alone.test.classes)
        assert not torch.equal(batch.train[0], batch.train[1])


def test_wine_is_split_whole(parts):
    from sklearn.datasets import load_wine

    from feature_weights.problems import wine

    problem = wine(3)
    rows = torch.cat([problem.train, problem.validation.x, problem.test.x])
    torch.testing.assert_close(problem.train.mean(0), torch.zeros(13).double())
    true = torch.from_numpy(load_wine().data)
    scale = (true.sort(0).values[1:] - true.sort(0).values[:-1]).sum(0)
    mine = (rows.sort(0).values[1:] - rows.sort(0).values[:-1]).sum(0)
    shift = true.sort(0).values / scale - rows.sort(0).values / mine
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))  # the same rows, standardised


def test_class_means_are_means(parts):
    from feature_weights.problems import Rows

    rows = Rows(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]))
    assert rows.means(2).tolist() == [[2.0], [8.0]]
    assert parts.score(torch.tensor([[[2.0], [5.0]]]), rows.means(2)).tolist() == [4.5]


def test_what_is_not_known_is_said(parts, capsys):
    with pytest.raises(SystemExit):
        parts.parse(["--data", "magic"])
    assert "magic" in capsys.readouterr().err
