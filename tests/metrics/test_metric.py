"""The torchmetrics classes: their functional twins over batches, ranks and a collection."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
import torch.multiprocessing
from torch import distributed
from torchmetrics import MetricCollection

from torchkm import metrics
from torchkm.metrics import contingency_table, functional

K, N_CLASSES = 6, 5
TWINS = {
    metrics.ContingencyTable: lambda labels, targets: contingency_table(
        labels, targets, K, N_CLASSES
    ),
    metrics.Homogeneity: functional.homogeneity,
    metrics.Completeness: functional.completeness,
    metrics.VMeasure: functional.v_measure,
    metrics.NormalizedMutualInfo: functional.normalized_mutual_info,
    metrics.AdjustedRand: functional.adjusted_rand,
    metrics.MajorityVoteAccuracy: functional.majority_vote_accuracy,
    metrics.HungarianAccuracy: functional.hungarian_accuracy,
}
each_metric = pytest.mark.parametrize("cls", TWINS, ids=lambda cls: cls.__name__)


def pair(n=90):
    """Labels that say something about the targets, but not all."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(N_CLASSES, (n,), generator=generator)
    return (targets + torch.randint(3, (n,), generator=generator)) % K, targets


def batches():
    """Three batches of different sizes."""
    return list(zip(*(part.split([20, 55, 15]) for part in pair()), strict=True))


def close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@each_metric
def test_equals_its_functional_twin_over_batches(cls):
    metric = cls(K, N_CLASSES)
    for labels, targets in batches():
        metric.update(labels, targets)
    close(metric.compute(), TWINS[cls](*pair()))


@each_metric
def test_forward_returns_the_batch_and_adds_it(cls):
    metric = cls(K, N_CLASSES)
    for labels, targets in batches():
        close(metric(labels, targets), TWINS[cls](labels, targets))
    close(metric.compute(), TWINS[cls](*pair()))


@each_metric
def test_reset_forgets(cls):
    metric = cls(K, N_CLASSES)
    metric.update([0] * 7, [1] * 7)
    metric.reset()
    assert not metric.table.any()
    metric.update(*pair())
    close(metric.compute(), TWINS[cls](*pair()))


@each_metric
def test_pickle_keeps_the_rows_so_far(cls):
    first, *rest = batches()
    metric = cls(K, N_CLASSES)
    metric.update(*first)
    metric = pickle.loads(pickle.dumps(metric))
    for labels, targets in rest:
        metric.update(labels, targets)
    close(metric.compute(), TWINS[cls](*pair()))


def test_two_metrics_share_nothing():
    one, other = metrics.ContingencyTable(2, 2), metrics.ContingencyTable(2, 2)
    one.update([0], [1])
    assert one.compute().tolist() == [[0, 1], [0, 0]]
    assert not other.table.any()


def test_the_computed_table_is_not_the_state():
    metric = metrics.ContingencyTable(2, 2)
    metric.update([0], [1])
    metric.compute().zero_()
    assert metric.table.tolist() == [[0, 1], [0, 0]]


def test_counts_stay_exact_past_two_to_the_24():
    metric = metrics.ContingencyTable(1, 2)
    metric.table = torch.tensor([[2**25, 2**40]])
    metric.update([0, 0], [0, 1])
    assert metric.compute().tolist() == [[2**25 + 1, 2**40 + 1]]
    assert metric.compute().dtype == torch.int64


def test_a_collection_ends_in_one_compute_group():
    collection = MetricCollection([cls(K, N_CLASSES) for cls in TWINS])
    for labels, targets in batches():
        collection.update(labels, targets)
    got = collection.compute()
    assert [sorted(group) for group in collection.compute_groups.values()] == [
        sorted(cls.__name__ for cls in TWINS)
    ]
    for cls, twin in TWINS.items():
        close(got[cls.__name__], twin(*pair()))
    collection.reset()
    collection.update([0, 1], [1, 0])
    assert collection.compute()["ContingencyTable"].sum() == 2


def test_a_collection_keeps_tables_of_other_sizes_apart():
    collection = MetricCollection(
        {"six": metrics.VMeasure(K, N_CLASSES), "nine": metrics.VMeasure(9, N_CLASSES)}
    )
    collection.update(*pair())
    got = collection.compute()
    assert len(collection.compute_groups) == 2
    assert got["six"] == got["nine"] == functional.v_measure(*pair())


@each_metric
def test_directions(cls):
    assert cls.higher_is_better is (None if cls is metrics.ContingencyTable else True)
    assert cls.is_differentiable is metrics.Inertia.is_differentiable is False
    assert cls.full_state_update is metrics.Inertia.full_state_update is False
    assert metrics.Inertia.higher_is_better is False


@each_metric
@pytest.mark.parametrize(
    ("labels", "targets", "error", "message"),
    [
        ([K], [0], ValueError, r"labels must lie in \[0, 6\) for k=6, got 6"),
        ([0], [N_CLASSES], ValueError, r"targets must lie in \[0, 5\) for n_classes=5, got 5"),
        ([-1], [0], ValueError, "labels must not be negative"),
        ([0, 0], [0], ValueError, "got 2 labels and 1 targets"),
        ([0.0], [0], TypeError, "labels must hold integers"),
    ],
)
def test_update_refuses(cls, labels, targets, error, message):
    metric = cls(K, N_CLASSES)
    with pytest.raises(error, match=message):
        metric.update(torch.tensor(labels), torch.tensor(targets))
    assert not metric.table.any()


@each_metric
@pytest.mark.parametrize(
    ("k", "n_classes", "error", "message"),
    [
        (0, 2, ValueError, "k must be at least 1, got 0"),
        (2, 0, ValueError, "n_classes must be at least 1, got 0"),
        (2.0, 2, TypeError, "k must be an integer, got 2.0"),
        (2, "2", TypeError, "n_classes must be an integer, got '2'"),
    ],
)
def test_bad_sizes(cls, k, n_classes, error, message):
    with pytest.raises(error, match=message):
        cls(k, n_classes)


def test_inertia_equals_its_functional_twin_over_batches(generator):
    values, weight = torch.rand(2, 90, generator=generator)
    metric = metrics.Inertia()
    for part, share in zip(values.split(40), weight.split(40), strict=True):
        close(metric(part, share), functional.inertia(part, share))
    close(metric.compute(), functional.inertia(values, weight))
    metric.reset()
    metric.update(values)
    close(metric.compute(), functional.inertia(values))


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.float(),
        lambda module: module.half(),
        lambda module: pickle.loads(pickle.dumps(module)),
    ],
    ids=["float", "half", "pickle"],
)
def test_inertia_stays_float64(change):
    """A float32 total would lose each of the ones."""
    metric = metrics.Inertia()
    metric.update(torch.tensor([2.0**24]))
    metric = change(torch.nn.ModuleList([metric]))[0]
    for _ in range(3):
        metric.update(torch.ones(1))
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == 2**24 + 3
    metric.reset()
    assert metric.total.dtype == metric.dtype == torch.float64


def test_inertia_refuses():
    metric = metrics.Inertia()
    with pytest.raises(TypeError, match="sq_distances must hold float numbers, got int64"):
        metric.update(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(2,\)"):
        metric.update(torch.ones(2), torch.ones(3))
    assert metric.total == 0


def test_every_name_resolves():
    assert dir(metrics) == sorted(metrics.__all__)
    for name in metrics.__all__:
        assert getattr(metrics, name).__name__.split(".")[-1] == name
    with pytest.raises(AttributeError, match=r"'torchkm.metrics' has no attribute 'Purity'"):
        _ = metrics.Purity


def test_torchmetrics_loads_when_asked_for():
    code = """
import json, sys
import torchkm.metrics
heavy = ["torchmetrics", "scipy", "sklearn", "torchvision", "pytorch_lightning"]
seen = [[name for name in heavy if name in sys.modules]]
torchkm.metrics.functional.adjusted_rand([0, 0, 1], [0, 0, 1])
torchkm.metrics.MajorityVote().fit([0, 1], [0, 1]).accuracy([0, 1], [0, 1])
seen.append([name for name in heavy if name in sys.modules])
torchkm.metrics.VMeasure
seen.append("torchmetrics" in sys.modules)
print(json.dumps(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], True]


def rank_main(rank, folder):
    """One of two ranks, each with its share of the rows; writes what it computes."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2
    )
    share = slice(30) if rank == 0 else slice(30, None)
    labels, targets = (part[share] for part in pair())
    collection = MetricCollection([cls(K, N_CLASSES) for cls in TWINS])
    collection.update(labels, targets)
    inertia = metrics.Inertia()
    inertia.update(torch.tensor([2.0**24 if rank == 0 else 1.0]))
    torch.save({**collection.compute(), "Inertia": inertia.compute()}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_ranks_compute_the_scores_of_all_rows(tmp_path, pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(pytestconfig.rootpath)  # where the ranks find this module
    torch.multiprocessing.spawn(rank_main, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt")
        for cls, twin in TWINS.items():
            close(got[cls.__name__], twin(*pair()))
        assert got["Inertia"].item() == 2**24 + 1


def test_inertia_keeps_its_digits_when_moved_to_a_narrow_dtype():
    metric = metrics.Inertia()
    metric.update(torch.tensor([2.0**24 + 1], dtype=torch.float64))
    metric.to(torch.float32)
    assert metric.compute().item() == 2**24 + 1
    metric.reset()
    assert metric.total.dtype == torch.float64
