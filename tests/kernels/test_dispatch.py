"""Whatever backend rows are sent to has what is asked of it."""

import pytest
import torch

import torchkm
from torchkm import kernels
from torchkm.kernels import dispatch

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

WAYS = {
    "nearest": lambda x, c, origin: kernels.nearest(x, c, False, origin),
    "nearest_and_sums": lambda x, c, origin: kernels.nearest_and_sums(x, c, None, False, origin),
    "labels": lambda x, c, origin: kernels.labels(x, c, False)[:1],
    "rough_sums": lambda x, c, origin: kernels.rough_sums(
        x, c, False, origin, kernels.Directions()
    ),
    "of_each": lambda x, c, origin: kernels.inertia_and_sums_of_each(
        x, c.unsqueeze(0), None, False, origin
    ),
    "segment_sums": lambda x, c, origin: kernels.segment_sums(
        x, torch.arange(len(x), device=x.device) % 4, 4, None, False
    ),
    "distances": lambda x, c, origin: [kernels.distances(x, c, False)],
    "sq_differences": lambda x, c, origin: [
        kernels.sq_differences(x, c, *torch.arange(4, device=x.device).expand(2, 4), False)
    ],
    "sq_differences_of_all": lambda x, c, origin: [
        kernels.sq_differences(x, c, torch.arange(len(x), device=x.device) % 4, None, False)
    ],
}


@pytest.fixture
def x(generator):
    return torch.randn(80, 5, generator=generator)


@pytest.mark.parametrize("name", WAYS)
def test_rows_with_gpu_kernels_get_what_others_get(name, x, monkeypatch):
    pytest.importorskip("triton")
    expected = WAYS[name](x, x[:4], x.mean(0))
    monkeypatch.setattr(dispatch, "has_gpu_kernels", lambda x: True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = x.to(device)
    for mine, theirs in zip(WAYS[name](rows, rows[:4], rows.mean(0)), expected, strict=True):
        assert (mine.cpu().double() - theirs.double()).abs().max() < 1e-4


@pytest.mark.gpu
def test_distances_on_a_gpu(x):
    found = torchkm.functional.distances(x.cuda(), x[:4].cuda())
    assert found.device.type == "cuda"
    assert (found.cpu() - torchkm.functional.distances(x, x[:4])).abs().max() < 1e-5
    module = torchkm.nn.KMeans(k=4, n_features=5).cuda()
    module.update(x.cuda())
    assert module.transform(x.cuda()).shape == (80, 4)
