"""Passes that are made several at once are those that are made one by one."""

import pytest
import torch

import torchkm
from torchkm import kernels
from torchkm.functional.problem import as_problem
from torchkm.solvers.descent import Descent
from torchkm.solvers.lloyd import lloyd
from torchkm.solvers.loop import Stopping

pytest.importorskip("numba")

SHAPES = {
    "few": (300, 3, 4, torch.float32),
    "wide": (700, 60, 8, torch.float64),
    "of one number": (500, 1, 5, torch.float64),
    "one cluster": (400, 6, 1, torch.float32),
    "on threads": (20_000, 8, 12, torch.float32),
    "few clusters, on threads": (20_000, 8, 3, torch.float64),
}


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def descent_of(problem, centroids, by_itself, watch=None, most_momentum=0.9):
    descent = Descent(problem, None, centroids, "auto", watch, most_momentum)
    assert descent._several is not None
    if not by_itself:
        descent._several = None
    return descent


def rows_of(shape, weighted, generator):
    n, d, k, dtype = SHAPES[shape]
    x = 3 + torch.randn(n, d, generator=generator, dtype=dtype)
    weight = torch.rand(n, generator=generator).round(decimals=1) if weighted else None
    problem = as_problem(x, weight, "euclidean")
    return problem.from_origin(x.mean(0)), x[:k].clone()


def same(one, other):
    assert len(one.history) == len(other.history)
    for mine, its in zip(one.history, other.history, strict=True):
        assert mine[:1] + mine[3:] == its[:1] + its[3:]
        assert mine.inertia == pytest.approx(its.inertia, rel=1e-6)
        assert mine.shift == pytest.approx(its.shift, rel=1e-3, abs=1e-9)
    torch.testing.assert_close(one.means, other.means)
    torch.testing.assert_close(one.centroids, other.centroids)
    assert torch.equal(one.labels(), other.labels())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("most_momentum", [0, 0.9])
def test_several_passes_are_those_made_one_by_one(shape, weighted, most_momentum, generator):
    problem, start = rows_of(shape, weighted, generator)
    both = [
        descent_of(problem, start, by_itself, most_momentum=most_momentum)
        for by_itself in (True, False)
    ]
    for descent in both:
        descent.admit(len(problem.x))
        descent.settle(1e-4, 12)
    same(*both)
    ends = [descent.end_at(descent.means, torchkm.solvers.Status.TOLERANCE) for descent in both]
    assert torch.equal(ends[0].labels, ends[1].labels)
    assert ends[0].inertia == pytest.approx(ends[1].inertia, rel=1e-6)


def test_rows_come_in_and_passes_over_a_part_end_where_chance_may_move_them(generator):
    problem, start = rows_of("few", True, generator)
    both = [descent_of(problem, start, by_itself) for by_itself in (True, False)]
    for descent in both:
        for n_rows in (60, 150, 152):  # the last few are no reason to add up all
            descent.admit(n_rows)
            descent.settle_on_part(50)
            assert descent.history[-1].shift <= descent.noise
        descent.admit(len(problem.x))
        descent.settle(0, 5)
    same(*both)
    assert len({record.n_rows for record in both[0].history}) == 4


def test_a_pass_that_empties_a_cluster_is_finished_and_others_follow(generator):
    problem, start = rows_of("few", False, generator)
    start[1:3] = torch.tensor([[90.0], [-80.0]])  # nearest to no row
    both = [descent_of(problem, start, by_itself) for by_itself in (True, False)]
    for descent in both:
        descent.admit(len(problem.x))
        descent.settle(0, 9)
    same(*both)
    assert both[0].history[0].n_reseeded == 2
    assert sum(record.n_reseeded for record in both[0].history[1:]) == 0
    assert torch.isfinite(both[0].means).all()


@pytest.mark.parametrize("solver", ["auto", "lloyd"])
def test_who_watches_sees_the_passes_that_are_made_unwatched(solver, blobs):
    seen = []
    settings = {"init": blobs[:6], "solver": solver, "tol": 0}
    watched = torchkm.kmeans(blobs, 6, callback=lambda record: seen.append(record), **settings)
    alone = torchkm.kmeans(blobs, 6, **settings)
    assert watched.history == alone.history == tuple(seen)
    assert torch.equal(watched.centroids, alone.centroids)
    assert torch.equal(watched.labels, alone.labels)


def test_any_number_of_passes_may_be_asked_for(blobs):
    result = torchkm.kmeans(blobs, 6, max_iter=10**15, tol=0)
    assert result.status is torchkm.solvers.Status.LABELS_UNCHANGED


def test_a_watcher_that_stops_is_heard(blobs):
    result = torchkm.kmeans(blobs, 6, init=blobs[:6], callback=lambda record: record.n_iter == 2)
    assert len(result.history) == 2
    assert result.status is torchkm.solvers.Status.CALLBACK


def test_centroids_that_were_looked_at_are_not_written_to(generator):
    problem, start = rows_of("few", False, generator)
    before = start.clone()
    descent = descent_of(problem, start, True)
    descent.admit(len(problem.x))
    descent.step()
    means, centroids = descent.means, descent.centroids
    kept = means.clone(), centroids.clone()
    descent.settle(0, 5)
    assert torch.equal(start, before)
    assert torch.equal(means, kept[0])
    assert torch.equal(centroids, kept[1])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e25])
def test_rows_that_cannot_be_squared_are_told_of(number, generator):
    problem, start = rows_of("few", False, generator)
    problem.x[7, 1] = number
    with pytest.raises(ValueError, match="x must be"):
        lloyd(problem, start, Stopping(5, 0.0, None))


def test_unit_rows_are_moved_on_their_sphere(generator):
    x = torch.randn(300, 3, generator=generator)
    problem = as_problem(x, None, "cosine")
    start = kernels.unit(x[:4])
    descent = Descent(problem.from_origin(kernels.unit(x).mean(0)), None, start, "auto", None)
    assert descent._several is None
    descent.admit(300)
    descent.settle(1e-4, 5)
    torch.testing.assert_close(descent.means.norm(dim=1), torch.ones(4))


def test_long_passes_come_back_after_each(monkeypatch, generator):
    from torchkm.kernels.compiled import compact

    problem, start = rows_of("few", False, generator)
    ends = []
    for at_once in (1, 2**31):
        monkeypatch.setattr(compact, "_AT_ONCE", at_once)
        descent = descent_of(problem, start, True)
        descent.admit(len(problem.x))
        descent.settle(0, 7)
        ends.append(descent)
    same(*ends)
    assert len(ends[0].history) == 7


def test_ties_fall_as_they_do_one_by_one(generator):
    """Whole numbers tie often, and the order in which squares are added up decides."""
    for _ in range(10):
        x = torch.randint(3, (400, 12), generator=generator).double()
        problem = as_problem(x, None, "euclidean").from_origin(x.mean(0))
        both = [descent_of(problem, x[:6].clone(), many, most_momentum=0) for many in (True, False)]
        for descent in both:
            descent.admit(400)
            for _ in range(12):
                descent.step()
        assert torch.equal(both[0].labels(), both[1].labels())
        changed = [[record.n_changed for record in descent.history] for descent in both]
        assert changed[0] == changed[1]
