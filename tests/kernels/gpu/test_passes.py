import pytest
import torch

pytest.importorskip("triton")

from torchkm.kernels.gpu import launch, passes
from torchkm.kernels.gpu.passes import Passes

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def lloyd(x, centroids, n_passes, weight=None):
    """Passes in float64, on whole matrices; labels and inertia are about the last starts."""
    x, centroids = x.double(), centroids.double()
    weight = torch.ones_like(x[:, 0]) if weight is None else weight.double()
    for _ in range(n_passes):
        labels = (x[:, None] - centroids).square().sum(2).argmin(1)
        inertia = weight @ (x - centroids[labels]).square().sum(1)
        counts = torch.zeros_like(centroids[:, 0]).index_add_(0, labels, weight)
        sums = torch.zeros_like(centroids).index_add_(0, labels, x * weight[:, None])
        moved = sums / counts.clamp_min(1e-30)[:, None]
        centroids = torch.where(counts[:, None] > 0, moved, centroids)
    return labels, centroids, inertia


def rows(n, d, generator, dtype=torch.float32):
    x = 3 * torch.randn(n, d, generator=generator) + 5
    return x.mul(20).clamp(0, 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)


def check(run, problem, expected, tolerance=2e-6, rel=1e-6):
    labels, centroids, inertia = expected
    assert torch.equal(run.labels[problem].cpu().long(), labels)
    scale = centroids.abs().max()
    assert (run.state.means[problem].cpu() - centroids).abs().max() <= tolerance * scale
    last = run.state.history[problem, int(run.state.n_passes[problem]) - 1]
    assert last[0].item() == pytest.approx(inertia.item(), rel=rel)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("dtype", "precision", "n", "d", "k"),
    [
        (torch.float32, "auto", 70, 5, 7),  # a copy in float16, rows that stay
        (torch.float32, "auto", 40, 300, 3),  # wide rows, in steps
        (torch.float32, "tf32", 70, 19, 5),
        (torch.uint8, "float32", 70, 19, 3),
        (torch.float16, "auto", 70, 18, 66),  # more centroids than a program adds rows up for
        # Triton's interpreter does not multiply bfloat16.
        pytest.param(torch.bfloat16, "auto", 500, 33, 9, marks=pytest.mark.gpu),
        pytest.param(torch.float32, "bfloat16", 3001, 100, 40, marks=pytest.mark.gpu),
        pytest.param(torch.float32, "auto", 5000, 784, 300, marks=pytest.mark.gpu),
        pytest.param(torch.float32, "auto", 5000, 96, 1100, marks=pytest.mark.gpu),
    ],
)
def test_passes_are_lloyds(dtype, precision, n, d, k, weighted, device, generator):
    x = rows(n, d, generator, dtype)
    weight = torch.rand(n, generator=generator) + 0.1 if weighted else None
    starts = x[:k].float()
    on_device = None if weight is None else weight.to(device)
    run = Passes(x.to(device), starts.to(device), on_device, precision=precision, shift=-1.0)
    run.begin(proven=True)
    run.advance(1, proven=True)
    check(run, 0, lloyd(x.float(), starts, 2, weight))
    run.advance(1, proven=True, anew=True)
    check(run, 0, lloyd(x.float(), starts, 3, weight))


# Triton's interpreter does not multiply bfloat16.
EVERY_PRECISION = pytest.mark.parametrize(
    "precision",
    ["auto", "float16", "tf32", "float32", pytest.param("bfloat16", marks=pytest.mark.gpu)],
)


def labelled(x, starts, device, precision, origin=None):
    """Return passes that have proven labels ``(n,)`` to the starts, and did nothing else."""
    run = Passes(x.to(device), starts.to(device), precision=precision, origin=origin)
    run.measure()
    launch.step(run.state, unit_rows=False, from_means=False)
    launch.assign(run.state, run.block, prove=True)
    return run


@EVERY_PRECISION
def test_labels_in_doubt_are_those_of_float32(precision, device, generator):
    """Scores that carry a label cannot tell these centroids apart: only a proof can."""
    x = torch.randn(60, 16, generator=generator)
    starts = x[:1] + 1e-5 * torch.randn(64, 16, generator=generator)
    run = labelled(x, starts, device, precision)
    assert int(run.state.counters[0, 1]) > 30
    nearest = (x.double()[:, None] - starts.double()).square().sum(2)
    found = nearest.gather(1, run.labels[0].cpu().long()[:, None])[:, 0]
    assert (found - nearest.amin(1)).max() <= 2e-7 * nearest.max()


@EVERY_PRECISION
@pytest.mark.parametrize("sign", [-1, 1])
def test_equal_centroids_give_the_lowest_label(precision, sign, device, generator):
    """Also where a later tile holds the equal one farther to its front."""
    x = 5 + torch.randn(40, 8, generator=generator)
    starts = torch.cat([sign * x[:35], sign * x[:35].flip(0)])
    run = labelled(x, starts, device, precision)
    assert int(run.labels.max()) < 35
    starts = starts[:2].repeat(3, 1)
    assert int(labelled(x, starts, device, precision).labels.max()) <= 1


@EVERY_PRECISION
def test_ties_of_whole_numbers_go_to_the_lowest_label(precision, device, generator):
    x = torch.randint(4, (90, 3), generator=generator).float()
    starts = torch.randint(4, (70, 3), generator=generator).float()
    run = labelled(x, starts, device, precision, torch.ones(3, device=device))
    far = (x[:, None] - starts).square().sum(2)  # (n, k)
    lowest = torch.where(far == far.amin(1, keepdim=True), torch.arange(70), 70).amin(1)
    assert torch.equal(run.labels[0].cpu().long(), lowest)


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_rows_are_measured_as_they_enter_the_product(precision, device, generator):
    """A proof needs their length, and what the product will drop of it."""
    x = torch.randn(50, 7, generator=generator)
    origin = torch.full((7,), 9.0)
    run = Passes(x.to(device), x[:3].to(device), precision=precision, origin=origin.to(device))
    run.measure()
    length = (x - origin).norm(dim=1)
    assert (run.block.norms[0].cpu() >= length).all()
    assert (run.block.residuals[0].cpu() >= length * run.form.lost).all()
    assert (run.block.norms[0].cpu() <= 1.001 * length).all()


def test_each_problem_goes_its_own_way_and_stops_by_itself(device, generator):
    x = torch.stack([rows(30, 4, generator), 9 * rows(30, 4, generator), torch.ones(30, 4)])
    x[2, :15] = -1
    starts = torch.stack([x[0, :3], x[1, :3], x[2, [0, 20, 1]]])
    run = Passes(x.to(device), starts.to(device), max_iter=30)
    run.begin(proven=True)
    run.advance(20, proven=True)
    done, n_passes = run.state.done.tolist(), run.state.n_passes.tolist()
    assert set(done) <= {1, 2}
    assert n_passes[2] < min(n_passes[:2])
    for problem in range(2):
        check(run, problem, lloyd(x[problem], starts[problem], n_passes[problem]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("dtype", "precision", "reach", "far"),
    [
        (torch.float32, "auto", 4, 1e4),
        (torch.float32, "float32", 4, 1e4),
        (torch.uint8, "auto", 60, 190),
    ],
)
def test_problems_far_apart_keep_their_digits(
    dtype, precision, reach, far, weighted, device, generator
):
    """Measured from one point amid all rows, float32 could not tell these rows apart."""
    near = reach * torch.rand(2, 40, 6, generator=generator)
    x = near.add(torch.tensor([0, far])[:, None, None]).to(dtype)
    weight = torch.rand(2, 40, generator=generator) + 0.1 if weighted else None
    starts = x[:, :4].float().clone()
    starts[:, 3] = 1e6  # an empty cluster, which is given a row
    on_device = None if weight is None else weight.to(device)
    run = Passes(x.to(device), starts.to(device), on_device, precision=precision, shift=-1.0)
    run.begin(proven=True)
    means = run.state.means.cpu().clone()
    run.advance(1, proven=True)
    for problem in range(2):
        of_each = None if weight is None else weight[problem]
        expected = lloyd(x[problem].float(), means[problem], 1, of_each)
        check(run, problem, expected, rel=1e-5)


def test_problems_share_rows(device, generator):
    x = rows(60, 6, generator)
    starts = torch.stack([x[:4], x[20:24]])
    run = Passes(x.to(device), starts.to(device), shift=-1.0)
    run.begin(proven=True)
    run.advance(1, proven=True)
    for problem in range(2):
        check(run, problem, lloyd(x, starts[problem], 2))


@pytest.mark.parametrize(
    ("dtype", "precision", "k", "weighted"),
    [
        (torch.float32, "auto", 5, False),
        (torch.float32, "tf32", 5, False),
        (torch.float32, "float32", 5, True),
        (torch.float16, "auto", 5, True),
        (torch.uint8, "auto", 5, False),
        (torch.uint8, "auto", 66, True),  # more centroids than a program adds rows up for
        pytest.param(torch.bfloat16, "auto", 5, True, marks=pytest.mark.gpu),
    ],
)
def test_what_rows_bring_they_take_along(dtype, precision, k, weighted, device, generator):
    """Sums are whole numbers: after rows have come and gone they are what they would be anew."""
    n = 140
    x = torch.exp(3 * torch.randn(n, 12, generator=generator))
    x = x.mul(20).clamp(0, 255 if dtype == torch.uint8 else 6e4).to(dtype).to(device)
    weight = torch.rand(n, generator=generator).to(device) if weighted else None
    run = Passes(x, x[:k].float(), weight, precision=precision, shift=-1.0, max_iter=50)
    state, block = run.state, run.block
    run.begin(proven=True)
    run.advance(2, proven=True)
    state.done.zero_()
    for labels in (block.labels.clone(), torch.zeros_like(block.labels)):
        block.moved_from.copy_(block.labels), block.labels.copy_(labels)
        block.moved.copy_(torch.arange(n)), state.counters[:, 0].fill_(n)
        launch.move(state, block)
        found = state.sums.clone(), state.counts.clone(), state.members.clone()
        launch.add_all(state, block)
        assert torch.equal(found[0], state.sums)
        assert torch.equal(found[1], state.counts)
        assert torch.equal(found[2], state.members)
    assert not state.sums[0, 1:].any()


def test_empty_clusters_get_far_rows(device, generator):
    x = rows(50, 3, generator)
    x[7] += 40
    starts = torch.cat([x[:3], torch.full((2, 3), 1e4)])
    run = Passes(x.to(device), starts.to(device), max_iter=40)
    run.begin(proven=True)
    assert run.state.history[0, 0, 3] == 2
    assert int(run.state.members.min()) > 0
    assert torch.isfinite(run.state.means).all()
    assert (run.state.means[0].cpu() - x[7]).abs().amax(1).min() < 1e-5
    assert int(run.state.members.sum()) == 50
    counted = torch.bincount(run.labels[0].cpu().long(), minlength=5)
    assert torch.equal(counted, run.state.members[0].cpu().long())


def test_clusters_that_no_row_can_be_spared_for_keep_their_centroid(device):
    x = torch.tensor([[0.0], [0.0], [8.0], [8.0]])
    starts = torch.tensor([[0.0], [8.0], [100.0]])
    run = Passes(x.to(device), starts.to(device))
    run.begin(proven=True)
    run.advance(2, proven=True)
    assert run.state.means[0, :, 0].tolist() == [0.0, 8.0, 100.0]
    assert run.state.done.tolist() == [2]


def test_rows_without_weight_are_not_given_away(device):
    x = torch.tensor([[0.0], [1.0], [50.0], [2.0]])
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0])
    starts = torch.tensor([[1.0], [900.0]])
    run = Passes(x.to(device), starts.to(device), weight.to(device))
    run.begin(proven=True)
    assert 50.0 not in run.state.means.flatten().tolist()
    assert int(run.state.members.min()) == 1


def test_it_stops_at_the_limit_and_within_tolerance(device, generator):
    x = rows(60, 4, generator)
    run = Passes(x.to(device), x[:6].to(device), max_iter=2)
    run.begin()
    run.advance(4)
    assert (run.state.done.tolist(), run.state.n_passes.tolist()) == ([3], [2])
    run = Passes(x.to(device), x[:6].to(device), shift=1e9)
    run.begin()
    run.advance(4)
    assert (run.state.done.tolist(), run.state.n_passes.tolist()) == ([2], [1])
    assert run.ask().is_done()


def test_rows_that_are_not_finite_reach_infinitely_far(device, generator):
    x = rows(30, 4, generator)
    for bad in (torch.nan, torch.inf):
        x[11, 2] = bad
        assert Passes(x.to(device), x[:2].to(device), origin=x[0].to(device)).measure() == torch.inf


def test_momentum_ends_where_lloyds_passes_would(device, generator):
    x = rows(50, 3, generator)
    run = Passes(x.to(device), x[:3].to(device), momentum=0.9, max_iter=100)
    run.begin()
    run.advance(40)
    run.reopen()
    run.advance(10, proven=True)
    assert run.state.done.tolist() == [1]
    means = run.state.means[0].cpu()
    _, moved, _ = lloyd(x, means, 1)
    assert (moved - means).abs().max() < 1e-5


def test_precisions_are_listed():
    assert set(passes.PRECISIONS) == {"auto", "bfloat16", "float16", "float32", "tf32"}


@pytest.mark.gpu
def test_graphs_do_what_single_passes_do(generator):
    x = rows(4000, 24, generator).cuda()
    ends = []
    for counts in ([1] * 24, [8, 8, 8]):
        run = Passes(x, x[:12], shift=-1.0)
        run.begin(proven=True)
        for count in counts:
            run.advance(count, proven=True)
        ends.append((run.state.means.clone(), run.state.history.clone()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


@pytest.mark.gpu
def test_the_same_twice_to_the_bit(generator):
    x = rows(20_000, 50, generator).cuda()
    ends = []
    for _ in range(2):
        run = Passes(x, x[:30], momentum=0.9)
        run.begin()
        run.advance(40)
        ends.append(run.state.means.clone())
    assert torch.equal(*ends)
