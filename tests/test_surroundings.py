"""What a program asks of torch for its own tensors and products changes no fit."""

import threading
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from proving import leave_loops, multiply_in_bfloat16, multiply_in_eight_bits

import torchkm
import torchkm.cluster
from torchkm.kernels import scratch

ROWS = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
WIDE = np.random.default_rng(0).normal(size=(8500, 256)).astype(np.float32)
SPARSE = scipy.sparse.random(600, 200, 0.05, "csr", dtype=np.float32, random_state=0)


def seeded():
    return torch.Generator().manual_seed(0)


def fitted(estimator):
    return lambda rows, k: estimator(k, random_state=0).fit(rows).labels_


def labels_of_new(rows, k):
    return torchkm.cluster.KMeans(k, random_state=0, max_iter=2).fit(rows).predict(rows)


CALLS = {
    "KMeans": fitted(torchkm.cluster.KMeans),
    "MiniBatchKMeans": fitted(torchkm.cluster.MiniBatchKMeans),
    "BisectingKMeans": fitted(torchkm.cluster.BisectingKMeans),
    "predict": labels_of_new,
    "random": lambda x, k: torchkm.cluster.KMeans(k, init="random", random_state=0).fit(x).labels_,
    "transform": lambda x, k: torchkm.cluster.KMeans(k, random_state=0).fit_transform(x),
    "kmeans_plusplus": lambda x, k: torchkm.cluster.kmeans_plusplus(x, k, random_state=0)[1],
    "kmeans_plusplus of many": lambda x, k: torchkm.cluster.kmeans_plusplus(x, 540, random_state=0)[
        1
    ],
    "lloyd": lambda x, k: torchkm.kmeans(x, k, solver="lloyd", generator=seeded()).labels,
}


@pytest.fixture
def fresh(request, monkeypatch):
    """Leave no memory from other tests, which would hide what is made anew."""
    if request.param != "in loops":
        leave_loops(monkeypatch)
    if request.param == "in eight bits":
        multiply_in_eight_bits(monkeypatch)
    if request.param == "in bfloat16":
        multiply_in_bfloat16(monkeypatch)
    monkeypatch.setattr(scratch, "_KEPT", threading.local())


@pytest.fixture(
    params=[lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["device", "autocast"],
)
def surroundings(request):
    return request.param


# What rows may be scored in: few digits are for wide ones.
ANYWAY = ["in loops", "without"]
IN_FEW_DIGITS = ["in eight bits", "in bfloat16"]


@pytest.mark.parametrize(
    ("kind", "fresh"),
    [
        *(("narrow", way) for way in ANYWAY),
        *(("wide", way) for way in ANYWAY + IN_FEW_DIGITS),
        ("sparse", "without"),
    ],
    indirect=["fresh"],
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_fits_of_arrays(call, kind, fresh, surroundings):
    rows = {"narrow": ROWS, "wide": WIDE, "sparse": SPARSE}[kind]
    with surroundings():
        found = call(rows, 4)
    want = call(rows, 4)
    assert np.array_equal(np.asarray(found), np.asarray(want))


@pytest.mark.parametrize("fresh", ANYWAY + IN_FEW_DIGITS, indirect=True)
def test_refinement(fresh, surroundings):
    with surroundings():
        found = torchkm.kmeans(WIDE, 4, refine=2, generator=seeded())
    assert found.inertia == torchkm.kmeans(WIDE, 4, refine=2, generator=seeded()).inertia


@pytest.mark.parametrize("fresh", ANYWAY, indirect=True)
def test_criteria(fresh, surroundings):
    labels = torch.arange(300) % 3
    rows = torch.from_numpy(ROWS[:300])
    scores = (
        torchkm.metrics.silhouette,
        torchkm.metrics.calinski_harabasz,
        torchkm.metrics.davies_bouldin,
    )
    with surroundings():
        found = [float(score(rows, labels)) for score in scores]
        choice = torchkm.cluster.KSelection([2, 3, 4], random_state=0).fit(ROWS[:500])
    assert found == [float(score(rows, labels)) for score in scores]
    assert choice.k_ == torchkm.cluster.KSelection([2, 3, 4], random_state=0).fit(ROWS[:500]).k_


FITS = {
    "kmeans": lambda x: torchkm.kmeans(x, 4, generator=seeded()).labels,
    "lloyd": lambda x: torchkm.kmeans(x, 4, solver="lloyd", generator=seeded()).labels,
    "refined": lambda x: torchkm.kmeans(x, 4, refine=2, generator=seeded()).labels,
    "minibatch": lambda x: torchkm.kmeans(x, 4, solver="minibatch", generator=seeded()).labels,
    "kmeans_batch": lambda x: (
        torchkm.kmeans_batch(x[:400].view(2, 200, 6), 4, generator=seeded()).labels
    ),
    "sweep": lambda x: torchkm.solvers.sweep(x, [2, 4], generator=seeded())[4].labels,
    "KMeans": lambda x: torchkm.cluster.KMeans(4, random_state=0).fit(x).labels_,
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_fits_inside_of_compiled_functions(fit):
    rows = torch.from_numpy(ROWS)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's, of what it does not follow
        found = torch.compile(lambda x: fit(x * 2) + 1, backend="eager")(rows)
    assert torch.equal(found, fit(rows * 2) + 1)
    torch.compiler.reset()
