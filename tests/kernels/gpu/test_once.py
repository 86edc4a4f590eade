import pytest
import torch

pytest.importorskip("triton")

from torchkm.functional.problem import as_problem
from torchkm.kernels import blocked
from torchkm.kernels.gpu import once

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("k", [5, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_look_finds_what_blocks_find(k, dtype, weighted, device, generator):
    x = (30 * torch.randn(90, 11, generator=generator) + 120).clamp(0, 255).to(dtype).to(device)
    weight = torch.rand(90, generator=generator).to(device) if weighted else None
    centroids, origin = x[:k].float() + 0.1, x.float().mean(0)
    found = once.nearest_and_sums(x, centroids, weight, False, origin)
    expected = blocked.nearest_and_sums(x, centroids, weight, False, origin)
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        tolerance = 1e-5 * float(theirs.abs().max())
        assert mine.double().sub(theirs.double()).abs().max() <= tolerance
    assert found[2].dtype == found[3].dtype == torch.float64


def test_unit_rows_are_measured_on_the_sphere(device, generator):
    x = (torch.randn(60, 7, generator=generator) + 1).to(device)
    centroids = torch.nn.functional.normalize(x[:6])
    origin = torch.nn.functional.normalize(x).mean(0)
    found = once.nearest(x, centroids, True, origin)
    expected = blocked.nearest(x, centroids, True, origin)
    assert torch.equal(found[0], expected[0])
    assert (found[1] - expected[1]).abs().max() < 1e-6


def test_rows_of_other_strides_are_read_right(device, generator):
    x = torch.randn(12, 60, generator=generator).to(device).T
    centroids, origin = x[:6].contiguous(), x.mean(0)
    assert torch.equal(once.nearest(x, centroids, False, origin)[0][:6].cpu(), torch.arange(6))
    wide = torch.randn(40, 30, generator=generator).to(device)[:, 3:15]
    found, _ = once.nearest(wide, wide[:9].contiguous(), False, wide.mean(0))
    assert torch.equal(found[:9].cpu(), torch.arange(9))


@pytest.mark.parametrize("stride", [0, 2])
def test_weights_of_other_strides_are_read_right(stride, device, generator):
    x = torch.randn(40, 6, generator=generator).to(device)
    weight = torch.rand(80, generator=generator).to(device).as_strided((40,), (stride,))
    problem = as_problem(x, weight, "euclidean")
    found = once.nearest_and_sums(x, x[:5], problem.sample_weight, False, problem.origin)
    expected = blocked.nearest_and_sums(x, x[:5], weight.clone(), False, problem.origin)
    assert (found[2] - expected[2]).abs().max() < 1e-5
    assert (found[3] - expected[3]).abs().max() < 1e-5


def test_a_row_on_its_centroid_is_at_zero(device, generator):
    x = (torch.randn(30, 20, generator=generator) + 100).to(device)
    _, sq_distances = once.nearest(x, x[:5].clone(), False, x.mean(0))
    assert not sq_distances[:5].any()
