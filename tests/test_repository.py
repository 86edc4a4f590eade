"""What a visitor reads agrees with what is there."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import torchkm

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def experiments(monkeypatch):
    """Scripts import each other by name."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))


def test_ci_runs_the_test_command_of_the_readme():
    command = 'pip install -e ".[test]" && pytest'
    assert f"    {command}\n" in README
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.search(rf"^{re.escape(command)}( \|\| exit 1)?$", ci, re.MULTILINE)


def test_versions_agree():
    assert torchkm.__version__ == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "block",
    re.findall(r"```python\n(.*?)```", README, re.DOTALL),
    ids=lambda block: block.strip().splitlines()[0][:40],
)
def test_python_in_the_readme_runs(block, tmp_path):
    subprocess.run([sys.executable, "-c", block], check=True, cwd=tmp_path, timeout=120)


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_in_the_readme_name_files_that_are_there():
    named = re.findall(r"(?:experiments|configs)/[\w./]+\.(?:py|yaml)", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_is_understood(path):
    own = ROOT / "experiments" / f"{path.stem}.py"  # an experiment of its own, or a job of run.py
    script = own if own.exists() else ROOT / "experiments" / "run.py"
    command = [sys.executable, str(script), "--config", str(path)]
    out = subprocess.check_output([*command, "--print_config"], text=True)
    given = yaml.safe_load(path.read_text())
    given.pop("reduced", None)  # sizes for --reduced
    for name, value in given.items():
        assert yaml.safe_load(out)[name] == value


@pytest.mark.usefixtures("experiments")
def test_figures_in_the_readme_are_those_in_the_results():
    """Each row of the README's tables was printed from the JSON beside it."""
    import benchmark
    import estimators
    import figures
    import growth
    import overheads
    import passes

    results = ROOT / "docs" / "results"
    mnist = json.loads((results / "mnist.json").read_text())
    ratios = json.loads((results / "overheads.json").read_text())
    assert figures.as_table(mnist["medians"]) in README
    assert overheads.as_table(ratios["results"]) in README
    for path in results.glob("benchmark*.json"):
        others = json.loads(path.read_text())
        assert benchmark.table(benchmark.summary(others["runs"])) in README
    for path in results.glob("estimators*.json"):
        report = json.loads(path.read_text())
        assert report["summary"] == estimators.summary(report["runs"])
        assert path.with_suffix(".md").read_text() == estimators.as_page(report, path.name)
    pairs = json.loads((results / "estimators-numba.json").read_text())
    for group in ("mnist", "minibatch", "given", "narrow", "others"):
        assert estimators.as_table(pairs["summary"], group) in README
    shapes = json.loads((results / "growth.json").read_text())
    assert growth.as_table(growth.summary(shapes["runs"])) in README
    work = json.loads((results / "passes.json").read_text())["fits"]
    assert passes.as_table(work, 60_000) in (ROOT / "docs" / "design.md").read_text()


@pytest.mark.usefixtures("experiments")
def test_what_gradients_cost_is_as_it_was_measured():
    import gradients

    found = json.loads((ROOT / "docs/results/gradients.json").read_text())
    assert gradients.as_table(found["cost"]) in (ROOT / "docs/gradients.md").read_text()


@pytest.mark.usefixtures("experiments")
def test_tables_of_the_experiments_on_gradients_are_as_they_were_measured():
    import deep_clustering
    from feature_weights import tables as bilevel_tables
    from palettes import tables as palette_tables

    results = ROOT / "docs" / "results"
    pages = {
        "bilevel": bilevel_tables.as_page,
        "deep_clustering": deep_clustering.as_page,
        "palettize": palette_tables.as_page,
    }
    found = {name: json.loads((results / f"{name}.json").read_text()) for name in pages}
    for name, as_page in pages.items():
        assert (results / f"{name}.md").read_text() == as_page(found[name])
    page = (ROOT / "docs/gradients.md").read_text()
    assert bilevel_tables.as_table(found["bilevel"], "planted", 0.5) in page
    assert palette_tables.as_table(found["palettize"]) in page
