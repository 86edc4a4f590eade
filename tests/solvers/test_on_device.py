import pytest
import torch

pytest.importorskip("triton")

import torchkm
from torchkm import kernels
from torchkm.functional.problem import as_problem
from torchkm.kernels.gpu.passes import Passes
from torchkm.solvers import Status, on_device, streamed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def x(generator):
    centres = 6 * torch.randn(4, 1, 5, generator=generator)
    return (centres + torch.randn(4, 20, 5, generator=generator)).flatten(0, 1)


@pytest.fixture
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("momentum", [0, 0.9])
def test_it_ends_where_lloyd_ends(metric, momentum, x, device):
    starts = torchkm.functional.unit(x[::20]) if metric == "cosine" else x[::20].clone()
    expected = torchkm.kmeans(x, 4, init=starts, solver="lloyd", metric=metric, tol=0)
    problem = as_problem(x.to(device), None, metric)
    going = on_device.Going("auto", 100, 0.0, momentum)
    fit = on_device.descend(problem, starts.unsqueeze(0).to(device), going, None)
    assert torch.equal(fit.labels.cpu(), expected.labels)
    assert (fit.centroids.cpu() - expected.centroids).abs().max() < 1e-5
    assert fit.inertia == pytest.approx(expected.inertia, rel=1e-6)
    assert fit.status is Status.LABELS_UNCHANGED
    if not momentum:
        assert len(fit.history) == expected.n_iter
        assert fit.history[0].inertia == pytest.approx(expected.history[0].inertia, rel=1e-6)


@pytest.mark.parametrize("stride", [0, 2])
def test_weights_may_lie_in_any_order(stride, x, device, generator):
    weight = torch.rand(160, generator=generator).as_strided((80,), (stride,))
    expected = torchkm.kmeans(x, 4, init=x[::20], solver="lloyd", sample_weight=weight, tol=0)
    problem = as_problem(x.to(device), weight.to(device), "euclidean")
    going = on_device.Going("auto", 100, 0.0)
    fit = on_device.descend(problem, x[::20].unsqueeze(0).to(device), going, None)
    assert fit.inertia == pytest.approx(expected.inertia, rel=1e-5)
    assert (fit.centroids.cpu() - expected.centroids).abs().max() < 1e-5


def test_the_best_of_several_starts_goes_on(x, device):
    starts = torch.stack([x[::20], x[:4]]).to(device)
    going = on_device.Going("auto", 100, 1e-4)
    problem = as_problem(x.to(device), None, "euclidean")
    single = [on_device.descend(problem, s.unsqueeze(0), going, None).inertia for s in starts]
    fit = on_device.descend(problem, starts, going, None)
    assert fit.inertia == pytest.approx(min(single), rel=1e-6)


def test_starts_that_find_no_room_together_go_one_by_one(x, device, monkeypatch):
    starts = torch.stack([x[:4], x[::20], x[4:8]]).to(device)
    problem, going = as_problem(x.to(device), None, "euclidean"), on_device.Going("auto", 100, 1e-4)
    expected, passes = on_device.descend(problem, starts, going, None), kernels.passes

    def room_for_one(rows, starts, *args, **settings):
        if len(starts) > 1:
            raise torch.OutOfMemoryError
        return passes(rows, starts, *args, **settings)

    monkeypatch.setattr(kernels, "passes", room_for_one)
    fit = on_device.descend(problem, starts, going, None)
    assert torch.equal(fit.centroids, expected.centroids)


def test_rows_go_without_a_copy_where_there_is_no_room(x, device, monkeypatch):
    passes = kernels.passes

    def no_copies(*args, **settings):
        if settings["precision"] == "auto":
            raise torch.OutOfMemoryError
        return passes(*args, **settings)

    monkeypatch.setattr(kernels, "passes", no_copies)
    problem, going = as_problem(x.to(device), None, "euclidean"), on_device.Going("auto", 100, 1e-4)
    fit = on_device.descend(problem, x[::20].unsqueeze(0).to(device), going, None)
    assert fit.precision == "tf32"


def test_who_watches_sees_each_pass_and_may_stop(x, device):
    seen = []

    def watch(record, centroids):
        seen.append((record.n_iter, tuple(centroids.shape)))
        return record.n_iter == 2

    problem = as_problem(x.to(device), None, "euclidean")
    going = on_device.Going("auto", 100, 0.0)
    fit = on_device.descend(problem, x[:4].unsqueeze(0).to(device), going, watch)
    assert fit.status is Status.CALLBACK
    assert seen == [(1, (4, 5)), (2, (4, 5))]
    again = torchkm.functional.assign(x, fit.centroids.cpu())
    assert torch.equal(again.labels, fit.labels.cpu())


def test_who_watches_may_stop_a_fit_as_it_settles(x, device, monkeypatch):
    """Where labels are about to be proven, and in the last pass, which then has settled."""
    seen, reopened = [], []
    reopen = Passes.reopen
    monkeypatch.setattr(Passes, "reopen", lambda self: reopened.append(len(seen)) or reopen(self))
    problem, starts = as_problem(x.to(device), None, "euclidean"), x[:4].unsqueeze(0).to(device)
    going = on_device.Going("auto", 100, 0.0)
    whole = on_device.descend(problem, starts, going, lambda record, _: seen.append(record))
    assert tuple(seen) == whole.history
    settled = reopened[-1]
    assert 0 < settled < len(seen)
    for last, status in ((settled, Status.CALLBACK), (len(seen), Status.LABELS_UNCHANGED)):
        fit = on_device.descend(problem, starts, going, lambda one, _, at=last: one.n_iter == at)
        assert fit.status is status
        assert fit.history == whole.history[:last]
        found = torchkm.functional.assign(x, fit.centroids.cpu())
        assert torch.equal(found.labels, fit.labels.cpu())
        assert fit.inertia == pytest.approx(found.sq_distances.sum().item(), rel=1e-5)


def test_max_iter_ends_a_fit_before_labels_are_proven_in_passes(x, device):
    seen = []
    problem, starts = as_problem(x.to(device), None, "euclidean"), x[:4].unsqueeze(0).to(device)
    fit = on_device.descend(
        problem, starts, on_device.Going("auto", 3, 0.0), lambda record, _: seen.append(record)
    )
    assert fit.status is Status.MAX_ITER
    assert [record.n_iter for record in seen] == [1, 2, 3]
    found = torchkm.functional.assign(x, fit.centroids.cpu())
    assert torch.equal(found.labels, fit.labels.cpu())
    assert fit.inertia == pytest.approx(found.sq_distances.sum().item(), rel=1e-5)


def test_max_iter_is_kept(x, device):
    problem = as_problem(x.to(device), None, "euclidean")
    fit = on_device.descend(
        problem, x[:4].unsqueeze(0).to(device), on_device.Going("auto", 3, 0.0), None
    )
    assert fit.status is Status.MAX_ITER
    assert len(fit.history) == 3


@pytest.mark.parametrize(
    ("bad", "message"), [(torch.nan, "1 of 80 rows hold NaN"), (1e19, "small enough to square")]
)
def test_bad_rows_are_named(bad, message, x, device):
    x[77, 1] = bad
    problem = as_problem(x.to(device), None, "euclidean")
    going = on_device.Going("auto", 3, 0.0)
    with pytest.raises(ValueError, match=message):
        on_device.descend(problem, x[:4].unsqueeze(0).to(device), going, None)


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_on_the_host_end_where_lloyd_ends(weighted, x, device, generator):
    weight = torch.rand(80, generator=generator) if weighted else None
    expected = torchkm.kmeans(
        x, 4, init=x[::20], solver="lloyd", sample_weight=weight, tol=0, generator=generator
    )
    fit = streamed.descend(
        as_problem(x, weight, "euclidean"),
        4,
        x[::20].to(device),
        1,
        device,
        on_device.Going("auto", 100, 0.0),
        None,
        generator,
        block_bytes=40 * 20,
    )
    assert torch.equal(fit.labels.cpu(), expected.labels)
    apart = (x.double() - fit.centroids.cpu().double()[fit.labels.cpu()]).square().sum(1)
    inertia = apart.sum() if weight is None else apart @ weight.double()
    assert fit.inertia == pytest.approx(inertia.item(), rel=1e-6)
    assert (fit.centroids.cpu() - expected.centroids).abs().max() < 1e-5
    assert fit.status is Status.LABELS_UNCHANGED


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["auto", "lloyd", "minibatch", "decay"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_solver_runs_on_a_gpu(solver, dtype, x, generator):
    rows = x.to(dtype)
    result = torchkm.kmeans(rows.cuda(), 4, solver=solver, init=x[::20].cuda(), max_iter=20)
    expected = torchkm.kmeans(rows, 4, solver=solver, init=x[::20], max_iter=20)
    assert result.labels.device.type == "cuda"
    assert result.inertia == pytest.approx(expected.inertia, rel=0.05)


@pytest.mark.gpu
def test_rows_move_to_the_device_that_is_asked_for(x):
    result = torchkm.kmeans(x, 4, init=x[::20], device="cuda")
    assert result.centroids.device.type == "cuda"


@pytest.mark.gpu
def test_deterministic_algorithms_may_be_asked_for(x):
    torch.use_deterministic_algorithms(True)
    try:
        torchkm.kmeans(x.cuda(), 4)
        torchkm.functional.assign_and_accumulate(x.cuda(), x[:4].cuda())
    finally:
        torch.use_deterministic_algorithms(False)
