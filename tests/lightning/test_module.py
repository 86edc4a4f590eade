"""KMeansModule under a real Trainer, against the core and against itself resumed."""

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

import torchkm
from torchkm.lightning import ArrayDataModule, KMeansModule
from torchkm.solvers import RULES, Decay, Lloyd


@pytest.fixture
def data(blobs):
    return ArrayDataModule(blobs.float(), batch_size=64, seed=1)


def given(k, rows):
    """A module whose centroids are the first rows."""
    module = KMeansModule(k, rows.shape[1], solver="lloyd")
    module.kmeans.seed(rows, init=rows[:k])
    return module


@pytest.mark.parametrize("solver", sorted(RULES))
def test_every_rule_learns(solver, data, blobs, trainer):
    module = KMeansModule(6, 5, solver=solver)
    trainer(max_epochs=5).fit(module, data)
    best = torchkm.kmeans(blobs, 6, n_init=5, generator=torch.Generator().manual_seed(0))
    assert module.kmeans(blobs).sq_distances.sum() < 1.02 * best.inertia
    assert int(module.kmeans.n_rows_seen) == 5 * 600


def test_lloyd_through_the_trainer_is_lloyd(data, blobs, trainer):
    rows = blobs.float()
    module = given(6, rows)
    trainer(max_epochs=4).fit(module, data)
    want = torchkm.kmeans(rows, 6, init=rows[:6], solver="lloyd", max_iter=4, tol=0)
    torch.testing.assert_close(module.kmeans.centroids, want.centroids)
    assert module.inertia == pytest.approx(want.history[3].inertia, rel=1e-6)
    assert module.shift == pytest.approx(want.history[3].shift, rel=1e-3)


def test_lloyd_reseeds_an_empty_cluster_at_the_end_of_the_pass(data, blobs, trainer):
    rows = blobs.float()
    module = given(6, rows)
    module.kmeans.centroids[2] = 1e3
    trainer(max_epochs=1).fit(module, data)
    assert module.n_reseeded == 1
    assert (module.kmeans.centroids[2].unsqueeze(0) - rows).norm(dim=1).min() < 1e-4


def test_a_streaming_epoch_is_update_over_the_batches(data, blobs, trainer):
    module = KMeansModule(6, 5, solver="minibatch")
    module.kmeans.seed(blobs, init=blobs[:6])
    bare = torchkm.nn.KMeans(6, 5, rule="minibatch")
    bare.seed(blobs, init=blobs[:6])
    trainer(max_epochs=2).fit(module, data)
    batches = data.train_dataloader()
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        for rows in batches:
            bare.update(rows)
    assert torch.equal(module.kmeans.centroids, bare.centroids)
    assert torch.equal(module.kmeans.counts, bare.counts)


def test_half_life_is_half_an_epoch_unless_given(data, trainer):
    module = KMeansModule(6, 5)
    trainer(max_epochs=1).fit(module, data)
    assert module.kmeans.rule == Decay(half_life=300)
    module = KMeansModule(6, 5, half_life=1000)
    trainer(max_epochs=1).fit(module, data)
    assert module.kmeans.rule == Decay(half_life=1000)


def test_same_seed_same_centroids_and_the_global_state_is_left_alone(data, trainer):
    before = torch.get_rng_state()
    runs = []
    for seed in (3, 3, 4):
        module = KMeansModule(6, 5, seed=seed)
        trainer(max_epochs=2).fit(module, data)
        runs.append(module.kmeans.centroids)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(data, trainer, tmp_path):
    whole = KMeansModule(6, 5)
    trainer(max_epochs=6).fit(whole, data)

    checkpoint = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    settings = {"enable_checkpointing": True, "callbacks": [checkpoint]}
    trainer(max_epochs=2, **settings).fit(KMeansModule(6, 5), data)
    saved = tmp_path / "last.ckpt"
    assert saved.is_file()
    assert int(torch.load(saved, weights_only=True)["state_dict"]["kmeans.n_rows_seen"]) == 1200

    resumed = KMeansModule(6, 5)
    again = trainer(max_epochs=6, enable_checkpointing=True, callbacks=[checkpoint])
    again.fit(resumed, data, ckpt_path=saved)
    assert again.current_epoch == 6
    assert torch.equal(resumed.kmeans.centroids, whole.kmeans.centroids)
    assert torch.equal(resumed.kmeans.counts, whole.kmeans.counts)

    loaded = KMeansModule.load_from_checkpoint(saved)
    assert loaded.hparams.k == 6
    assert loaded.kmeans.is_seeded


def test_a_resumed_decay_goes_on_with_its_half_life(data, blobs, trainer, tmp_path):
    t = trainer(max_epochs=1)
    t.fit(KMeansModule(6, 5), data)
    t.save_checkpoint(tmp_path / "end.ckpt")
    loaded = KMeansModule.load_from_checkpoint(tmp_path / "end.ckpt")
    loaded.kmeans.update(blobs.float())
    assert loaded.kmeans.rule == Decay(300)


@pytest.mark.filterwarnings("ignore:.*with manual optimization and every_n_train_steps")
@pytest.mark.parametrize("solver", ["lloyd", "decay"])
def test_a_fit_does_not_resume_amid_an_epoch(solver, data, trainer, tmp_path):
    """Lightning would hand the epoch's first rows out again in place of those to come."""
    every = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1)
    settings = {"enable_checkpointing": True, "callbacks": [every]}
    trainer(max_epochs=2, **settings).fit(KMeansModule(6, 5, solver=solver), data)
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {f"epoch={s // 11}-step={s}" for s in (4, 8, 12, 16, 20)}
    amid = tmp_path / "epoch=1-step=16.ckpt"
    with pytest.raises(ValueError, match="made amid epoch 1, and a fit resumes between epochs"):
        trainer(max_epochs=4).fit(KMeansModule(6, 5, solver=solver), data, ckpt_path=amid)
    assert KMeansModule.load_from_checkpoint(amid).kmeans.is_seeded


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_fit_does_not_resume_from_an_epoch_cut_short(data, trainer, tmp_path):
    last = ModelCheckpoint(tmp_path, filename="last")
    trainer(max_steps=7, max_epochs=-1, enable_checkpointing=True, callbacks=[last]).fit(
        KMeansModule(6, 5), data
    )
    with pytest.raises(ValueError, match="made amid epoch 0"):
        trainer(max_epochs=4).fit(KMeansModule(6, 5), data, ckpt_path=tmp_path / "last.ckpt")


def test_another_rule_than_the_checkpoints_is_followed(data, trainer, tmp_path):
    t = trainer(max_epochs=1)
    t.fit(KMeansModule(6, 5), data)
    t.save_checkpoint(tmp_path / "a.ckpt")
    for changes, rule in [({"solver": "lloyd"}, Lloyd()), ({"half_life": 77.0}, Decay(77.0))]:
        loaded = KMeansModule.load_from_checkpoint(tmp_path / "a.ckpt", **changes)
        assert loaded.kmeans.rule == rule


def test_numpy_numbers_leave_a_checkpoint_that_loads(data, trainer, tmp_path):
    t = trainer(max_epochs=1)
    t.fit(KMeansModule(np.int64(6), 5, seed=np.int32(1), half_life=np.float64(90)), data)
    t.save_checkpoint(tmp_path / "end.ckpt")
    assert KMeansModule.load_from_checkpoint(tmp_path / "end.ckpt").kmeans.k == 6


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("with_targets", [True, False])
def test_plain_dataloaders_serve(with_targets, blobs, trainer):
    columns = (blobs.float(), torch.zeros(600)) if with_targets else (blobs.float(),)
    loader = DataLoader(TensorDataset(*columns), batch_size=100)
    module = KMeansModule(6, 5)
    trainer(max_epochs=2, log_every_n_steps=1).fit(module, loader)
    assert int(module.kmeans.n_rows_seen) == 1200
    assert len(torch.cat(trainer().predict(module, loader))) == 600


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_default_half_life_counts_the_rows_that_are_used(blobs, trainer):
    dataset = TensorDataset(blobs.float())
    some = SubsetRandomSampler(range(80), generator=torch.Generator().manual_seed(0))
    for loader, limit, want in [
        (DataLoader(dataset, batch_size=100), 3, 150),
        (DataLoader(dataset, batch_size=10, sampler=some), 1.0, 40),
        (DataLoader(dataset, batch_size=350, drop_last=True), 1.0, 175),
        (DataLoader(dataset, batch_sampler=BatchSampler(some, 50, False)), 1.0, 40),
        (DataLoader(dataset, batch_size=450), 1, 225),
    ]:
        module = KMeansModule(6, 5)
        trainer(max_epochs=1, limit_train_batches=limit, log_every_n_steps=1).fit(module, loader)
        assert module.kmeans.rule == Decay(want)


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_streams_of_unknown_length_need_a_half_life(blobs, trainer):
    loader = DataLoader(Stream(blobs.float()), batch_size=100)
    for module in (KMeansModule(6, 5, solver="minibatch"), KMeansModule(6, 5, half_life=300)):
        trainer(max_epochs=1, log_every_n_steps=1).fit(module, loader)
        assert int(module.kmeans.n_rows_seen) == 600
    with pytest.raises(ValueError, match="give the half_life in rows"):
        trainer(max_epochs=1).fit(KMeansModule(6, 5), loader)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("n_columns", [3, 4])
def test_a_batch_that_is_no_rows_is_named(n_columns, blobs, trainer):
    loader = DataLoader(TensorDataset(*[blobs.float()] * n_columns), batch_size=100)
    with pytest.raises(TypeError, match=rf"\[rows, targets\], got a list of {n_columns}"):
        trainer().fit(KMeansModule(6, 5), loader)


def test_test_and_predict(data, blobs, trainer):
    module = given(6, blobs.float())
    labels = torch.cat(trainer().predict(module, data))
    assert torch.equal(labels, module.kmeans.predict(blobs.float()))

    scored = ArrayDataModule(blobs.float(), test=blobs[:50].float())
    (result,) = trainer().test(module, scored, verbose=False)
    want = module.kmeans(blobs[:50].float()).sq_distances.sum()
    assert result["test/inertia"] == pytest.approx(want.item(), rel=1e-6)


def test_bfloat16_trainer_keeps_centroids_in_float32(data, trainer):
    module = KMeansModule(6, 5)
    trainer(max_epochs=1, precision="bf16-true").fit(module, data)
    assert module.kmeans.centroids.dtype == torch.float32
    assert module.kmeans.counts.dtype == torch.float64


def test_max_steps_counts_batches(data, trainer):
    module = KMeansModule(6, 5)
    t = trainer(max_epochs=-1, max_steps=15)
    t.fit(module, data)
    assert t.global_step == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "adam"}, "solver must be one of"),
        ({"solver": "lloyd", "half_life": 3}, 'half_life belongs to solver "decay"'),
        ({"half_life": 0}, "half_life must be finite and above 0, got 0"),
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"k": 0}, "k must be at least 1"),
        ({"dtype": "bfloat16"}, "dtype must be one of 'float32', 'float64'"),
        ({"init": "kmeans++"}, "init must be one of"),
        ({"solver": Decay(3)}, "solver must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        KMeansModule(**{"k": 3, "n_features": 2, **arguments})


def test_fewer_rows_than_clusters(trainer):
    with pytest.raises(ValueError, match="at most the number of rows: got k=6 for n=5"):
        trainer().fit(KMeansModule(6, 2), ArrayDataModule(torch.rand(5, 2)))
