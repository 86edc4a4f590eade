"""kmeans against scikit-learn from the same start, and what its docstring promises."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import torchkm
from torchkm.functional import assign, seed
from torchkm.solvers import RULES, Decay, EmptyClusterWarning, Status


def same_start(x, init, tol=0.0, sample_weight=None):
    """Run both from ``init``; return ours and scikit-learn's."""
    ours = torchkm.kmeans(
        x, len(init), init=init, solver="lloyd", tol=tol, sample_weight=sample_weight
    )
    theirs = KMeans(len(init), init=init.numpy(), n_init=1, algorithm="lloyd", tol=tol)
    weight = None if sample_weight is None else sample_weight.numpy()
    return ours, theirs.fit(x.numpy(), sample_weight=weight)


def start(x, k, generator):
    """Random rows, a little off: pixels are whole numbers, and whole distances often tie."""
    init = seed(x, k, "random", generator=generator)
    return init + 1e-3 * torch.randn(init.shape, generator=generator, dtype=init.dtype)


def check_same(ours, theirs):
    assert np.array_equal(ours.labels.numpy(), theirs.labels_)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.n_iter == theirs.n_iter_
    np.testing.assert_allclose(ours.centroids.numpy(), theirs.cluster_centers_, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 10, 40])
def test_equals_scikit_learn_on_digits(digits, k, generator):
    x, _ = digits
    ours, theirs = same_start(x, start(x, k, generator))
    check_same(ours, theirs)


@pytest.mark.parametrize("tol", [1e-4, 1e-2, 0.1])
def test_tolerance_means_what_scikit_learns_does(digits, tol, generator):
    x, _ = digits
    ours, theirs = same_start(x, start(x, 30, generator), tol=tol)
    check_same(ours, theirs)


def test_the_largest_tolerance_stops_by_it(digits, generator):
    x, _ = digits
    result = torchkm.kmeans(x, 30, tol=1.0, generator=generator)
    assert result.status is Status.TOLERANCE
    variance = x.var(dim=0, unbiased=False).mean().item()
    assert result.history[-1].shift <= variance < result.history[-2].shift


def test_weights_equal_scikit_learns(digits, generator):
    x, _ = digits
    weight = torch.rand(len(x), generator=generator, dtype=torch.float64)
    weight[::7] = 0
    check_same(*same_start(x, start(x, 15, generator), 0.0, weight))


@pytest.mark.parametrize("lost", [[3], [0, 4, 9]])
def test_empty_clusters_are_moved_as_scikit_learn_moves_them(digits, lost, generator):
    x, _ = digits
    init = start(x, 12, generator)
    init[lost] += 100.0 * torch.arange(1, len(lost) + 1).unsqueeze(1)
    ours, theirs = same_start(x, init)
    check_same(ours, theirs)
    assert ours.history[0].n_reseeded == len(lost)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_a_large_constant_column_changes_nothing(offset, generator):
    """Rounding of a number is measured against that number, not against its row."""
    x = torch.rand(400, 4, generator=generator)
    wide = torch.cat([torch.full((400, 1), offset), x], 1)
    one, two = (torchkm.kmeans(rows, 8, init=rows[:8], tol=0) for rows in (x, wide))
    assert torch.equal(one.labels, two.labels)
    assert one.n_iter == two.n_iter


@pytest.mark.filterwarnings("ignore::torchkm.solvers.EmptyClusterWarning")
@pytest.mark.parametrize("solver", ["auto", "lloyd", "minibatch"])
@pytest.mark.parametrize("weight", [None, 0.0])
@pytest.mark.parametrize("far", [1e6, 1e7])
def test_a_row_far_off_blurs_no_other(far, solver, weight, generator):
    # First, and so one of those that are asked where the rows lie.
    x = torch.cat([torch.full((1, 6), far), torch.randn(700, 6, generator=generator)])
    sample_weight = None if weight is None else torch.ones(701).index_fill_(0, torch.tensor(0), 0)
    init = x[:5]
    result = torchkm.kmeans(x, 5, init=init, solver=solver, sample_weight=sample_weight)
    apart = (x.double().unsqueeze(1) - result.centroids.double()).square().sum(2)  # (n, k)
    assert torch.equal(result.labels, apart.argmin(1))
    nearest = apart.amin(1)
    inertia = nearest.sum() if weight is None else nearest[1:].sum()
    assert result.inertia == pytest.approx(inertia.item(), rel=1e-5)
    assert result.inertia < 3300


def test_a_step_of_1_is_no_rounding_although_the_rows_reach_to_millions():
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [2e6]])
    init = torch.tensor([[0.0], [0.0], [0.0], [2e6]])
    result = torchkm.kmeans(x, 4, init=init, max_iter=1)
    assert result.history[0].n_reseeded == 2
    assert result.centroids.flatten().tolist() == [0.5, 3, 2, 2e6]


def test_lost_centroids_in_float32_are_moved_as_in_float64(generator):
    x = torch.rand(400, 4, generator=generator)
    init = x[:8] + 1000 * (torch.arange(8) < 4).unsqueeze(1)
    one, two = (torchkm.kmeans(x.to(t), 8, init=init, tol=0) for t in (torch.float32, torch.double))
    assert torch.equal(one.labels, two.labels)
    assert one.n_iter == two.n_iter


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_an_init_of_any_real_dtype_is_taken(dtype, generator):
    x = torch.randint(0, 9, (50, 3), generator=generator).float()
    result = torchkm.kmeans(x, 3, init=x[:3].numpy().astype(dtype))
    assert result.centroids.dtype == torch.float32
    assert torch.equal(result.labels, torchkm.kmeans(x, 3, init=x[:3]).labels)


@pytest.mark.mnist
def test_equals_scikit_learn_on_mnist(mnist_rows, generator):
    x = mnist_rows[:10_000].double()
    check_same(*same_start(x, start(x, 16, generator)))


def test_four_rows_by_hand():
    x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    result = torchkm.kmeans(x, 2, init=torch.tensor([[0.0], [1.0]]), solver="lloyd", tol=0)
    # pass 1: {0} {1 9 10}; pass 2 from (0, 20/3): {0 1} {9 10}; pass 3: the same labels
    assert result.labels.tolist() == [0, 0, 1, 1]
    assert result.centroids.tolist() == [[0.5], [9.5]]
    assert (result.inertia, result.n_iter) == (1.0, 3)
    assert result.status is Status.LABELS_UNCHANGED
    assert [h.n_iter for h in result.history] == [1, 2, 3]
    assert [h.inertia for h in result.history] == pytest.approx(
        [145, 1 + (49 + 100) / 9, 1], rel=1e-6
    )
    assert [h.n_changed for h in result.history] == [4, 1, 0]
    assert result.history[0].shift == pytest.approx((20 / 3 - 1) ** 2, rel=1e-6)


@pytest.mark.parametrize("solver", sorted(RULES))
@pytest.mark.parametrize("limits", [{"max_iter": 3}, {"tol": 0.5}, {"callback": lambda r: True}])
def test_labels_and_inertia_belong_to_the_centroids(blobs, solver, limits, generator):
    result = torchkm.kmeans(blobs, 9, solver=solver, batch_size=100, generator=generator, **limits)
    want = assign(blobs, result.centroids)
    assert torch.equal(result.labels, want.labels)
    assert result.inertia == pytest.approx(want.sq_distances.sum().item(), rel=1e-12)
    assert result.n_iter == len(result.history)


def test_inertia_never_rises_under_lloyd(digits, generator):
    result = torchkm.kmeans(digits[0], 25, tol=0, generator=generator)
    inertia = np.array([h.inertia for h in result.history])
    assert result.n_iter > 5
    assert (np.diff(inertia) <= 1e-9).all()
    assert result.inertia <= inertia[-1] * (1 + 1e-12)


@pytest.mark.parametrize("solver", sorted(RULES))
def test_the_solvers_reach_the_same_quality(blobs, solver):
    """On separable blobs every rule comes within a few per cent of the best of many runs."""
    make = torch.Generator().manual_seed
    best = torchkm.kmeans(blobs, 6, n_init=10, generator=make(1)).inertia
    settings = {"solver": solver, "n_init": 5, "max_iter": 30, "batch_size": 64}
    assert torchkm.kmeans(blobs, 6, generator=make(0), **settings).inertia < 1.03 * best


@pytest.mark.parametrize("solver", sorted(RULES))
def test_same_generator_same_bits_and_no_global_state(blobs, solver):
    before = torch.get_rng_state()
    one, two, other = (
        torchkm.kmeans(
            blobs, 9, solver=solver, max_iter=4, generator=torch.Generator().manual_seed(s)
        )
        for s in (5, 5, 6)
    )
    assert torch.equal(one.centroids, two.centroids)
    assert one.history == two.history
    assert not torch.equal(one.centroids, other.centroids)
    assert torch.equal(torch.get_rng_state(), before)


def test_permuting_rows_permutes_labels(blobs, generator):
    init = seed(blobs, 9, generator=generator)
    order = torch.randperm(len(blobs), generator=generator)
    one, two = torchkm.kmeans(blobs, 9, init=init), torchkm.kmeans(blobs[order], 9, init=init)
    assert torch.equal(one.labels[order], two.labels)
    torch.testing.assert_close(one.centroids, two.centroids)


def test_a_weight_of_two_is_the_row_twice(blobs, generator):
    init = seed(blobs, 5, generator=generator)
    weight = torch.randint(0, 3, (len(blobs),), generator=generator)
    repeated = blobs.repeat_interleave(weight, dim=0)
    one = torchkm.kmeans(blobs, 5, init=init, sample_weight=weight, tol=0)
    two = torchkm.kmeans(repeated, 5, init=init, tol=0)
    torch.testing.assert_close(one.centroids, two.centroids)
    assert one.inertia == pytest.approx(two.inertia, rel=1e-9)


def test_one_cluster_is_the_mean(blobs):
    result = torchkm.kmeans(blobs, 1)
    torch.testing.assert_close(result.centroids[0], blobs.mean(0))
    assert result.inertia == pytest.approx(blobs.var(0, unbiased=False).sum().item() * 600)


def test_a_cluster_for_every_row(generator):
    x = torch.randn(40, 3, generator=generator)
    result = torchkm.kmeans(x, 40, generator=generator)
    assert result.inertia < 1e-9
    assert sorted(result.labels.tolist()) == list(range(40))


@pytest.mark.parametrize("solver", sorted(RULES))
@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_fewer_distinct_rows_than_clusters(solver, init, generator):
    x = torch.tensor([[5.0, 5.0], [7.0, 7.0]]).repeat(20, 1)
    with pytest.warns(EmptyClusterWarning, match=r"of 4 clusters hold no row") as caught:
        result = torchkm.kmeans(x, 4, init=init, solver=solver, max_iter=5, generator=generator)
    assert caught[0].filename == __file__
    assert result.inertia == 0
    assert {tuple(c) for c in result.centroids.tolist()} <= {(5.0, 5.0), (7.0, 7.0)}


@pytest.mark.parametrize("scale", [1.0, 1 / 3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_does_not_keep_spare_centroids_on_the_move(dtype, scale, generator):
    """Means of equal rows are off by a last digit, which is no reason to re-seed for ever."""
    x = scale * torch.randint(0, 3, (300, 2), generator=generator).to(dtype)  # 9 distinct rows
    init = x[:40] + 0.01 * scale * torch.randn(40, 2, generator=generator, dtype=dtype)
    with pytest.warns(EmptyClusterWarning):
        result = torchkm.kmeans(x, 40, init=init, tol=0)
    assert result.status.converged
    assert result.n_iter < 10
    assert result.inertia < 300 * (8 * torch.finfo(dtype).eps * scale) ** 2


def test_callback_sees_every_pass_and_stops(blobs, generator):
    seen = []

    def stop_at_two(record):
        seen.append(record)
        return record.n_iter == 2

    result = torchkm.kmeans(blobs, 9, tol=0, callback=stop_at_two, generator=generator)
    assert result.status is Status.CALLBACK
    assert tuple(seen) == result.history
    assert len(seen) == 2


def test_max_iter_is_said(blobs, generator):
    result = torchkm.kmeans(blobs, 9, tol=0, max_iter=2, generator=generator)
    assert (result.status, result.n_iter) == (Status.MAX_ITER, 2)
    assert "before the centroids settled" in result.status.message
    assert not result.status.converged


def test_n_init_keeps_the_best_of_its_runs(blobs):
    stream = torch.Generator().manual_seed(3)
    how = {"init": "random", "solver": "lloyd"}
    single = [torchkm.kmeans(blobs, 9, generator=stream, **how) for _ in range(4)]
    again = torch.Generator().manual_seed(3)
    best = torchkm.kmeans(blobs, 9, n_init=4, generator=again, **how)
    assert len({r.inertia for r in single}) > 1
    assert best.inertia == min(r.inertia for r in single)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_every_dtype_is_its_numbers_in_float64(digits, dtype, generator):
    x = (16 * digits[0]).to(dtype)
    init = seed(x.double(), 10, generator=generator)
    ours = torchkm.kmeans(x, 10, init=init.float(), solver="lloyd")
    want = torchkm.kmeans(x.double(), 10, init=init, solver="lloyd")
    assert ours.centroids.dtype == torch.float32
    assert want.centroids.dtype == torch.float64
    assert torch.equal(ours.labels, want.labels)
    assert ours.inertia == pytest.approx(want.inertia, rel=1e-6)


def test_any_layout_gives_the_same(blobs, generator):
    init = seed(blobs, 5, generator=generator)
    want = torchkm.kmeans(blobs, 5, init=init)
    array = blobs.numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    for rows in (np.asfortranarray(array), read_only, blobs.T.contiguous().T, array[::-1][::-1]):
        assert torch.equal(torchkm.kmeans(rows, 5, init=init).centroids, want.centroids)
    flipped = torchkm.kmeans(array[::-1], 5, init=init)
    assert torch.equal(flipped.labels.flip(0), want.labels)


def test_nothing_given_is_modified(blobs, generator):
    weight = torch.rand(600, generator=generator)
    init = seed(blobs, 5, generator=generator)
    kept = [t.clone() for t in (blobs, weight, init)]
    for metric in ("euclidean", "cosine"):
        for solver in RULES:
            settings = {"solver": solver, "metric": metric, "max_iter": 2}
            torchkm.kmeans(blobs, 5, init=init, sample_weight=weight, **settings)
    assert all(map(torch.equal, (blobs, weight, init), kept))


def test_cosine_takes_bytes(generator):
    x = torch.randint(0, 4, (50, 6), generator=generator).byte()
    x[:, 0] = 1
    got, want = (torchkm.kmeans(r, 3, init=x[:3].float(), metric="cosine") for r in (x, x.float()))
    assert torch.equal(got.labels, want.labels)


def test_cosine_is_spherical(blobs, generator):
    result = torchkm.kmeans(blobs, 5, metric="cosine", generator=generator)
    torch.testing.assert_close(result.centroids.norm(dim=1), torch.ones(5, dtype=torch.float64))
    unit = blobs / blobs.norm(dim=1, keepdim=True)
    cosines = unit @ result.centroids.T
    assert torch.equal(result.labels, cosines.argmax(1))
    assert result.inertia == pytest.approx((2 - 2 * cosines.max(1).values).sum().item())
    for j in range(5):  # a fixed point: each centroid points where its rows do
        mean = unit[result.labels == j].mean(0)
        torch.testing.assert_close(mean / mean.norm(), result.centroids[j], rtol=1e-3, atol=1e-3)


def test_opposite_directions_leave_the_centroid_where_it_was():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    result = torchkm.kmeans(x, 1, init=torch.tensor([[0.0, 2.0]]), metric="cosine")
    assert result.centroids.tolist() == [[0.0, 1.0]]


def test_a_rule_with_settings_is_a_solver(blobs):
    make = torch.Generator().manual_seed
    settings = {"max_iter": 3, "batch_size": 50}
    by_name = torchkm.kmeans(blobs, 6, solver="decay", generator=make(0), **settings)
    half_pass = torchkm.kmeans(blobs, 6, solver=Decay(300.0), generator=make(0), **settings)
    other = torchkm.kmeans(blobs, 6, solver=Decay(30.0), generator=make(0), **settings)
    assert torch.equal(by_name.centroids, half_pass.centroids)
    assert not torch.equal(by_name.centroids, other.centroids)


def test_result_reads_well(blobs):
    text = repr(torchkm.kmeans(blobs, 3, max_iter=1))
    assert text.startswith("KMeansResult(k=3, d=5, n=600, inertia=")
    assert text.endswith("n_iter=1, status='max_iter')")
