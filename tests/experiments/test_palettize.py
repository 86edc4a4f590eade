"""Weights of few numbers: the experiment at a size for tests, and the parts it is made of."""

import json
from pathlib import Path

import pytest
import torch

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CPU = torch.device("cpu")
TINY = {
    "data": "digits",
    "bits": [2, 1],
    "n-iters": [2, 6],
    "gradients": ["implicit", "unroll"],
    "seeds": [3, 4],
    "batch-size": 100,
    "pretraining": 2,
}


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import palettize
    from palettes import nets as palette_nets

    palettize.nets = palette_nets
    return palettize


def flags(folder, **others):
    given = TINY | {"output-dir": folder / "runs", "output": folder / "out/found.json"} | others
    given |= {"picture": folder / "out/found.png"}
    flat = [
        [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        for name, value in given.items()
    ]
    return [word for words in flat for word in words]


def test_every_way_runs_and_is_written_down(tmp_path, parts, capsys):
    from palettes import tables as palette_tables

    parts.main(flags(tmp_path))
    known = json.loads((tmp_path / "out/found.json").read_text())
    methods = [(run["method"], run["bits"], run.get("n_iter")) for run in known["runs"]]
    tuned = [(way, bits, n) for bits in (2, 1) for n in (2, 6) for way in ("implicit", "unroll")]
    assert sorted(methods, key=str) == sorted(
        [("float", 32, None), ("k-means", 2, None), ("k-means", 1, None), *tuned], key=str
    )
    for run in known["runs"]:
        assert all(0 < share <= 1 for share in run["test"] + run["validation"])
        assert len(run["test"]) == len(run["validation"]) == 2
    assert known["n_weights"] == 8 * 25 + 16 * 8 * 25 + 10 * 16 * 4
    assert "1 bits, unroll, 6 steps: test 0." in capsys.readouterr().out
    page = (tmp_path / "out/found.md").read_text()
    assert page == palette_tables.as_page(known)
    assert palette_tables.as_costs(known["costs"]) in page
    assert (tmp_path / "out/found.png").stat().st_size > 10_000
    assert len([*tmp_path.glob("runs/palettize-digits/*/*/seed*/events*")]) == 2 * 2 * 2 * 2


def test_memory_grows_with_the_steps_of_unroll_alone(tmp_path, parts):
    parts.main(flags(tmp_path, bits=[2]))
    costs = json.loads((tmp_path / "out/found.json").read_text())["costs"]
    kept = {(cost["method"], cost["n_iter"]): cost["kept_bytes"] for cost in costs}
    assert kept["implicit", 6] == kept["implicit", 2] < kept["unroll", 2]
    assert kept["unroll", 6] > 2 * kept["unroll", 2]


def test_tuning_makes_up_for_what_clustering_costs(tmp_path, parts):
    more = {"bits": [1], "n-iters": [5], "gradients": ["implicit"], "pretraining": 12}
    parts.main(flags(tmp_path, **more, **{"fine-tuning": 8}))
    found = json.loads((tmp_path / "out/found.json").read_text())["runs"]
    mean = {run["method"]: sum(run["test"]) / 2 for run in found}
    assert mean["k-means"] < mean["implicit"] - 0.1


def test_hard_weights_are_the_nearest_numbers_of_the_palette(parts):
    weights = [torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))]
    palettes = parts.nets.Palettes(weights, 4, parts.Implicit(), 3)
    (hard,) = palettes.hard(weights)
    for seed in range(2):
        numbers = palettes.centroids[0][seed].flatten()
        nearest = (weights[0][seed].reshape(-1, 1) - numbers).abs().argmin(1)
        torch.testing.assert_close(hard[seed].flatten(), numbers[nearest])
    missed = (hard - weights[0]).square().flatten(1).mean(1)
    torch.testing.assert_close(palettes.unit[0], missed, rtol=1e-4, atol=0)


def test_soft_weights_harden_as_the_temperature_falls(parts):
    weights = [torch.randn(1, 40, generator=torch.Generator().manual_seed(1))]
    palettes = parts.nets.Palettes(weights, 3, parts.Implicit(), 20)
    (soft,) = palettes.soft(weights, 1e-4)
    torch.testing.assert_close(soft, palettes.hard(weights)[0], rtol=1e-3, atol=1e-3)
    (soft,) = palettes.soft(weights, 2.0)
    assert (soft - palettes.hard(weights)[0]).abs().mean() > 0.05


def test_temperatures_are_in_units_of_the_weights(parts):
    weight = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    found = []
    for scale in (1, 8):
        palettes = parts.nets.Palettes([scale * weight], 3, parts.Implicit(), 20)
        (soft,) = palettes.soft([scale * weight], 1.0)
        found.append(soft / scale)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_gradients_through_settled_palettes_agree(parts):
    start = [torch.randn(2, 60, generator=torch.Generator().manual_seed(2)).double()]
    upstream = torch.randn(2, 60, generator=torch.Generator().manual_seed(3)).double()
    found = {}
    for name in ("implicit", "unroll", "one_step", "envelope"):
        palettes = parts.nets.Palettes(start, 3, parts.as_gradient(name), 300)
        weight = start[0].clone().requires_grad_()
        (soft,) = palettes.soft([weight], 1.0)
        (found[name],) = torch.autograd.grad((soft * upstream).sum(), weight)
    torch.testing.assert_close(found["implicit"], found["unroll"], rtol=1e-6, atol=1e-9)
    for name in ("one_step", "envelope"):
        missed = (found[name] - found["implicit"]).norm() / found["implicit"].norm()
        assert 0.01 < missed < 1


def test_a_network_is_the_same_alone_and_beside_others(parts):
    from deep.seedwise import Streams

    images = torch.randint(256, (2, 7, 64), generator=torch.Generator().manual_seed(0)).byte()
    both = parts.nets.Nets(8, 10, Streams([5, 6], CPU))
    alone = parts.nets.Nets(8, 10, Streams([6], CPU))
    torch.testing.assert_close(both.logits(images)[1], alone.logits(images[1:])[0])
    classes = torch.arange(7).expand(2, 7)
    losses = both.losses(images, classes)
    plain = torch.nn.functional.cross_entropy(both.logits(images)[1], classes[1])
    torch.testing.assert_close(losses[1], plain)
    right = (both.logits(images[:1].expand(2, -1, -1)).argmax(-1) == classes).float().mean(1)
    torch.testing.assert_close(both.accuracy(images[0], classes[0]), right)


def test_parts_are_apart_and_make_up_the_whole(parts):
    from deep.images import Images

    images = Images("some", torch.zeros(30, 4), torch.zeros(30), 2)
    each = [torch.arange(30)[part] for part in parts.nets.parts(images)]
    assert [len(part) for part in each] == [22, 4, 4]
    assert torch.equal(torch.cat(each), torch.arange(30))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "mnist", "data-root": "nowhere"}, "MNIST is not in nowhere"),
        ({"gradients": ["magic"]}, "magic"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, parts, capsys, given, message):
    with pytest.raises(SystemExit) as stopped:
        parts.main(flags(tmp_path, **given))
    assert message in f"{stopped.value} {capsys.readouterr().err}"
