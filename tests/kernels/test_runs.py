"""Scores in runs of rows: their best, and the next, are those of a plain product."""

import pytest
import torch

from torchkm.kernels.layout import RUN
from torchkm.kernels.runs import Scores, find_best


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, RUN - 1, RUN, 3 * RUN, 3 * RUN + 7])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 5), (70, 3), (9, 200)])
def test_best_and_next_are_those_of_a_plain_product(n, k, d, dtype, generator):
    x, centroids = (torch.randn(m, d, generator=generator, dtype=dtype) for m in (n, k))
    bias = torch.randn(k, generator=generator, dtype=dtype)
    want = (x.double() @ centroids.double().T + bias).sort(1, descending=True)
    scores = Scores(torch.empty(n, k, dtype=dtype))
    best, labels = torch.empty(n, dtype=dtype), torch.empty(n, dtype=torch.int64)
    near = {"rtol": 1e-4, "atol": 1e-4}
    for some in (n, (n + 1) // 2):  # fewer rows leave nothing of those before
        scores.fill(x[:some], centroids, bias)
        scores.best(best[:some], labels[:some])
        assert torch.equal(labels[:some], want.indices[:some, 0])
        torch.testing.assert_close(best[:some].double(), want.values[:some, 0], **near)
    scores.fill(x, centroids, bias)
    scores.best_but(want.indices[:, 0], best)
    following = want.values[:, 1] if k > 1 else torch.full((n,), -torch.inf).double()
    torch.testing.assert_close(best.double(), following, **near)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("n", [5, RUN + 7])
def test_best_of_each_of_some_sets(n, compiling, device, monkeypatch, generator):
    x = torch.randn(n, 6, generator=generator).to(device)
    starts = torch.randn(4, 9, 6, generator=generator).to(device)
    bias = starts.square().sum(2) / -2
    scores = Scores(torch.empty(n, 36, device=device))
    scores.fill(x, starts.flatten(0, 1), bias.flatten())
    best, labels = torch.empty(n, 4, device=device), torch.empty(n, 4, device=device).long()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    scores.best(best, labels)
    for number, start in enumerate(starts):
        want = (x @ start.T + bias[number]).max(1)
        torch.testing.assert_close(best[:, number], want.values)
        assert torch.equal(labels[:, number], want.indices + 9 * number)


@pytest.mark.parametrize("k", [2, 33, 500])
def test_of_equal_scores_the_first_is_best(k):
    scores = torch.zeros(2, k, 10)
    scores[0, k // 2 :] = 1
    best, labels = torch.empty(20), torch.empty(20, dtype=torch.int64)
    find_best(scores, best, labels)
    assert labels.tolist() == [k // 2] * 10 + [0] * 10
    assert best.tolist() == [1] * 10 + [0] * 10


def test_a_nan_is_seen():
    scores = torch.zeros(1, 3, 4)
    scores[0, 1, 2] = torch.nan
    best, labels = torch.empty(4), torch.empty(4, dtype=torch.int64)
    find_best(scores, best, labels)
    assert torch.isnan(best).tolist() == [False, False, True, False]
    assert labels.tolist() == [0, 0, 1, 0]


def test_scores_may_all_be_lowest():
    scores = torch.full((1, 3, 2), -torch.inf)
    best, labels = torch.empty(2), torch.empty(2, dtype=torch.int64)
    find_best(scores, best, labels)
    assert best.tolist() == [-torch.inf] * 2
    assert ((labels >= 0) & (labels < 3)).all()
