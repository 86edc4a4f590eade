"""Two processes end where one does: the stats are summed before any centroid moves."""

import os
import socket

import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing

from torchkm.lightning import ArrayDataModule, ClusterMetrics, KMeansModule

pytestmark = pytest.mark.ddp


def fit(folder, n_ranks, rank, solver, lost_centroid):
    """Fit on one of ``n_ranks`` processes, and save what it ends with."""
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    data = ArrayDataModule(rows, torch.arange(200) % 4, test=rows[:30], batch_size=50, seed=2)
    module = KMeansModule(4, 3, solver=solver)
    module.kmeans.seed(rows, init=rows[:4])
    if lost_centroid:
        module.kmeans.centroids[1] = 1e3
    metrics = ClusterMetrics()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=n_ranks,
        strategy="ddp" if n_ranks > 1 else "auto",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[metrics],
    )
    trainer.fit(module, data)
    found = {"state": module.state_dict(), "results": metrics.results, "inertia": module.inertia}
    torch.save(found, folder / f"{n_ranks}-{rank}.pt")


def fit_on_rank(rank, port, folder, solver, lost_centroid):
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
    }
    fit(folder, 2, rank, solver, lost_centroid)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize(
    ("solver", "lost_centroid"), [("decay", False), ("lloyd", True), ("minibatch", True)]
)
def test_two_ranks_equal_one(tmp_path, solver, lost_centroid):
    fit(tmp_path, 1, 0, solver, lost_centroid)
    arguments = (free_port(), tmp_path, solver, lost_centroid)
    torch.multiprocessing.spawn(fit_on_rank, arguments, nprocs=2)
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))

    assert one["state"].keys() == first["state"].keys()  # no stand-in parameter is saved
    for name, value in one["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-5, atol=1e-5)
        assert torch.equal(first["state"][name], second["state"][name])
    assert first["inertia"] == pytest.approx(one["inertia"], rel=1e-5)
    for split, scores in one["results"].items():
        assert first["results"][split] == pytest.approx(scores, rel=1e-5)
