"""Gradients through a choice: values are the codes', gradients are as the papers have them."""

import math

import pytest
import torch

from torchkm.nn.passing import PASSINGS, rotated, straight_through


def draw(generator, n=20, d=3):
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64, requires_grad=True)
    codes = torch.randn(n, d, generator=generator, dtype=torch.float64, requires_grad=True)
    return rows, codes, torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("passing", PASSINGS.values())
def test_the_values_are_the_codes_to_the_bit(passing, generator):
    rows, codes, upstream = draw(generator)
    found = passing(rows, codes)
    assert torch.equal(found, codes)
    found.backward(upstream)
    assert codes.grad is None


def test_straight_through_copies(generator):
    rows, codes, upstream = draw(generator)
    straight_through(rows, codes).backward(upstream)
    assert torch.equal(rows.grad, upstream)


def test_rotation_is_the_matrix_of_the_paper(generator):
    """``|q| / |e| (1 - 2 r r' + 2 q^ e^')``, written out for each row."""
    rows, codes, upstream = draw(generator)
    rotated(rows, codes).backward(upstream)
    for row, code, given, got in zip(
        rows.detach(), codes.detach(), upstream, rows.grad, strict=True
    ):
        e, q = row / row.norm(), code / code.norm()
        r = (e + q) / (e + q).norm()
        turn = torch.eye(3).double() - 2 * torch.outer(r, r) + 2 * torch.outer(q, e)
        torch.testing.assert_close(turn @ turn.T, torch.eye(3).double())
        torch.testing.assert_close(code.norm() / row.norm() * turn @ row, code)
        torch.testing.assert_close(got, code.norm() / row.norm() * turn.T @ given)


def test_rotation_keeps_angles_and_scales_lengths(generator):
    rows, codes, upstream = draw(generator)
    rotated(rows, codes).backward(upstream)
    before = torch.cosine_similarity(upstream, codes.detach(), dim=1)
    after = torch.cosine_similarity(rows.grad, rows.detach(), dim=1)
    torch.testing.assert_close(before, after)
    stretch = (codes.norm(dim=1) / rows.norm(dim=1)).detach()
    torch.testing.assert_close(rows.grad.norm(dim=1), stretch * upstream.norm(dim=1))


def test_rows_without_an_angle_get_a_copy_and_opposite_ones_a_mirror():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    codes = torch.tensor([[1.0, 1.0], [0.0, 0.0], [-2.0, 0.0]])
    upstream = torch.tensor([[1.0, 2.0]]).expand(3, 2)
    found = rotated(rows, codes)
    assert torch.equal(found, codes)
    found.backward(upstream)
    assert rows.grad[:2].tolist() == [[1, 2], [1, 2]]
    torch.testing.assert_close(rows.grad[2].norm().item(), math.sqrt(5))
    assert rows.grad[2, 0] == -1
