"""Boxes hold the rows and touch them on every side; draws fill them."""

import pytest
import torch

from torchkm.functional.box import box_around, principal_axes
from torchkm.kernels import layout


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "_FEWEST_ROWS", 16)
    monkeypatch.setattr(layout, "_MOST_ROWS", 16)


def oblong(generator, n=300):
    """Rows along a direction of their own: widths 9, 1 and 0.1, far from 0."""
    widths = torch.tensor([9.0, 1.0, 0.1], dtype=torch.float64)
    square = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(square).Q
    return (torch.rand(n, 3, generator=generator, dtype=torch.float64) * widths) @ turn.T + 50, turn


def test_principal_axes_are_those_of_the_decomposition(generator):
    x, _ = oblong(generator)
    before = x.clone()
    want = torch.linalg.svd(x - x.mean(0)).Vh.flip(0)
    overlap = (principal_axes(x).T @ want.T).abs()
    torch.testing.assert_close(overlap, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-10)
    assert torch.equal(x, before)


def test_a_box_of_features_ends_at_the_rows(generator):
    x, _ = oblong(generator)
    box = box_around(x)
    assert torch.equal(box.low, x.amin(0))
    assert torch.equal(box.high, x.amax(0))


def test_a_turned_box_is_as_narrow_as_the_rows(generator):
    x, turn = oblong(generator)
    box = box_around(x, turn)
    torch.testing.assert_close(box.low, (x @ turn).amin(0))
    torch.testing.assert_close(box.high, (x @ turn).amax(0))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_draws_fill_the_box(turned, dtype, generator):
    x, turn = oblong(generator)
    x = x.to(dtype)
    axes = turn if turned else torch.eye(3, dtype=torch.float64)
    box = box_around(x, axes if turned else None)
    rows = box.draw(2000, generator)
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    along = rows.double() @ axes
    room = (box.high - box.low).clamp_min(1e-6)
    share = (along - box.low) / room
    assert bool(((share > -1e-3) & (share < 1 + 1e-3)).all())
    spread = share[:, box.high > box.low]
    torch.testing.assert_close(spread.mean(0), torch.full_like(spread[0], 0.5), rtol=0, atol=0.03)
    # The deviation of even draws from [0, 1].
    even = torch.full_like(spread[0], 12**-0.5)
    torch.testing.assert_close(spread.std(0), even, rtol=0.05, atol=0)


def test_a_feature_that_never_changes_stays(generator):
    x = torch.rand(40, 3, generator=generator)
    x[:, 1] = 0.3
    assert set(box_around(x).draw(50, generator)[:, 1].tolist()) == {x[0, 1].item()}
