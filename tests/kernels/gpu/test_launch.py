from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from torchkm.kernels.gpu import launch, once, seeding
from torchkm.kernels.gpu.passes import Passes
from torchkm.kernels.gpu.streaming import Streamed


def test_work_is_done_on_the_device_of_its_first_argument(monkeypatch):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(entered.append(device)))
    work = launch.on_its_device(lambda first, number, factor=1: number * factor)
    assert work(SimpleNamespace(device=torch.device("cpu")), 3) == 3
    assert work(SimpleNamespace(device=torch.device("cuda:1")), 3, factor=2) == 6
    assert entered == [torch.device("cuda:1")]


def test_all_that_starts_kernels_goes_to_its_device():
    doors = [once.nearest, once.nearest_and_sums, seeding.one_by_one]
    doors += [getattr(Passes, name) for name in ("measure", "advance", "look", "rest", "inertia")]
    doors += [getattr(Streamed, name) for name in ("measure", "advance", "look")]
    assert all(hasattr(door, "__wrapped__") for door in [*doors, Passes.ask])


# With one device the current one is that of the rows, and nothing could go wrong.
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_rows_may_be_on_another_device_than_the_current_one(generator):
    x = torch.randn(500, 20, generator=generator)
    ends = []
    for device in ("cuda:0", "cuda:1"):
        run = Passes(x.to(device), x[:7].to(device))
        run.begin()
        run.advance(12, proven=True)
        run.rest()
        assert run.ask().is_done() is False
        labels, _ = once.nearest(x.to(device), run.centroids[0], False, x.mean(0).to(device))
        assert torch.equal(labels, run.labels[0].long())
        ends.append(run.centroids.cpu())
    assert torch.equal(*ends)
