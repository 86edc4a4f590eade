"""Labels that follow centroids: always those of a fresh look, however they were come by."""

import pytest
import torch

from torchkm.kernels import OrderedRows, Tracker, bfloat16, nearest
from torchkm.kernels.layout import compute_dtype

PRECISIONS = ["float32", "bfloat16"]


def drifting(x, k, generator, n_passes=6):
    """Centroids that move less from pass to pass, from random rows of ``x``."""
    centroids = x[torch.randperm(len(x), generator=generator)[:k]].to(compute_dtype(x.dtype))
    for step in range(n_passes):
        yield centroids
        noise = torch.randn(centroids.shape, generator=generator, dtype=centroids.dtype)
        centroids = centroids + noise * 0.3 / 3**step


def true_labels(x, centroids):
    """Nearest centroids in float64, and by how much they lead."""
    apart = torch.cdist(x.double(), centroids.double())
    two = apart.topk(min(2, len(centroids)), largest=False).values
    return apart.argmin(1), two[:, -1] - two[:, 0]


def check(tracker, x, centroids, order, weight=None):
    places = slice(0, tracker.n_rows)
    index = torch.arange(len(x)) if order is None else order
    rows = x[index[places]].double()
    want, lead = true_labels(rows, centroids)
    differ = tracker.labels != want
    assert not (differ & (lead > 1e-5 * rows.norm(dim=1).max())).any()
    weights = torch.ones(len(rows)).double() if weight is None else weight[index[places]].double()
    one_hot = torch.nn.functional.one_hot(tracker.labels, len(centroids)).double()
    one_hot *= weights.unsqueeze(1)
    torch.testing.assert_close(tracker.counts, one_hot.sum(0))
    # The rows are shifted in float32 before they are added up in float64.
    rounding = 1e-7 * float((one_hot.T @ rows.abs()).max()) if x.dtype == torch.float32 else 1e-9
    torch.testing.assert_close(tracker.sums, one_hot.T @ rows, rtol=1e-7, atol=rounding)
    apart = (rows - centroids.double()[tracker.labels]).square().sum(1)
    assert tracker.inertia(centroids) == pytest.approx(float(apart @ weights), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (700, 3, 5), (3000, 40, 17), (5000, 33, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_sums_and_inertia_follow(n, d, k, precision, weighted, generator):
    x = 5 + torch.randn(n, d, generator=generator)
    weight = torch.rand(n, generator=generator) if weighted else None
    order = torch.randperm(n, generator=generator)
    tracker = Tracker(OrderedRows(x, order, x.mean(0), False), weight, k, precision)
    sizes = iter([(n + 3) // 4, (n + 1) // 2, n, n, n, n])
    for centroids in drifting(x, k, generator):
        tracker.admit(next(sizes))
        tracker.follow(centroids)
        check(tracker, x, centroids, order, weight)
    assert torch.equal(tracker.by_row(tracker.labels)[order], tracker.labels)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16])
def test_any_dtype_and_unit_rows(dtype, precision, generator):
    x = (torch.rand(900, 20, generator=generator) * 250 + 1).to(dtype)
    unit = torch.nn.functional.normalize(x.float())
    tracker = Tracker(OrderedRows(x, None, unit.mean(0), True), None, 6, precision)
    tracker.admit(len(x))
    for centroids in drifting(unit, 6, generator, 3):
        tracker.follow(centroids)
        check(tracker, unit, centroids, None)


def test_float64_rows_are_scored_in_float64(generator):
    x = 1e6 + torch.randn(500, 4, dtype=torch.float64, generator=generator) * 1e-3
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 7)
    assert tracker.precision == "float64"
    tracker.admit(500)
    tracker.follow(x[:7])
    want, lead = true_labels(x - x.mean(0), x[:7] - x.mean(0))
    assert torch.equal(tracker.labels[lead > 1e-9], want[lead > 1e-9])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_at_rest_are_not_scored_again(precision, generator):
    x = torch.cat([torch.randn(400, 8, generator=generator) + 20 * i for i in range(4)])
    centroids = torch.stack([part.mean(0) for part in x.split(400)])
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 4, precision)
    tracker.admit(len(x))
    first, second = tracker.follow(centroids), tracker.follow(centroids + 0.1)
    assert (first.n_changed, first.n_scored) == (1600, 1600)
    assert (second.n_changed, second.n_scored) == (0, 0)
    assert tracker.follow(centroids.roll(1, 0)).n_changed == 1600
    check(tracker, x, centroids.roll(1, 0), None)


def test_bfloat16_alone_would_give_other_labels_and_is_not_believed(generator):
    """Centroids closer than bfloat16 can tell: all labels come from the float32 look."""
    x = 3 + torch.randn(2000, 64, generator=generator)
    centroids = x.mean(0) + 1e-3 * torch.randn(50, 64, generator=generator)
    rounded = (x.bfloat16() @ centroids.bfloat16().T).float() - centroids.square().sum(1) / 2
    want, _ = true_labels(x, centroids)
    assert (rounded.argmax(1) != want).float().mean() > 0.3
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 50, "bfloat16")
    tracker.admit(len(x))
    assert tracker.follow(centroids).n_rescored > 100
    check(tracker, x, centroids, None)


@pytest.mark.parametrize("n_rows", [257, 1900, 3000])
def test_labels_need_not_be_proven_on_the_way(n_rows, generator):
    """They are near the true ones, the sums are theirs, and a proven look mends them."""
    x = 3 + torch.randn(3000, 64, generator=generator)
    order = torch.randperm(3000, generator=generator)
    centroids = x.mean(0) + 0.05 * torch.randn(50, 64, generator=generator)
    tracker = Tracker(OrderedRows(x, order, x.mean(0), False), None, 50, "bfloat16")
    tracker.admit(n_rows)
    assert tracker.follow(centroids, proven=False).n_rescored == 0
    rows = x[order[:n_rows]]
    want, _ = true_labels(rows, centroids)
    wrong = tracker.labels != want
    assert 0 < wrong.sum() < n_rows / 2
    apart = torch.cdist(rows.double(), centroids.double())
    worse = apart.gather(1, tracker.labels.unsqueeze(1)).squeeze(1) - apart.amin(1)
    assert worse.max() < 2**-6 * apart.amin(1).max()
    one_hot = torch.nn.functional.one_hot(tracker.labels, 50).double()
    torch.testing.assert_close(tracker.sums, one_hot.T @ rows.double(), rtol=1e-6, atol=1e-4)
    tracker.follow(centroids)
    check(tracker, x, centroids, order)


def test_new_rows_are_looked_at_once_in_float32(generator):
    x = torch.cat([torch.randn(300, 8, generator=generator) + 20 * i for i in range(4)])
    centroids = torch.stack([part.mean(0) for part in x.split(300)])
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 4, "float32")
    tracker.admit(len(x))
    tracker.follow(centroids)
    assert tracker._scorer.n_scored == 0  # beyond the look at which they came in


def test_blocks_of_a_product_have_few_shapes(generator, monkeypatch):
    """Each new one is prepared anew, which takes longer than to multiply it."""
    x = torch.randn(6000, 40, generator=generator)
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 30, "bfloat16")
    shapes, mm = set(), torch.mm

    def watched(rows, centroids, **out):
        shapes.add(tuple(rows.shape))
        return mm(rows, centroids, **out)

    monkeypatch.setattr(torch, "mm", watched)
    for n_rows, centroids in zip([901, 2333, 6000] * 2, drifting(x, 30, generator), strict=True):
        tracker.admit(max(n_rows, tracker.n_rows))
        tracker.follow(centroids)
    assert len(shapes) <= 5
    assert all(n_rows.bit_count() == 1 for n_rows, _ in shapes)


def test_the_rounding_of_rows_is_bounded():
    """bfloat16 holds the centroids exactly, and has the rows on the other side of their middle."""
    centroids = torch.tensor([[0.0, 0.0], [2.0, 0.25]])
    beside = torch.tensor(0.10645).bfloat16().float().expand(300)
    middle = 1 + 0.25**2 / 4 - 0.25 * beside / 2
    along = middle + torch.linspace(1e-4, 1e-3, 300)
    assert (along.bfloat16().float() < middle).all()
    x = torch.stack([along, beside], dim=1)
    tracker = Tracker(OrderedRows(x, None, torch.zeros(2), False), None, 2, "bfloat16")
    tracker.admit(300)
    tracker.follow(centroids)
    assert (tracker.labels == 1).all()


def test_equal_centroids_give_the_first_as_the_plain_kernel_does(generator):
    x = torch.randn(300, 40, generator=generator)
    centroids = x[:4].repeat(3, 1)
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 12, "bfloat16")
    tracker.admit(300)
    tracker.follow(centroids)
    assert torch.equal(tracker.labels, nearest(x, centroids, False, x.mean(0))[0])


def test_rows_beyond_those_kept_are_rounded_again(generator, monkeypatch):
    from torchkm.kernels import certified

    x = torch.randn(3000, 20, generator=generator)
    order = torch.randperm(3000, generator=generator)
    monkeypatch.setattr(certified, "_KEPT_BYTES", 2 * 32 * 1000)
    few = Tracker(OrderedRows(x, order, x.mean(0), False), None, 9, "bfloat16")
    monkeypatch.undo()
    all_ = Tracker(OrderedRows(x, order, x.mean(0), False), None, 9, "bfloat16")
    few.admit(3000)
    all_.admit(3000)
    for centroids in drifting(x, 9, generator):
        assert few.follow(centroids) == all_.follow(centroids)
        assert torch.equal(few.labels, all_.labels)
        assert torch.equal(few.sums, all_.sums)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_are_what_the_inertia_rises_by(precision, generator):
    x = torch.randn(800, 40, generator=generator)
    weight = torch.rand(800, generator=generator)
    centroids = x[:6]
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), weight, 6, precision)
    tracker.admit(800)
    tracker.follow(centroids)
    apart = torch.cdist(x.double(), centroids.double()).square()
    for cluster, loss in enumerate(tracker.losses(centroids, 800).tolist()):
        others = apart[:, [j for j in range(6) if j != cluster]].amin(1)
        want = ((others - apart.amin(1)) @ weight.double()).item()
        # Never above: leads are proven ones, and what rounding leaves open is not counted.
        assert 0.9 * want <= loss <= want * (1 + 1e-5)


def test_losses_of_the_first_rows_only(generator):
    x = torch.randn(800, 40, generator=generator)
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), None, 6, "bfloat16")
    tracker.admit(800)
    tracker.follow(x[:6])
    parts = tracker.losses(x[:6], 300), tracker.losses(x[:6], 800)
    assert (parts[0] < parts[1]).all()
    assert parts[0].sum() == pytest.approx(parts[1].sum().item() * 300 / 800, rel=0.2)


def test_nothing_is_left_of_a_cluster_whose_rows_have_gone(generator):
    x = torch.randn(500, 3, generator=generator)
    weight = torch.rand(500, generator=generator) * 10 ** torch.linspace(-6, 6, 500)
    tracker = Tracker(OrderedRows(x, None, x.mean(0), False), weight, 5)
    tracker.admit(500)
    for centroids in drifting(x, 5, generator):
        tracker.follow(centroids)
    far = torch.full((5, 3), 1e3)
    far[2] = 0
    assert tracker.follow(far).n_empty == 4
    assert torch.equal(tracker.counts.nonzero().flatten(), torch.tensor([2]))
    assert (tracker.sums[[0, 1, 3, 4]] == 0).all()
    tracker.recount()
    check(tracker, x, far, None, weight)


def test_the_machine_is_asked():
    assert bfloat16.adds_in_float32() in (True, False)
    if bfloat16.pays():
        assert bfloat16.adds_in_float32()


def test_three_numbers_of_bfloat16_hold_one_of_float32(generator):
    numbers = torch.randn(1000, generator=generator) * 10 ** torch.randint(-6, 7, (1000,))
    total = sum(part.double() for part in bfloat16.digits(numbers))
    assert ((total - numbers.double()).abs() <= 2.0**-24 * numbers.double().abs()).all()
    assert (bfloat16.above(numbers.abs()).double() >= numbers.abs().double()).all()
