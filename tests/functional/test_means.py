"""Means of labelled rows: against ClusterStats, and with derivatives of two orders."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torchkm.functional import Assignment, accumulate, cluster_means
from torchkm.functional.means import lloyd_step
from torchkm.functional.soft_problem import as_soft_problem

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def draw(generator, *batch, n=12, k=4, d=2):
    """Return rows, labels, centroids and weights; the last cluster has no rows."""
    x = torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)
    labels = torch.randint(k - 1, (*batch, n), generator=generator)
    labels[..., : k - 1] = torch.arange(k - 1)
    centroids = torch.randn(*batch, k, d, generator=generator, dtype=torch.float64)
    weight = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.2
    return x, labels, centroids, weight


def test_they_are_those_of_the_stats(generator):
    x, labels, centroids, weight = draw(generator)
    means = cluster_means(x, labels, centroids, weight)
    stats = accumulate(x, Assignment(labels, torch.zeros(12).double()), 4, weight)
    torch.testing.assert_close(means[:3], stats.means[:3])
    assert torch.equal(means[3], centroids[3])


def test_the_gradient_is_the_share_of_a_row(generator):
    """``[label_i = j] weight_i / R_j`` and ``[label_i = j] (x_i - c_j) / R_j``, one by one."""
    x, labels, centroids, weight = draw(generator)
    given = x, weight
    by_x, by_weight = torch.autograd.functional.jacobian(
        lambda x, weight: cluster_means(x, labels, centroids, weight), given
    )
    means = cluster_means(x, labels, centroids, weight)
    for i in range(12):
        for j in range(4):
            mine = float(labels[i] == j) / weight[labels == labels[i]].sum()
            torch.testing.assert_close(by_x[j, :, i, :], mine * weight[i] * torch.eye(2).double())
            torch.testing.assert_close(by_weight[j, :, i], mine * (x[i] - means[j]))


@METRICS
def test_derivatives_of_two_orders(metric, generator):
    x, labels, centroids, weight = draw(generator, 2, n=6, k=3)
    inputs = [t.requires_grad_() for t in (x, weight)]

    def means(x, weight):
        return cluster_means(x, labels, centroids, weight, metric=metric)

    assert gradcheck(means, inputs)
    assert gradgradcheck(means, inputs)


@METRICS
def test_an_empty_cluster_stays_and_has_no_gradient(metric, generator):
    x, labels, centroids, weight = draw(generator)
    weight[labels == 1] = 0  # rows that weigh nothing are none
    inputs = [t.requires_grad_() for t in (x, centroids, weight)]
    means = cluster_means(x, labels, centroids, weight, metric=metric)
    want = torch.nn.functional.normalize(centroids, dim=-1) if metric == "cosine" else centroids
    torch.testing.assert_close(means[[1, 3]], want[[1, 3]])
    means[[1, 3]].sum().backward()
    for given in inputs:
        assert given.grad is None or not given.grad.any()
    means = cluster_means(x, labels, centroids, weight, metric=metric)
    for grad in torch.autograd.grad(means.square().sum(), (x, weight)):
        assert torch.isfinite(grad).all()


def test_centroids_that_are_left_are_constants(generator):
    x, labels, centroids, _ = draw(generator)
    assert not cluster_means(x, labels, centroids.requires_grad_()).requires_grad


def test_a_batch_is_its_problems_one_by_one_and_maps(generator):
    x, labels, centroids, weight = draw(generator, 3, 2)
    whole = cluster_means(x, labels, centroids, weight)
    each = [
        cluster_means(*(t.flatten(0, 1)[i] for t in (x, labels, centroids, weight)))
        for i in range(6)
    ]
    torch.testing.assert_close(whole.flatten(0, 1), torch.stack(each))
    mapped = torch.func.vmap(torch.func.vmap(cluster_means))(x, labels, centroids, weight)
    torch.testing.assert_close(mapped, whole)
    same = cluster_means(x[0, 0].expand(3, 2, 12, 2), labels[0, 0], centroids[0, 0])
    torch.testing.assert_close(same[2, 1], cluster_means(x[0, 0], labels[0, 0], centroids[0, 0]))


def test_rows_far_from_zero_keep_their_digits(generator):
    x = 1e4 + torch.randn(5000, 3, generator=generator)
    labels = torch.zeros(5000, dtype=torch.int64)
    means = cluster_means(x, labels, x[:1])
    torch.testing.assert_close(means[0].double(), x.double().mean(0), rtol=0, atol=2e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cluster_means(x, labels, x[:1]), means)
    half = cluster_means(x.half(), labels, x[:1])
    assert half.dtype == torch.float32


@METRICS
def test_a_step_assigns_to_the_nearest_and_takes_means(metric, generator):
    x, _, centroids, weight = draw(generator, 2, n=40)
    problem, at = as_soft_problem(x, centroids, 1.0, weight, metric)
    labels = torch.cdist(problem.x, at).argmin(-1)
    want = cluster_means(x, labels, centroids, weight, metric=metric)
    torch.testing.assert_close(lloyd_step(problem, at), want)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"labels": [0, 1, 0]}, TypeError, "labels must be a tensor of int64 numbers, got list"),
        ({"labels": torch.zeros(3)}, TypeError, "got torch.float32"),
        ({"labels": torch.zeros(4).long()}, ValueError, r"expected \(3,\), got \(4,\)"),
        ({"x": torch.ones(3)}, ValueError, r"x must have shape \(\*batch, n, d\)"),
        ({"metric": "l1"}, ValueError, "metric must be one of"),
    ],
)
def test_bad_input_is_named(arguments, error, match):
    given = {
        "x": torch.ones(3, 2),
        "labels": torch.tensor([0, 1, 0]),
        "centroids": torch.ones(2, 2),
    }
    with pytest.raises(error, match=match):
        cluster_means(**{**given, **arguments})
