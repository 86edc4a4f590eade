from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("triton")

from torchkm.kernels.gpu.streaming import Streamed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class FakeStream:
    """Notes what it waits for."""

    def __init__(self, log):
        self.log = log

    def wait_stream(self, other):
        self.log.append("waits for what reads")

    def wait_event(self, event):
        self.log.append("waits for a block")


class FakeEvent:
    def record(self, stream):
        pass


def laid_out(x, device):
    starts, origin = x[:3].to(device), x.mean(0).to(device)
    return Streamed(x, starts, None, origin, block_rows=20, max_iter=9)


def test_copies_wait_for_what_was_started_before_a_read(generator, monkeypatch):
    """Empty clusters are given rows of the last block after its read has ended."""
    log = []
    streamed = laid_out(torch.randn(50, 4, generator=generator), torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream([]))
    streamed._copies = FakeStream(log)
    fetch = streamed._fetch
    monkeypatch.setattr(streamed, "_fetch", lambda number: log.append(number) or fetch(number))
    for _ in range(2):
        log.clear()
        assert sum(block.n for block in streamed._read()) == 50
        assert log[:2] == ["waits for what reads", 0]


@pytest.mark.gpu
def test_rows_stay_until_they_have_been_read(generator):
    x = torch.randn(50, 4, generator=generator).pin_memory()
    streamed = laid_out(x, torch.device("cuda"))
    *_, last = streamed._read()
    torch.cuda._sleep(10**8)
    held = last.x.clone()
    list(streamed._read())
    assert torch.equal(held[0, :10].cpu(), x[40:])
