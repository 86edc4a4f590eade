"""Rows that do not fit on a device; where there is no GPU, a CPU with an index stands for one."""

import pytest
import torch

import torchkm
from torchkm import kernels
from torchkm.kernels import dispatch
from torchkm.solvers import Decay, Status, fit, streamed
from torchkm.solvers.fit import Settings
from torchkm.solvers.loop import Fit

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu", 0)


@pytest.fixture
def x(generator):
    centres = 6 * torch.randn(4, 1, 5, generator=generator)
    return (centres + torch.randn(4, 20, 5, generator=generator)).flatten(0, 1)


@pytest.fixture
def too_small(monkeypatch):
    """A device without room for the rows."""
    monkeypatch.setattr(fit, "as_device", lambda asked, x: DEVICE if asked else x.device)
    monkeypatch.setattr(streamed, "fits", lambda x, device: False)


@pytest.fixture
def gpu(too_small, monkeypatch):
    """One for which there are kernels."""
    pytest.importorskip("triton")
    if DEVICE.type == "cpu":
        for module in (kernels, dispatch):
            monkeypatch.setattr(module, "has_gpu_kernels", lambda x: x.dtype != torch.float64)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("precision", ["auto", "tf32", "float16", "float32"])
def test_rows_stay_on_the_host(precision, x):
    expected = torchkm.kmeans(x.double(), 4, init=x[::20], solver="lloyd", tol=0)
    start = x[::20].numpy()
    found = torchkm.kmeans(x, 4, init=start, precision=precision, tol=0, device="cuda")
    assert torch.equal(found.labels.cpu(), expected.labels)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-6)


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_settings_are_those_of_the_device(precision, x, monkeypatch):
    seen = {}

    def descend(problem, k, init, n_init, device, going, watch, generator):
        seen.update(rows=problem.x.device.type, init=init.device.type, going=going)
        return Fit(x[:4], torch.zeros(80).long(), 0.0, Status.TOLERANCE, (), "tf32")

    for module in (kernels, dispatch):
        monkeypatch.setattr(module, "has_gpu_kernels", lambda x: x.device.type == "meta")
    monkeypatch.setattr(streamed, "fits", lambda x, device: False)
    monkeypatch.setattr(streamed, "descend", descend)
    fit.solve(
        x, 4, x[:4], None, torch.Generator(), None, Settings(precision=precision, device="meta")
    )
    assert (seen["rows"], seen["init"], seen["going"].precision) == ("cpu", "meta", precision)


@pytest.mark.usefixtures("gpu")
def test_the_best_of_several_starts_goes_on(x):
    starts = iter([x[:4], x[::20], x[1:5]])
    found = torchkm.kmeans(
        x, 4, init=lambda rows, k, generator: next(starts).to(rows.device), n_init=3, device="cuda"
    )
    expected = torchkm.kmeans(x.double(), 4, init=x[::20].double(), solver="lloyd")
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-5)
    assert next(starts, None) is None


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "lloyd"}, "need solver=\"auto\", got solver='lloyd'"),
        ({"solver": Decay()}, 'need solver="auto", got solver=Decay'),
        ({"solver": "lloid"}, "solver must be one of 'auto'"),
        ({"refine": 2}, "need refine=0, got refine=2"),
        ({"metric": "cosine"}, "got float32 rows with metric='cosine'"),
        ({"precision": "half"}, "precision must be one of"),
    ],
)
def test_what_is_not_done_with_rows_on_the_host_is_named(settings, message, x):
    with pytest.raises(ValueError, match=message):
        torchkm.kmeans(x, 4, device="cuda", **settings)


@pytest.mark.usefixtures("gpu")
def test_rows_of_float64_do_not_stay_on_the_host(x):
    with pytest.raises(ValueError, match="float32 or less"):
        torchkm.kmeans(x.double(), 4, device="cuda")


@pytest.mark.usefixtures("too_small")
def test_without_kernels_it_is_said_what_is_needed(x, monkeypatch):
    monkeypatch.setattr(kernels, "has_gpu_kernels", lambda x: False)
    monkeypatch.setattr(streamed, "descend", None)
    with pytest.raises(ValueError, match=r"do not fit on .* need Triton and a GPU of compute cap"):
        torchkm.kmeans(x, 4, device="cuda")


def no_memory(*args):
    raise torch.OutOfMemoryError("no memory")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("where", ["_on", "_auto"])
def test_rows_go_back_to_the_host_when_memory_runs_out(where, x, monkeypatch):
    seed = torch.Generator().manual_seed
    expected = torchkm.kmeans(x, 4, device="cuda", generator=seed(1))
    monkeypatch.setattr(streamed, "fits", lambda x, device: True)
    monkeypatch.setattr(fit, where, no_memory)
    found = torchkm.kmeans(x, 4, device="cuda", generator=seed(1))
    assert torch.equal(found.centroids, expected.centroids)
    assert found.inertia == expected.inertia


@pytest.mark.usefixtures("gpu")
def test_draws_before_memory_ran_out_are_made_again(x, monkeypatch):
    seed = torch.Generator().manual_seed
    expected = torchkm.kmeans(x, 4, device="cuda", generator=seed(1))
    monkeypatch.setattr(streamed, "fits", lambda x, device: True)
    monkeypatch.setattr(fit.on_device, "descend", fails_once(fit.on_device.descend))
    found = torchkm.kmeans(x, 4, device="cuda", generator=seed(1))
    assert torch.equal(found.centroids, expected.centroids)


def fails_once(function):
    ways = iter([no_memory])
    return lambda *args: next(ways, function)(*args)


@pytest.mark.usefixtures("gpu")
def test_who_cannot_go_back_is_told_how_much_it_takes(x, monkeypatch):
    monkeypatch.setattr(streamed, "fits", lambda x, device: True)
    monkeypatch.setattr(fit, "_by_rule", no_memory)
    message = r"80 rows take 1.6e-06 GB there, .* about 4.8e-06 GB; .* solver=\"auto\""
    with pytest.raises(torch.OutOfMemoryError, match=message) as caught:
        torchkm.kmeans(x, 4, solver="lloyd", device="cuda")
    assert str(caught.value.__cause__) == "no memory"


def test_rows_on_the_device_are_said_to_be_better_off_on_the_host(x, monkeypatch):
    monkeypatch.setattr(fit, "_auto", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="need to lie on the host, got them on cpu"):
        torchkm.kmeans(x, 4)


@pytest.mark.gpu
def test_rows_beyond_the_memory_that_may_be_used_stay_on_the_host(generator):
    x = torch.rand(2**22, 128, generator=generator)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.75 * x.nbytes / total)
    try:
        found = torchkm.kmeans(x, 4, max_iter=3, generator=generator, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.precision == "tf32"
    assert found.centroids.device.type == "cuda"
    assert len(found.labels) == len(x)


def test_memory_that_torch_keeps_is_free_for_rows(monkeypatch):
    free = {"mem_get_info": (1000, 9000), "memory_reserved": 5000, "memory_allocated": 2000}
    for name, found in free.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, found=found: found)
    needed = 4000 * 0.8  # of float32 rows of one number, each with 42 bytes beside them
    n = int(needed / (4 + 42))
    device = torch.device("cuda")
    assert streamed.fits(torch.zeros(n, 1), device)
    assert not streamed.fits(torch.zeros(n + 1, 1), device)
