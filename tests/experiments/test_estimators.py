"""Estimators beside scikit-learn's: what becomes of what was timed."""

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def estimators(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import estimators

    return estimators


def timing(case, side, number, seconds):
    names = ("group", "estimator", "method", "rows", "dtype", "k", "repeats")
    described = {name: getattr(case, name) for name in names}
    return {**described, "side": side, "number": number, "seconds": seconds, "inertia": 7.0}


def test_what_was_timed_is_kept_when_a_later_case_fails(estimators, monkeypatch, tmp_path):
    first, second = estimators.cases(["iris"])

    def in_a_process(case, side, number, flags):
        if case == second:
            raise SystemExit("no more")
        return timing(case, side, number, {"torchkm": 0.5, "scikit-learn": 1.0}[side])

    output = tmp_path / "not" / "there yet" / "estimators.json"
    monkeypatch.setattr(estimators, "_in_a_process", in_a_process)
    monkeypatch.setattr(sys, "argv", ["", "--groups=[iris]", "--rounds=2", f"--output={output}"])
    with pytest.raises(SystemExit, match="no more"):
        estimators.main()
    (row,) = json.loads(output.read_text())["summary"]
    assert (row["k"], row["times sooner"]) == (first.k, 2.0)
    assert f"`KMeans({first.k}).fit` | iris" in output.with_suffix(".md").read_text()


def test_groups_that_are_not_timed_keep_what_is_known_of_them(estimators, monkeypatch, tmp_path):
    output = tmp_path / "estimators.json"
    iris, narrow = estimators.cases(["iris"])[0], estimators.cases(["narrow"])[0]
    runs = [timing(case, s, 0, 9.0) for case in (iris, narrow) for s in ("torchkm", "scikit-learn")]
    estimators.keep(output, runs)
    monkeypatch.setattr(
        estimators, "_in_a_process", lambda case, side, n, _: timing(case, side, n, 1.0)
    )
    monkeypatch.setattr(sys, "argv", ["", "--groups=[iris]", "--rounds=1", f"--output={output}"])
    estimators.main()
    seconds = {run["group"]: run["seconds"] for run in json.loads(output.read_text())["runs"]}
    assert seconds == {"iris": 1.0, "narrow": 9.0}


def test_first_fits_are_not_warmed_up(estimators, monkeypatch):
    from torchkm.cluster import KMeans

    fitted, fit = [], KMeans.fit
    monkeypatch.setattr(KMeans, "fit", lambda self, x: fitted.append(len(x)) or fit(self, x))
    cold, first = estimators.cases(["first"])
    assert (cold.method, first.method) == ("cold", "first")
    assert estimators.timed(first, "torchkm", 0, "nowhere")["inertia"] > 0
    assert fitted == [2000]
