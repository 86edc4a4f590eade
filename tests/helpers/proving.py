"""What tests of proofs share: rows, truths, and digits to prove in on any machine."""

import pytest
import torch

from torchkm.kernels import bfloat16, compiled, int8, proof, rivals


def nearest_in_float64(x, centroids):
    apart = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1)


def mixture(n, d, k, generator, spread=1.0):
    centroids = torch.randn(k, d, generator=generator)
    at = torch.randint(k, (n,), generator=generator)
    return centroids[at] + spread * torch.randn(n, d, generator=generator), centroids


def sure_and_right(x, centroids):
    """Return the share of rows that are not in doubt, having seen that their labels are right."""
    found, doubtful = proof.labels(x, centroids)
    sure = torch.ones(len(x), dtype=torch.bool).index_fill_(0, doubtful, False)
    assert torch.equal(found[sure], nearest_in_float64(x, centroids)[sure])
    return sure.float().mean().item()


def need_eight_bits():
    """Skip where products of eight bits cannot be relied on: there the code never makes any."""
    if not int8.adds_in_int32():
        pytest.skip("products of eight bits are not added up as they are here")


def multiply_in_eight_bits(monkeypatch):
    """Prove in eight bits on any machine that has products of them to rely on."""
    need_eight_bits()
    monkeypatch.setattr(int8, "is_fast", lambda: True)
    monkeypatch.setattr(int8, "pays", lambda: True)
    monkeypatch.setattr(int8, "_MANY", 1)
    monkeypatch.setattr(int8, "_FEWEST", 2)
    monkeypatch.setattr(rivals, "_FEW", 1e9)


def leave_loops(monkeypatch):
    """Do without compiled loops, as where Numba is not installed."""
    monkeypatch.setattr(compiled, "available", lambda: False)


def multiply_in_bfloat16(monkeypatch):
    """Prove in bfloat16 on any machine that has products of it to rely on."""
    if not bfloat16.adds_in_float32():
        # On such a machine the code under test never multiplies in bfloat16 either.
        pytest.skip("products of bfloat16 lose digits here")
    leave_loops(monkeypatch)
    monkeypatch.setattr(bfloat16, "pays", lambda: True)
