"""Rows that are spread over two processes: as if one had them all."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.distributed.nn.functional import all_gather, all_reduce

from torchkm.functional.ranks import gather_rows
from torchkm.gradients import Implicit, OneStep, fixed_point
from torchkm.nn import AutoTemperature, HardKMeans, SoftKMeans, VectorQuantizer

pytestmark = pytest.mark.ddp

# An uneven split of 60 rows.
SHARES = [slice(0, 40), slice(40, 60)]
GRADIENTS = {
    "implicit": Implicit(tol=1e-13),
    "one_step": OneStep(2),
    "unroll": "unroll",
}
EXACT = {"max_iter": 2000, "tol": 1e-14}


class Processes:
    """What the docstring of ``torchkm.functional.Ranks`` shows."""

    def sum(self, value):
        return all_reduce(value)

    def gather(self, value):
        return torch.stack(all_gather(value))


def data():
    """Return rows in three groups, weights, and the losses' weights of centroids: one a rank."""
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    x = points.repeat(20, 1) + torch.randn(60, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(60, generator=generator, dtype=torch.float64) + 0.2
    upstream = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return x, weight, points, upstream


def layers_of(x, weight, start, upstream, ranks):
    """Return what layers make of rows, and its gradients; ``upstream`` is of these rows."""
    found = {}
    for name, gradient in GRADIENTS.items():
        for metric in ("euclidean", "cosine"):
            heat = torch.tensor(1.5 if metric == "euclidean" else 0.3, dtype=torch.float64)
            inputs = [t.clone().requires_grad_() for t in (x, weight, heat)]
            options = {"gradient": gradient, "metric": metric, "ranks": ranks, **EXACT}
            out = fixed_point(inputs[0], start, inputs[2], inputs[1], **options)
            loss = (out.centroids * upstream).sum() + (inputs[0] @ out.centroids.mT).sin().sum()
            grads = torch.autograd.grad(loss, inputs)
            found[f"{name}, {metric}"] = [out.centroids.detach(), out.n_iter, *grads]
    rows, heat = x.clone().requires_grad_(), torch.tensor(1.5, dtype=torch.float64)
    options = {"gradient": Implicit(tol=1e-13), "ranks": ranks, **EXACT}
    out = fixed_point(rows, start, heat, weight, **options)
    grad = torch.autograd.grad((out.centroids * upstream).sum(), rows, create_graph=True)[0]
    twice = torch.autograd.grad(grad.square().sum(), rows)[0]
    found["second order"] = [out.centroids.detach(), out.n_iter, twice]
    rows = x.clone().requires_grad_()
    hard = HardKMeans(3, ranks=ranks)(rows, start, weight)
    grad = torch.autograd.grad((hard.centroids * upstream).sum(), rows)[0]
    found["hard"] = [hard.centroids.detach(), hard.n_iter, grad]
    return found


def encoder_of(x, start, ranks, wrap):
    """Return the gradients of an encoder below the layer."""
    torch.manual_seed(0)
    encoder = wrap(torch.nn.Linear(2, 2).double())
    layer = SoftKMeans(3, temperature=1.5, ranks=ranks, **EXACT)
    codes = encoder(x)
    out = layer(codes, start)
    (out.responsibilities @ out.centroids - codes).square().sum().backward()
    return [parameter.grad for parameter in encoder.parameters()]


def quantizer():
    layer = VectorQuantizer(4, 2, start_rows=50, half_life=100, dtype=torch.float64)
    layer.codebook.seed(data()[0], init=torch.tensor([[0.0, 0], [1, 1], [-1, 1], [1e3, 1e3]]))
    return layer


def streamed(layer, share, generator=None):
    """Return the codebook after a few batches of which this rank has a ``share``."""
    for shift in range(4):
        out = layer(data()[0][share] + shift / 4, generator=generator)
    book = layer.codebook
    return [book.centroids, book.counts, book.n_rows_seen, out.perplexity]


def on_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    ranks, share = Processes(), SHARES[rank]
    x, weight, start, upstream = data()
    found = layers_of(x[share], weight[share], start, upstream[rank], ranks)
    wrap = torch.nn.parallel.DistributedDataParallel
    found["encoder"] = encoder_of(x[share], start, ranks, wrap)
    layer = quantizer()
    layer.ranks = ranks
    found["stream"] = streamed(layer, share)
    mine = torch.Generator().manual_seed(rank)  # draws differ
    fresh = VectorQuantizer(4, 2, start_rows=100, ranks=ranks)
    found["start"] = streamed(fresh, share, mine)
    auto = SoftKMeans(3, temperature=AutoTemperature(0.5), ranks=ranks)
    out = auto(x[share], generator=mine)
    found["auto"] = [out.centroids, out.temperature, out.n_iter]
    found["rows"] = gather_rows(x[share], ranks)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(on_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_gradients_are_those_of_one_process(two):
    x, weight, start, upstream = data()
    # Each rank has its own loss by the centroids, and gradients are those of their sum.
    one = layers_of(x, weight, start, upstream.sum(0), None)
    for name, (centroids, n_iter, *grads) in one.items():
        for rank, share in enumerate(SHARES):
            mine = two[rank][name]
            torch.testing.assert_close(mine[0], centroids, rtol=1e-10, atol=1e-10)
            assert mine[1] == n_iter
            torch.testing.assert_close(mine[2], grads[0][share], rtol=1e-8, atol=1e-9)
            assert torch.equal(mine[0], two[0][name][0])
        if len(grads) == 3:
            by_weight = torch.cat([two[rank][name][3] for rank in range(2)])
            torch.testing.assert_close(by_weight, grads[1], rtol=1e-8, atol=1e-9)
            heat = two[0][name][4] + two[1][name][4]
            torch.testing.assert_close(heat, grads[2], rtol=1e-8, atol=1e-9)


def test_an_encoder_under_ddp_learns_as_on_one_process(two):
    x, _, start, _ = data()
    want = encoder_of(x, start, None, lambda module: module)
    for found in two:
        for mine, whole in zip(found["encoder"], want, strict=True):
            torch.testing.assert_close(2 * mine, whole, rtol=1e-8, atol=1e-9)  # DDP takes means


def test_a_stream_of_codes_is_that_of_one_process(two):
    """With a code that has lost its rows and is moved to one of them."""
    want = streamed(quantizer(), slice(0, 60))
    assert want[0].abs().max() < 100
    for found in two:
        for mine, whole in zip(found["stream"], want, strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["stream", "start", "auto"])
def test_ranks_stay_the_same_to_the_bit(two, name):
    for mine, other in zip(two[0][name], two[1][name], strict=True):
        assert torch.equal(mine, other)


def test_all_rows_are_gathered_in_order(two):
    for found in two:
        assert torch.equal(found["rows"], data()[0])


def test_what_is_for_one_process_is_refused():
    x, weight, start, _ = data()
    gradient = Implicit(solver="gmres")
    with pytest.raises(ValueError, match=r"solver='gmres'.*is for rows of one process"):
        fixed_point(x, start, 1.0, weight, gradient=gradient, ranks=Processes())
