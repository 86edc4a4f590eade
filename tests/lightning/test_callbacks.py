"""What the callbacks log, draw and stop, read back as a user would."""

import matplotlib.image
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.metrics import homogeneity_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from torchkm.lightning import (
    ArrayDataModule,
    CentroidImages,
    ClusterMetrics,
    ConvergenceStop,
    DigitsDataModule,
    InertiaProgressBar,
    KMeansModule,
)
from torchkm.metrics import MajorityVote
from torchkm.solvers import Status


@pytest.fixture
def digits_data():
    return DigitsDataModule(batch_size=400)


def training_rows(data):
    data.setup()
    return data.split("train").take(torch.arange(data.n_rows("train")))[0]


def logged(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def test_final_scores_are_those_of_the_final_centroids(digits_data, trainer):
    module, metrics = KMeansModule(10, 64), ClusterMetrics()
    trainer(callbacks=[metrics]).fit(module, digits_data)

    rows, y = {}, {}
    for split in ("train", "test"):
        x, targets = zip(*digits_data.batches(split), strict=True)
        rows[split], y[split] = torch.cat(x), torch.cat(targets)
    labels = {split: module.kmeans.predict(x) for split, x in rows.items()}
    vote = MajorityVote().fit(labels["train"], y["train"])
    for split in ("train", "test"):
        want = {
            "inertia": module.kmeans(rows[split]).sq_distances.sum().item(),
            "homogeneity": homogeneity_score(y[split], labels[split]),
            "accuracy": (vote.predict(labels[split]) == y[split]).double().mean().item(),
        }
        assert metrics.results[split] == pytest.approx(want, rel=1e-6)
    assert torch.equal(metrics.vote.classes, vote.classes)


def test_scalars_and_images_are_in_the_events_file(digits_data, trainer, tmp_path):
    metrics = ClusterMetrics()
    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    images = CentroidImages(every_n_epochs=2, path=tmp_path / "deep" / "centroids.png")
    trainer(logger=logger, callbacks=[metrics, images], log_every_n_steps=1).fit(
        KMeansModule(10, 64), digits_data
    )
    events = logged(tmp_path)
    names = ("inertia", "homogeneity", "accuracy")
    wanted = {f"{split}/{name}" for split in ("train", "test") for name in names}
    assert wanted <= set(events.Tags()["scalars"])
    for tag in wanted:
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [0, 1, 2, 3]
        split, name = tag.split("/")
        assert scalars[-1].value == pytest.approx(metrics.results[split][name], rel=1e-5)
    assert events.Tags()["images"] == ["centroids"]
    assert [image.step for image in events.Images("centroids")] == [0, 2, 3]
    picture = matplotlib.image.imread(tmp_path / "deep" / "centroids.png")
    assert np.ptp(picture[..., :3]) > 0.9


def test_without_targets_there_is_inertia_alone(blobs, trainer):
    metrics = ClusterMetrics()
    trainer(callbacks=[metrics]).fit(KMeansModule(6, 5), ArrayDataModule(blobs))
    assert metrics.results.keys() == {"train"}
    assert metrics.results["train"].keys() == {"inertia"}
    assert metrics.vote is None


def test_test_rows_every_few_epochs(digits_data, trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    metrics = ClusterMetrics(every_n_epochs=2)
    trainer(logger=logger, callbacks=[metrics], max_epochs=4, log_every_n_steps=1).fit(
        KMeansModule(10, 64), digits_data
    )
    assert [s.step for s in logged(tmp_path).Scalars("test/accuracy")] == [0, 2, 4]


def test_titles_are_the_inferred_digits(digits_data, trainer, monkeypatch):
    drawn = []
    from torchkm import plotting

    original = plotting.centroid_grid

    def spy(centroids, image_shape, titles, heading):
        drawn.append((image_shape, titles))
        return original(centroids, image_shape, titles, heading)

    monkeypatch.setattr(plotting, "centroid_grid", spy)
    metrics = ClusterMetrics()
    trainer(callbacks=[metrics, CentroidImages()]).fit(KMeansModule(10, 64), digits_data)
    assert drawn[0] == ((8, 8), None)  # nothing is known of the seeds yet
    assert drawn[-1] == ((8, 8), [str(c) for c in metrics.vote.classes.tolist()])


def test_rows_that_are_no_pictures_are_not_drawn(blobs, trainer, tmp_path):
    images = CentroidImages(path=tmp_path / "centroids.png")
    trainer(callbacks=[images]).fit(KMeansModule(6, 5), ArrayDataModule(blobs))
    assert not (tmp_path / "centroids.png").exists()


def test_convergence_stops_lloyd_when_nothing_moves(digits_data, trainer):
    module, stop = KMeansModule(10, 64, solver="lloyd"), ConvergenceStop(tol=0)
    t = trainer(max_epochs=200, callbacks=[stop])
    t.fit(module, digits_data)
    assert stop.status is Status.TOLERANCE
    labels = module.kmeans.predict(digits_data.split("train").x.float() / 16)
    trainer(max_epochs=1).fit(module, digits_data)
    assert torch.equal(labels, module.kmeans.predict(digits_data.split("train").x.float() / 16))
    assert t.current_epoch < 200


def test_convergence_scales_with_the_rows(digits_data, trainer):
    """Rows ten times as large stop after as many passes."""
    digits_data.setup()
    rows, _ = digits_data.split("train").take(torch.arange(1437))
    passes = []
    for scale in (1, 10):
        t = trainer(max_epochs=200, callbacks=[ConvergenceStop(tol=1e-2)])
        t.fit(KMeansModule(10, 64, solver="lloyd"), ArrayDataModule(scale * rows))
        passes.append(t.current_epoch)
    assert passes[0] == passes[1] < 200


@pytest.mark.parametrize("precision", ["32-true", "16-true"])
def test_convergence_of_a_module_that_came_with_centroids(digits_data, trainer, precision):
    """The scale of the tolerance is that of the rows, however they began and are rounded."""
    rows = 1000 * training_rows(digits_data)
    module, stop = KMeansModule(10, 64, solver="lloyd"), ConvergenceStop(tol=1e-4)
    module.kmeans.seed(rows, init=rows[:10])
    t = trainer(max_epochs=200, callbacks=[stop], precision=precision)
    t.fit(module, ArrayDataModule(rows))
    assert stop.status is Status.TOLERANCE
    assert 3 < t.current_epoch < 200
    assert module.variance == pytest.approx(rows.var(0, unbiased=False).mean().item(), rel=1e-3)


def test_a_second_fit_has_a_status_of_its_own(digits_data, trainer):
    stop = ConvergenceStop(tol=1e-2)
    trainer(max_epochs=200, callbacks=[stop]).fit(KMeansModule(10, 64, solver="lloyd"), digits_data)
    assert stop.status is Status.TOLERANCE
    stop.tol, module = 0, KMeansModule(10, 64, solver="lloyd")
    rows = training_rows(digits_data)
    module.kmeans.seed(rows, init=rows[:10])  # far from where they end
    trainer(max_epochs=1, callbacks=[stop]).fit(module, digits_data)
    assert stop.status is Status.MAX_ITER


@pytest.mark.parametrize("solver", ["lloyd", "decay"])
def test_the_step_is_the_passes_behind_the_centroids(solver, digits_data, trainer, tmp_path):
    """Step 0 is the seeds, under every rule."""
    rows, module = training_rows(digits_data), KMeansModule(10, 64, solver=solver)
    module.kmeans.seed(rows, init=rows[:10])
    x, _ = digits_data.split("test").take(torch.arange(360))
    want = [module.kmeans(x).sq_distances.sum().item()]
    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    settings = {"logger": logger, "callbacks": [ClusterMetrics()], "log_every_n_steps": 1}
    trainer(max_epochs=1, **settings).fit(module, digits_data)
    want.append(module.kmeans(x).sq_distances.sum().item())
    got = logged(tmp_path).Scalars("test/inertia")
    assert [s.step for s in got] == [0, 1]
    assert [s.value for s in got] == pytest.approx(want, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_scores_without_our_data_module_are_refused(blobs, trainer):
    loader = DataLoader(TensorDataset(blobs.float(), torch.zeros(600)), batch_size=100)
    with pytest.raises(TypeError, match=r"put them into torchkm\.lightning\.ArrayDataModule"):
        trainer(callbacks=[ClusterMetrics()]).fit(KMeansModule(6, 5), loader)


def test_max_epochs_without_convergence(digits_data, trainer):
    stop = ConvergenceStop(tol=0)
    trainer(max_epochs=2, callbacks=[stop]).fit(KMeansModule(10, 64), digits_data)
    assert stop.status is Status.MAX_ITER


def test_progress_bar_shows_passes_and_inertia(digits_data, trainer, capsys):
    module = KMeansModule(10, 64)
    bar = InertiaProgressBar()
    trainer(callbacks=[bar], enable_progress_bar=True).fit(module, digits_data)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert f"inertia {module.inertia:,.0f}" in shown


def test_callbacks_refuse_other_modules(trainer):
    class Other(pl.LightningModule):
        def configure_optimizers(self):
            return None

    for hook in (ConvergenceStop().on_train_epoch_end, ClusterMetrics().on_fit_start):
        with pytest.raises(TypeError, match="goes with a KMeansModule, got Other"):
            hook(trainer(), Other())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusterMetrics(every_n_epochs=0), "every_n_epochs must be at least 1, got 0"),
        (lambda: CentroidImages(every_n_epochs=-1), "every_n_epochs must be at least 1, got -1"),
        (lambda: ConvergenceStop(tol=-1), "tol must be finite and at least 0, got -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
