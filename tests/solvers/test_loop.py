"""The loop: batches, what a pass records, and which reason to stop comes first."""

import math

import pytest
import torch

import torchkm
from torchkm.functional import assign, seed
from torchkm.functional.problem import as_problem
from torchkm.solvers import RULES, Status
from torchkm.solvers.loop import Stopping, run, shuffled_batches


def make(value):
    return torch.Generator().manual_seed(value)


def fit(x, init, solver="lloyd", *, batch_size=100, max_iter=50, shift=0.0, callback=None):
    watch = None if callback is None else lambda record, _: callback(record)
    stopping = Stopping(max_iter, shift, watch)
    problem = as_problem(x, None, "euclidean")
    return run(problem, init.clone(), RULES[solver], batch_size, stopping, make(0))


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (10, 99), (7, 1), (4097, 4096)])
def test_batches_are_every_row_once_in_equal_parts(n, batch_size, generator):
    batches = list(shuffled_batches(n, batch_size, generator))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert len(batches) == math.ceil(n / batch_size)
    sizes = [len(b) for b in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_the_generator_shuffles():
    one, two, other = (torch.cat(list(shuffled_batches(50, 10, make(s)))) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.tolist() != list(range(50))


def test_take_keeps_rows_and_weights_together(generator):
    x = torch.arange(6.0).unsqueeze(1)
    problem = as_problem(x, x.squeeze(1) * 10, "euclidean")
    part = problem.take(torch.tensor([4, 1]))
    assert part.x.tolist() == [[4.0], [1.0]]
    assert part.sample_weight.tolist() == [40.0, 10.0]
    assert problem.take(None) is problem
    assert as_problem(x + 1, None, "cosine").take(torch.tensor([2])).sample_weight is None


def test_lloyd_draws_nothing(blobs, generator):
    before = generator.get_state()
    torchkm.kmeans(blobs, 6, init=blobs[::100], generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_records_of_lloyd(blobs):
    """Each record against the pass done by hand."""
    centroids = blobs[:6]
    labels = torch.full((600,), -1)
    for record in fit(blobs, centroids, max_iter=4).history:
        found = assign(blobs, centroids)
        assert record.inertia == pytest.approx(found.sq_distances.sum().item())
        assert record.n_changed == (found.labels != labels).sum()
        means = torch.stack([blobs[found.labels == j].mean(0) for j in range(6)])
        assert record.shift == pytest.approx((means - centroids).square().sum().item())
        assert record.n_reseeded == 0
        centroids, labels = means, found.labels


def test_shift_of_a_streaming_pass_is_from_its_start_to_its_end(blobs):
    one = fit(blobs, blobs[:6], "minibatch", max_iter=1)
    want = (one.centroids - blobs[:6]).square().sum().item()
    assert one.history[0].shift == pytest.approx(want)
    assert one.history[0].n_changed == 600


@pytest.mark.parametrize(("solver", "passes"), [("lloyd", 300), ("lloyd", 2), ("minibatch", 3)])
def test_labels_and_inertia_belong_to_the_centroids(blobs, solver, passes):
    done = fit(blobs, blobs[:6], solver, max_iter=passes)
    found = assign(blobs, done.centroids)
    assert torch.equal(done.labels, found.labels)
    assert done.inertia == pytest.approx(found.sq_distances.double().sum().item())


def groups(generator):
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    return (centres.unsqueeze(1) + torch.randn(3, 40, 2, generator=generator)).flatten(0, 1)


@pytest.mark.parametrize("solver", sorted(RULES))
def test_labels_that_repeat_stop_every_solver(solver, generator):
    x = groups(generator)
    done = fit(x, x[::40], solver, batch_size=30)
    assert done.status is Status.LABELS_UNCHANGED
    assert [record.n_changed for record in done.history] == [120, 0]


@pytest.mark.parametrize(
    ("limits", "want"),
    [
        ({"max_iter": 2, "callback": lambda record: record.n_iter == 2}, Status.LABELS_UNCHANGED),
        ({"shift": 1e9, "max_iter": 1, "callback": lambda record: True}, Status.TOLERANCE),
        ({"max_iter": 1, "callback": lambda record: True}, Status.CALLBACK),
        ({"max_iter": 1, "callback": lambda record: None}, Status.MAX_ITER),
        ({"callback": lambda record: 0}, Status.LABELS_UNCHANGED),
    ],
)
def test_the_best_of_several_reasons_is_given(limits, want, generator):
    x = groups(generator)
    assert fit(x, x[::40], **limits).status is want


@pytest.mark.parametrize("solver", sorted(RULES))
def test_lost_centroids_come_back_in_every_solver(solver, blobs, generator):
    init = seed(blobs, 6, generator=generator)
    init[[1, 4]] += 1e4
    done = fit(blobs, init, solver, max_iter=10)
    assert done.history[0].n_reseeded == 2
    assert done.centroids.abs().max() <= blobs.abs().max()
    assert torch.bincount(assign(blobs, done.centroids).labels, minlength=6).min() > 0


def test_labels_that_repeat_do_not_stop_while_a_cluster_is_being_filled():
    """Three equal centroids over two values: one re-seeding, one pass to see it, then rest."""
    x = torch.tensor([[0.0], [0.0], [10.0], [10.0]])
    done = fit(x, torch.zeros(3, 1))
    assert done.history[0].n_reseeded == 2
    assert done.history[-1].n_reseeded == 0
    assert sorted(set(done.centroids.flatten().tolist())) == [0.0, 10.0]


def test_a_batch_without_weight_changes_nothing(generator):
    x = torch.randn(200, 2, generator=generator)
    weight = torch.zeros(200)
    weight[:4] = 1
    for solver in ("minibatch", "minibatch-sqrt", "decay"):
        result = torchkm.kmeans(
            x, 1, solver=solver, batch_size=10, sample_weight=weight, max_iter=1, generator=make(0)
        )
        low, high = x[:4].amin(0), x[:4].amax(0)
        assert ((result.centroids[0] >= low - 1e-6) & (result.centroids[0] <= high + 1e-6)).all()


def test_in_one_minibatch_pass_over_one_cluster_lies_the_mean(blobs):
    done = fit(blobs, blobs[:1], "minibatch", batch_size=70, max_iter=1)
    torch.testing.assert_close(done.centroids[0], blobs.mean(0))
