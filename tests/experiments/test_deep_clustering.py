"""The ladder of deep clustering: every row at a size for tests, and the parts it is made of."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT = EXPERIMENTS / "deep_clustering.py"
CPU = torch.device("cpu")
TINY = {
    "data": "digits",
    "images": 200,
    "seeds": [3, 4],
    "widths": [24, 10],
    "batch_size": 50,
    "pretraining": 2,
    "clustering": 2,
    "annealing": 2,
    "own_widths": [24],
    "own_restarts": 2,
    "own_batch_size": 50,
    "own_epochs": 2,
}


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import deep_clustering

    return deep_clustering


def run(cwd, *flags):
    command = [sys.executable, str(SCRIPT), "--output", "out/found.json", *map(str, flags)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_every_row_runs_and_is_written_down(tmp_path, parts):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"reduced": TINY}))
    code, out, err = run(tmp_path, "--config", "tiny.yaml", "--reduced", "--device", "cpu")
    assert code == 0, err
    assert "Warning" not in err
    found = json.loads((tmp_path / "out/found.json").read_text())
    assert found.keys() == {"reduced"}
    assert found["reduced"].keys() == parts.ROWS.keys()
    for name, row in found["reduced"].items():
        assert [one["seed"] for one in row["runs"]] == [3, 4]
        assert 0.1 < row["agreement"] <= 1
        for one in row["runs"]:
            assert 0.1 < one["accuracy"] <= 1
            assert 0 <= one["nmi"] <= 1
            assert sum(one["counts"]) == 200
            assert len(one["counts"]) == 10
        assert f"{name}: accuracy {row['runs'][0]['accuracy']:.4f}" in out
    page = (tmp_path / "out/found.md").read_text()
    assert page == parts.as_page(found)
    assert page.count("not measured") == len(parts.ROWS)  # all of full size
    assert f"| {np.mean([one['accuracy'] for one in row['runs']]):.4f} ± " in page
    events = sorted((tmp_path / "runs/deep-digits").glob("*/seed3/events*"))
    assert {path.parts[-3] for path in events} == {*parts.ROWS, "pretraining"}


def test_a_later_run_keeps_the_rows_of_an_earlier_one(tmp_path, parts):
    run = {"accuracy": 0.5, "nmi": 0.25}
    found = {"runs": [run, run], "agreement": 0.75, "seconds": 7.0, "images": 200}
    found["machine"] = {"device": "cpu"}
    for size, name in (("full", "kmeans"), ("reduced", "ours"), ("full", "dcn")):
        parts.keep(tmp_path / "found.json", size, name, found)
    known = json.loads((tmp_path / "found.json").read_text())
    assert {size: list(rows) for size, rows in known.items()} == {
        "full": ["kmeans", "dcn"],
        "reduced": ["ours"],
    }
    page = (tmp_path / "found.md").read_text()
    line = "| DCN | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 | 0.7500 | 2 | 7 s | cpu |"
    assert page.count(line) == 1
    assert page.count("not measured") == 2 * len(parts.ROWS) - 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data-root", "nowhere"], "MNIST is not in nowhere"),
        (["--rows", "magic"], "invalid choice: 'magic'"),
        (["--config", "odd.yaml"], "names that are not known: epochs"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, parts, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    Path("odd.yaml").write_text("epochs: 3\n")
    with pytest.raises(SystemExit) as stopped:
        parts.main(flags)
    assert message in f"{stopped.value} {capsys.readouterr().err}"


def test_flags_override_the_file(tmp_path, parts):
    (tmp_path / "some.yaml").write_text(
        "seeds: [8]\nimages: 50\nreduced: {images: 9, widths: [3]}\n"
    )
    flags = ["--config", str(tmp_path / "some.yaml")]
    whole, part = parts.parse(flags), parts.parse([*flags, "--reduced", "--seeds", "1", "2"])
    assert (whole.images, whole.seeds, parts.sizes(whole)) == (50, [8], parts.Sizes())
    assert (part.images, part.seeds, parts.sizes(part).widths) == (9, [1, 2], [3])


def test_a_seed_trains_alike_alone_and_beside_others(parts):
    from deep.seedwise import Autoencoders, Streams, Training

    images = torch.rand(60, 9, generator=torch.Generator().manual_seed(0)).mul(255).byte()

    def trained(seeds):
        streams = Streams(seeds, CPU)
        nets = Autoencoders([9, 8, 2], streams, normalised=True)

        def loss(rows, draws):
            x = parts.deep_rows.pixels(images[rows]) + 0.01 * draws
            return parts.deep_rows.missed(nets.decode(nets.encode(x)), x)

        training = Training(loss, nets.parameters(), 60, streams, batch_size=16, n_draws=9)
        losses = [training.epoch() for _ in range(3)]
        assert (losses[-1] < losses[0]).all()
        return nets.codes(images)

    both, alone = trained([5, 7]), trained([7])
    torch.testing.assert_close(both[1], alone[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=0.1)


def test_codes_do_not_depend_on_who_is_encoded_beside_them(parts, monkeypatch):
    from deep import seedwise

    nets = seedwise.Autoencoders([9, 8, 7, 2], seedwise.Streams([0], CPU), normalised=True)
    images = torch.rand(50, 9, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    whole = nets.codes(images)
    # One batch of everything has the statistics of everything.
    torch.testing.assert_close(whole, nets.encode(seedwise.pixels(images).unsqueeze(0)))
    monkeypatch.setattr(seedwise, "_BLOCK", 7)
    torch.testing.assert_close(nets.codes(images), whole, rtol=1e-4, atol=1e-5)


def test_views_move_images_as_they_are_told(parts):
    from deep.images import Images, Views

    image = torch.zeros(5, 5, dtype=torch.uint8)
    image[1, 2] = 255
    images = Images("dot", image.view(1, 25), torch.zeros(1), 5)
    quarter = torch.pi / 2
    views = Views(images, turn=quarter, shear=0.5, scale=0.4, shift=0.2)
    rows = torch.zeros(1, 4, dtype=torch.int64)
    draws = torch.zeros(1, 4, 6)
    draws[0, 1, 0] = 1.0  # turned by a quarter
    draws[0, 2, 4] = 1.0  # shifted by a pixel across
    draws[0, 3, 5] = 1.0  # and down
    seen = views.of(rows, draws).view(4, 5, 5)
    torch.testing.assert_close(seen[0], image / 255)
    spots = [view.flatten().argmax().item() for view in seen]
    assert spots[0] == 7
    assert spots[1] in (11, 13)
    assert {spots[2], spots[3]} == {6, 2}
    assert (seen.amax((1, 2)) > 0.99).all()


def test_packed_files_read_as_plain_ones(tmp_path, parts):
    from deep import images as deep_images

    raw = {"plain": tmp_path / "plain/MNIST/raw", "packed": tmp_path / "packed/MNIST/raw"}
    for folder in raw.values():
        folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, n in (("train", 6), ("t10k", 2)):
        images = bytes(16) + generator.integers(0, 256, n * 784, np.uint8).tobytes()
        labels = bytes(8) + generator.integers(0, 10, n, np.uint8).tobytes()
        for name, data in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            (raw["plain"] / f"{name}-ubyte").write_bytes(data)
            (raw["packed"] / f"{name}-ubyte.gz").write_bytes(gzip.compress(data))
    one, other = (deep_images.load("mnist", str(tmp_path / kind), None, CPU) for kind in raw)
    assert one.rows.shape == (8, 784)
    assert one.side == 28
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.classes, other.classes)


def test_temperatures_fall_as_published(parts):
    found = list(parts.deep_rows.annealed(5))
    assert found == pytest.approx([0.1, 0.4232, 0.7516, 1.0780, 1.4087], abs=2e-4)


def test_a_dead_cluster_is_given_the_farthest_row(parts):
    codes = torch.tensor([[[0.0], [1.0], [9.0]], [[0.0], [4.0], [5.0]]])
    centroids = torch.tensor([[[0.5], [99.0]], [[0.0], [5.0]]])
    moments = {"exp_avg": torch.ones(2, 2, 1), "exp_avg_sq": torch.ones(2, 2, 1)}
    n_dead = parts.deep_rows.revive(codes, centroids, torch.tensor(0.1), moments)
    assert n_dead == 1
    assert centroids.flatten().tolist() == [0.5, 9.0, 0.0, 5.0]
    assert moments["exp_avg"].flatten().tolist() == [1, 0, 1, 1]


def test_centroids_follow_as_running_means(parts):
    codes = torch.tensor([[[1.0], [3.0], [10.0]]])
    centroids, seen = torch.tensor([[[0.0], [8.0]]]), torch.full((1, 2), 2.0, dtype=torch.float64)
    parts.deep_rows._follow(codes, torch.tensor([[0, 0, 1]]), centroids, seen)
    torch.testing.assert_close(centroids.flatten(), torch.tensor([4 / 4, 26 / 3]))
    assert seen.tolist() == [[4, 3]]


def test_the_direction_found_is_one_that_changes_shares_most(parts):
    from deep import own as deep_own

    weight = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.1, 0.0]], dtype=torch.float64)
    x = torch.randn(1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 9

    def log_shares(rows):
        return (rows @ weight.T).log_softmax(-1)

    found = deep_own._worst(x, log_shares(x), log_shares)
    assert (found[..., 0].abs() > 0.99).all()


def test_neighbours_are_the_nearest_images_with_the_image_itself_first(parts):
    from deep import own as deep_own

    images = torch.randint(256, (40, 12), generator=torch.Generator().manual_seed(2)).byte()
    index, distance = deep_own.neighbours(images)
    true = torch.cdist(images.double(), images.double()) / 255
    assert torch.equal(index, true.argsort(dim=1)[:, :6])
    torch.testing.assert_close(distance.double(), true.sort(dim=1).values[:, 10], rtol=1e-4, atol=0)
