"""Each rule by hand, through the one update."""

import pytest
import torch

import torchkm
from torchkm.functional import ClusterStats
from torchkm.solvers import (
    CentroidState,
    Decay,
    Lloyd,
    MiniBatch,
    PassRecord,
    Status,
    as_rule,
    update,
)

F64 = torch.float64


def stats(counts, sums):
    return ClusterStats(
        torch.tensor(counts, dtype=F64), torch.tensor(sums, dtype=F64), torch.zeros((), dtype=F64)
    )


def state(centroids, counts):
    return CentroidState(torch.tensor(centroids), torch.tensor(counts, dtype=F64))


def test_lloyd_is_the_mean_of_the_pass():
    step = update(stats([2, 4], [[6.0], [2.0]]), state([[9.0], [9.0]], [50, 50]), Lloyd())
    assert step.state.centroids.tolist() == [[3.0], [0.5]]
    assert step.state.counts.tolist() == [2, 4]


def test_running_mean_is_the_mean_of_all_rows_ever_given(generator):
    batches = torch.randn(7, 20, 3, generator=generator, dtype=F64)
    now = CentroidState(torch.zeros(1, 3, dtype=F64), torch.zeros(1, dtype=F64))
    for batch in batches:
        now = update(stats([20.0], batch.sum(0, keepdim=True).tolist()), now, MiniBatch()).state
    torch.testing.assert_close(now.centroids[0], batches.flatten(0, 1).mean(0))
    assert now.counts.item() == 140


def test_sqrt_rate_is_the_root_of_the_share_of_the_batch():
    before = state([[0.0], [0.0]], [100, 100])
    step = update(stats([1, 3], [[8.0], [30.0]]), before, MiniBatch("sqrt"))
    want = [[8 * (1 / 4) ** 0.5], [10 * (3 / 4) ** 0.5]]
    torch.testing.assert_close(step.state.centroids, torch.tensor(want))
    assert step.state.counts.tolist() == [101, 103]


def test_the_first_rows_of_a_cluster_replace_its_seed_under_every_rule():
    for rule in (Lloyd(), MiniBatch(), MiniBatch("sqrt"), Decay(10)):
        step = update(stats([2, 2], [[6.0], [2.0]]), state([[9.0], [9.0]], [0, 0]), rule)
        assert step.state.centroids.tolist() == [[3.0], [1.0]]


def test_decay_halves_the_past_in_a_half_life():
    step = update(stats([30, 10], [[0.0], [40.0]]), state([[8.0], [8.0]], [60, 20]), Decay(40))
    assert step.state.counts.tolist() == [60, 20]  # half of each, and the batch
    assert step.state.centroids.tolist() == [[4.0], [6.0]]


def test_two_half_batches_fade_as_one():
    rule = Decay(40)
    once = rule.kept(torch.tensor(30.0))
    twice = rule.kept(torch.tensor(15.0)) ** 2
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("rule", [Lloyd(), MiniBatch(), MiniBatch("sqrt"), Decay(10)])
def test_a_cluster_without_rows_stays_to_the_bit(rule):
    before = state([[0.1], [0.7]], [3, 5])
    step = update(stats([2, 0], [[6.0], [0.0]]), before, rule)
    assert step.state.centroids[1].item() == before.centroids[1].item()
    assert not step.state.centroids.isnan().any()


def test_what_counts_as_empty():
    assert Lloyd().is_empty(torch.tensor([0.0, 1e-9])).tolist() == [True, False]
    assert MiniBatch().is_empty(torch.tensor([0.0, 1.0])).tolist() == [True, False]
    assert Decay(1).is_empty(torch.tensor([0.001, 10.0, 0.1])).tolist() == [True, False, False]
    counts = torch.tensor([0.0, 1.0, 11.0])
    assert Decay(1, forgotten=0.3).is_empty(counts).tolist() == [True, True, False]
    assert Decay(1, forgotten=0).is_empty(counts).tolist() == [True, False, False]


def test_half_life_of_the_length_of_a_pass():
    assert Decay().for_rows(1000) == Decay(500)
    assert Decay(7).for_rows(1000) == Decay(7)
    with pytest.raises(ValueError, match="decay needs a half_life in rows"):
        Decay().kept(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Decay(0), ValueError, "half_life must be finite and above 0, got 0"),
        (lambda: Decay(1, forgotten=-1), ValueError, "forgotten must be finite and at least 0"),
        (lambda: Decay("long"), TypeError, "half_life must be a number, got 'long'"),
        (lambda: MiniBatch("cube"), ValueError, "learning_rate must be one of 'mean', 'sqrt'"),
        (lambda: as_rule("sgd"), ValueError, "solver must be one of 'decay', 'lloyd'"),
        (lambda: as_rule(3), ValueError, "solver must be one of .* got 3"),
        (lambda: as_rule(Lloyd), ValueError, "solver must be one of .* got <class"),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


class HalfWay:
    """A rule of a user's own."""

    streaming = True

    def for_rows(self, n):
        return self

    def kept(self, batch_weight):
        return 1.0

    def rate(self, batch_counts, counts):
        return torch.full_like(counts, 0.5)

    def is_empty(self, counts):
        return counts <= 0


def test_a_rule_of_ones_own(blobs):
    rule = HalfWay()
    assert as_rule(rule) is rule
    result = torchkm.kmeans(blobs, 1, init=blobs[:1], solver=rule, batch_size=600, max_iter=1)
    torch.testing.assert_close(result.centroids[0], (blobs[0] + blobs.mean(0)) / 2)


def test_every_status_has_a_message():
    assert len({status.message for status in Status}) == len(Status)
    assert PassRecord(1, 2.0, 3.0, 4, 5, 6, 6, 0).n_reseeded == 5
