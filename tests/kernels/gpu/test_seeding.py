import pytest
import torch

pytest.importorskip("triton")

from torchkm.kernels import seeding as on_cpu
from torchkm.kernels.gpu import seeding

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize(
    ("m", "d", "k", "trials"), [(150, 5, 12, 4), (70, 90, 6, 3), (40, 3, 1, 2)]
)
def test_the_same_rows_are_chosen_as_on_a_cpu(m, d, k, trials, device, generator):
    rows = torch.randn(m, d, generator=generator)
    weight = torch.rand(m, generator=generator)
    draws = torch.rand(k - 1, trials, dtype=torch.float64, generator=generator)
    first = torch.tensor([5])
    chosen, left = seeding.one_by_one(
        rows.to(device), k, weight.to(device), first.to(device), draws.to(device)
    )
    expected, potential = on_cpu.one_by_one(rows, weight, first, draws)
    assert torch.equal(chosen.cpu(), expected)
    assert (left.cpu() - potential).abs().max() < 1e-4


def test_rows_and_weights_of_other_strides_are_read_right(device, generator):
    rows = torch.randn(90, 7, generator=generator).to(device)
    weight = torch.rand(180, generator=generator).to(device)[::2]
    draws = torch.rand(8, 3, dtype=torch.float64, generator=generator).to(device)
    first = torch.tensor([5], device=device)
    chosen, left = seeding.one_by_one(rows.T.contiguous().T, 9, weight, first, draws)
    expected, potential = seeding.one_by_one(rows, 9, weight.clone(), first, draws)
    assert torch.equal(chosen, expected)
    assert torch.equal(left, potential)


def test_equal_rows_are_drawn_by_weight(device):
    rows = torch.zeros(20, 2, device=device)
    weight = torch.zeros(20, device=device)
    weight[13] = 1.0
    draws = torch.full((3, 2), 0.5, dtype=torch.float64, device=device)
    chosen, left = seeding.one_by_one(rows, 4, weight, torch.tensor([13], device=device), draws)
    assert chosen.tolist() == [13] * 4
    assert not left.any()
