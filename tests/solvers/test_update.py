"""The one update: the same arithmetic for batches, passes and sums over ranks."""

import pytest
import torch

from torchkm.functional import Assignment, ClusterStats, accumulate, assign_and_accumulate
from torchkm.functional.problem import as_problem
from torchkm.functional.reseeding import farthest_rows
from torchkm.solvers import CentroidState, Decay, Lloyd, MiniBatch, update
from torchkm.solvers.update import reseed_and_update

F64 = torch.float64
EVERY_RULE = [Lloyd(), MiniBatch(), MiniBatch("sqrt"), Decay(100)]


def stats_of(x, labels, k, weight=None, metric="euclidean"):
    return accumulate(x, Assignment(labels, torch.zeros(len(x), dtype=F64)), k, weight)


def fresh(centroids):
    return CentroidState(centroids, torch.zeros(len(centroids), dtype=F64))


def test_running_means_of_fixed_labels_are_the_means_of_all_rows(blobs, generator):
    labels = torch.randint(0, 4, (600,), generator=generator)
    weight = torch.rand(600, generator=generator, dtype=F64)
    state = fresh(torch.full((4, 5), 7.0, dtype=F64))
    for part in torch.arange(600).split(37):
        stats = stats_of(blobs[part], labels[part], 4, weight[part])
        state = update(stats, state, MiniBatch()).state
    whole = stats_of(blobs, labels, 4, weight)
    torch.testing.assert_close(state.centroids, whole.means)
    torch.testing.assert_close(state.counts, whole.counts)


def test_decay_is_a_running_mean_with_fading_weights(generator):
    """Against one weighted mean, each batch with what is left of it at the end."""
    batches = torch.randn(6, 10, 3, generator=generator, dtype=F64)
    state = fresh(torch.zeros(1, 3, dtype=F64))
    for batch in batches:
        state = update(stats_of(batch, torch.zeros(10, dtype=int), 1), state, Decay(25)).state
    left = 0.5 ** (10 * torch.arange(5, -1, -1, dtype=F64) / 25)  # (6,)
    want = (left.unsqueeze(1) * batches.mean(1)).sum(0) / left.sum()
    torch.testing.assert_close(state.centroids[0], want)
    torch.testing.assert_close(state.counts, 10 * left.sum().unsqueeze(0))


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_stats_summed_over_ranks_update_as_one(blobs, rule, metric, generator):
    centroids = torch.nn.functional.normalize(blobs[:5])
    state = CentroidState(centroids, torch.arange(5, dtype=F64))
    parts = [assign_and_accumulate(x, centroids, metric=metric)[1] for x in blobs.split(170)]
    _, whole = assign_and_accumulate(blobs, centroids, metric=metric)
    one = update(sum(parts[1:], parts[0]), state, rule, metric)
    two = update(whole, state, rule, metric)
    torch.testing.assert_close(one.state.centroids, two.state.centroids)
    assert torch.equal(one.state.counts, two.state.counts)
    assert torch.equal(one.empty, two.empty)


def test_at_rate_one_the_centroid_is_the_mean_to_the_bit(blobs):
    labels = torch.arange(600) % 3
    stats = stats_of(blobs, labels, 3)
    for rule in (Lloyd(), MiniBatch(), MiniBatch("sqrt"), Decay(10)):
        step = update(stats, fresh(1e6 * blobs[:3]), rule)
        assert torch.equal(step.state.centroids, stats.means)


@pytest.mark.parametrize("rule", EVERY_RULE)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_centroids_keep_their_dtype_and_counts_stay_double(rule, dtype, blobs):
    _, stats = assign_and_accumulate(blobs, blobs[:4])
    step = update(stats, fresh(blobs[:4].to(dtype)), rule)
    assert step.state.centroids.dtype == dtype
    assert step.state.counts.dtype == F64
    assert step.empty.dtype == torch.bool


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_nothing_given_is_modified(rule, blobs):
    _, stats = assign_and_accumulate(blobs, blobs[:4])
    state = CentroidState(blobs[:4].clone(), torch.ones(4, dtype=F64))
    given = (stats.counts, stats.sums, stats.inertia, *state)
    kept = [t.clone() for t in given]
    update(stats, state, rule)
    state.forget(torch.tensor([1]))
    assert all(map(torch.equal, given, kept))


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_cosine_centroids_have_unit_length(rule, blobs):
    centroids = torch.nn.functional.normalize(blobs[:4])
    _, stats = assign_and_accumulate(blobs, centroids, metric="cosine")
    step = update(stats, CentroidState(centroids, torch.ones(4, dtype=F64)), rule, "cosine")
    torch.testing.assert_close(step.state.centroids.norm(dim=1), torch.ones(4, dtype=F64))
    assert not torch.equal(step.state.centroids, centroids)


def test_a_cosine_mean_of_zero_leaves_the_centroid():
    stats = ClusterStats(
        torch.tensor([2.0], dtype=F64), torch.zeros(1, 2, dtype=F64), torch.zeros((), dtype=F64)
    )
    before = fresh(torch.tensor([[0.6, 0.8]]))
    assert torch.equal(update(stats, before, Lloyd(), "cosine").state.centroids, before.centroids)


def test_means_far_from_the_origin_keep_their_digits():
    """A step of a running mean in float64: the float32 sums would be off by units."""
    x = 1e6 + torch.arange(1000.0).unsqueeze(1) % 7
    state = fresh(torch.tensor([[1e6]]))
    for batch in x.split(50):
        _, stats = assign_and_accumulate(batch, state.centroids)
        state = update(stats, state, MiniBatch()).state
    assert state.centroids.item() == pytest.approx(x.double().mean().item(), abs=0.1)


def test_empty_says_which_clusters_are_left_without_rows():
    x = torch.tensor([[0.0], [1.0], [9.0]])
    centroids = torch.tensor([[0.0], [50.0], [8.0]])
    _, stats = assign_and_accumulate(x, centroids)
    assert update(stats, fresh(centroids), Lloyd()).empty.tolist() == [False, True, False]
    seen = CentroidState(centroids, torch.ones(3, dtype=F64))
    assert update(stats, seen, Lloyd()).empty.tolist() == [False, True, False]
    assert update(stats, seen, MiniBatch()).empty.tolist() == [False, False, False]


def test_a_small_cluster_that_has_rows_is_not_empty():
    """Its faded count is far below the average, yet its rows are here."""
    x = torch.zeros(5000, 1)
    x[0] = 9.0
    centroids = torch.tensor([[0.0], [8.0], [50.0]])
    _, stats = assign_and_accumulate(x, centroids)
    step = update(stats, fresh(centroids), Decay(1000))
    assert step.empty.tolist() == [False, False, True]
    assert step.state.centroids[1].item() == 9


def test_forget_clears_only_the_clusters_named():
    state = CentroidState(torch.zeros(3, 1), torch.tensor([3.0, 4.0, 5.0], dtype=F64))
    assert state.forget(torch.tensor([1])).counts.tolist() == [3, 0, 5]


@pytest.mark.parametrize("rule", [Lloyd(), MiniBatch(), MiniBatch("sqrt"), Decay(100)])
def test_a_reseeded_centroid_is_its_row(rule):
    """Also where a faded past is left, which must not hold it back."""
    x = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
    centroids = torch.tensor([[0.0], [100.0]])
    state = CentroidState(centroids, torch.tensor([0.0, 1e-3], dtype=F64))
    found, stats = assign_and_accumulate(x, centroids)
    far = farthest_rows(as_problem(x, None, "euclidean"), centroids, found, 1)
    empty = torch.tensor([False, True])
    after, n = reseed_and_update(stats, state, rule, "euclidean", empty, far)
    assert n == 1
    assert after.centroids.tolist() == [[1.0], [5.0]]
    assert after.counts.tolist() == [3, 1]
