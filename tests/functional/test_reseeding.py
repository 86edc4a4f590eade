"""Empty clusters: who gives a row, who gets it, and that nothing is lost on the way."""

import torch

from torchkm.functional import Assignment, assign, assign_and_accumulate
from torchkm.functional.assignment import as_centroids_for
from torchkm.functional.problem import as_problem
from torchkm.functional.reseeding import farthest_rows, reseed


def reseeded(x, centroids, weight=None, metric="euclidean"):
    found, stats = assign_and_accumulate(x, centroids, weight, metric=metric)
    empty = stats.counts == 0
    problem = as_problem(x, weight, metric)
    far = farthest_rows(
        problem, as_centroids_for(problem.x, centroids, problem.metric), found, int(empty.sum())
    )
    after, into = reseed(stats, empty, far)
    return stats, after, into.tolist()


def test_the_farthest_row_moves_into_the_empty_cluster():
    x = torch.tensor([[0.0], [1.0], [5.0]])
    before, after, into = reseeded(x, torch.tensor([[0.0], [100.0]]))
    assert into == [1]
    assert after.counts.tolist() == [2, 1]
    assert after.sums.tolist() == [[1.0], [5.0]]
    assert torch.equal(after.counts.sum(), before.counts.sum())
    assert torch.equal(after.sums.sum(0), before.sums.sum(0))


def test_farthest_first_and_one_row_each():
    x = torch.tensor([[0.0], [3.0], [9.0], [1.0]])
    _, after, into = reseeded(x, torch.tensor([[0.0], [100.0], [200.0]]))
    assert into == [1, 2]
    assert after.sums.squeeze(1).tolist() == [1.0, 9.0, 3.0]


def test_the_only_row_of_a_cluster_is_not_taken():
    x = torch.tensor([[0.0], [1.0], [50.0]])
    _, after, into = reseeded(x, torch.tensor([[0.0], [40.0], [-100.0]]))
    assert into == [2]
    assert after.counts.tolist() == [1, 1, 1]
    assert after.sums.squeeze(1).tolist() == [0.0, 50.0, 1.0]


def test_rows_on_their_centroid_stay():
    x = torch.tensor([[2.0], [2.0], [2.0]])
    before, after, into = reseeded(x, torch.tensor([[2.0], [2.0]]))
    assert into == []
    assert after is before


def test_rows_without_weight_stay():
    x = torch.tensor([[0.0], [1.0], [9.0]])
    weight = torch.tensor([1.0, 1.0, 0.0])
    _, after, into = reseeded(x, torch.tensor([[0.0], [100.0]]), weight)
    assert into == [1]
    assert after.sums.squeeze(1).tolist() == [0.0, 1.0]


def test_a_weighted_row_takes_its_weight_along():
    x = torch.tensor([[0.0], [4.0]])
    _, after, _ = reseeded(x, torch.tensor([[0.0], [100.0]]), torch.tensor([1.0, 2.5]))
    assert after.counts.tolist() == [1.0, 2.5]
    assert after.sums.squeeze(1).tolist() == [0.0, 10.0]


def test_more_empty_clusters_than_rows_to_spare():
    x = torch.tensor([[0.0], [1.0]])
    _, after, into = reseeded(x, torch.tensor([[0.0], [50.0], [60.0], [70.0]]))
    assert into == [1]
    assert after.counts.tolist() == [1, 1, 0, 0]


def test_a_cluster_is_not_drained_by_several():
    """Two far rows of one small cluster: it keeps the last."""
    x = torch.tensor([[10.0], [11.0], [0.0], [0.1]])
    _, after, into = reseeded(x, torch.tensor([[5.0], [0.0], [99.0], [98.0]]))
    assert into == [2, 3]
    assert (after.counts > 0).all()


def test_cosine_moves_unit_rows():
    x = torch.tensor([[2.0, 0.0], [3.0, 0.1], [0.0, 7.0]])
    centroids = torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    _, after, _ = reseeded(x, centroids, metric="cosine")
    torch.testing.assert_close(after.sums[1], torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_farthest_rows_are_sorted_and_not_more_than_there_are():
    x = torch.arange(5.0).unsqueeze(1)
    problem, zero = as_problem(x, None, "euclidean"), torch.zeros(1, 1)
    found = Assignment(torch.zeros(5, dtype=torch.int64), x.square().squeeze(1))
    far = farthest_rows(problem, zero, found, 2)
    assert far.sq_distances.tolist() == [16, 9, 4, 1]
    assert len(farthest_rows(problem, zero, found, 9).rows) == 5


def test_rows_that_rounding_holds_away_are_at_no_distance():
    """Rounding of each number for itself: one large constant column hides nothing."""
    x = torch.tensor([[1e6, 3.0], [1e6, 3.0 + 2e-7], [1e6, 3.01]])
    problem, centroids = as_problem(x, None, "euclidean"), x[:1]
    found = assign(x, centroids)
    assert found.sq_distances[1] > 0
    far = farthest_rows(problem, centroids, found, 2)
    assert far.sq_distances[0] > 0
    assert far.sq_distances[1:].tolist() == [0, 0]
