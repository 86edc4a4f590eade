"""The vector quantiser: its start, its stream, its codes that die, and its gradients."""

import copy
import io
import pickle

import pytest
import torch

import torchkm
from torchkm.functional import assign
from torchkm.nn import VectorQuantizer
from torchkm.nn.passing import PASSINGS
from torchkm.solvers import CentroidState, Decay, update


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def started(blobs):
    layer = VectorQuantizer(6, 5, start_rows=300, dtype=torch.float64)
    layer(blobs, generator=seeded())
    return layer


def buffers(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def equal(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_it_starts_from_the_rows_of_several_batches(blobs):
    layer = VectorQuantizer(6, 5, start_rows=250, dtype=torch.float64)
    rows = blobs[torch.randperm(600, generator=seeded())]
    for n_seen in (0, 100):
        x = rows[n_seen : n_seen + 100].clone().requires_grad_()
        out = layer(x)
        assert torch.equal(out.quantized, x)
        assert (out.codes == -1).all()
        assert out.loss == 0
        assert out.perplexity.isnan()
        assert not layer.codebook.is_seeded
        x.detach().zero_()  # what was collected is a copy
    out = layer(rows[200:300], generator=seeded(3))
    assert layer.codebook.is_seeded
    want = torchkm.kmeans(rows[:300], 6, solver="lloyd", max_iter=10, generator=seeded(3))
    inertia = assign(rows[:300], layer.codebook.centroids).sq_distances.sum()
    assert inertia <= want.inertia + 1e-9
    assert inertia >= 0.9 * want.inertia
    assert layer.codebook.counts.sum() == 300
    assert int(layer.codebook.n_rows_seen) == 300
    assert torch.equal(out.codes, assign(rows[200:300], layer.codebook.centroids).labels)


def test_the_codes_are_an_exponential_moving_average(started, blobs, generator):
    """As the classic has it: fading sums over fading counts, by a decay for each batch."""
    half_life = 500.0
    layer = VectorQuantizer(6, 5, half_life=half_life, dtype=torch.float64)
    layer.codebook.load_state_dict(started.codebook.state_dict())
    layer.revive_below = 0
    centroids, counts = (t.clone() for t in (layer.codebook.centroids, layer.codebook.counts))
    sums, decay = centroids * counts.unsqueeze(1), 0.5 ** (100 / half_life)
    for batch in blobs[torch.randperm(600, generator=generator)].split(100):
        before = layer.codebook.centroids.clone()
        out = layer(batch)
        labels = assign(batch, before).labels
        assert torch.equal(out.codes, labels)
        assert torch.equal(out.quantized, before[labels])
        hot = torch.nn.functional.one_hot(labels, 6).double()
        counts, sums = decay * counts + hot.sum(0), decay * sums + hot.T @ batch
        centroids = sums / counts.unsqueeze(1)
        torch.testing.assert_close(layer.codebook.centroids, centroids)
        torch.testing.assert_close(layer.codebook.counts, counts)


def test_the_update_is_the_solvers_own(started, blobs):
    book = started.codebook
    state = CentroidState(book.centroids.clone(), book.counts.clone())
    _, stats = torchkm.functional.assign_and_accumulate(blobs[::7], state.centroids)
    started(blobs[::7])
    want = update(stats, state, Decay(256.0 * 6)).state
    assert torch.equal(book.centroids, want.centroids)
    assert torch.equal(book.counts, want.counts)


def test_loss_and_perplexity_by_hand(started, blobs):
    book, x = started.codebook.centroids.clone(), blobs[::12]
    labels = assign(x, book).labels
    share = torch.bincount(labels, minlength=6).double() / 50
    want = torch.exp(-torch.xlogy(share, share).sum())
    assert want > 3
    for layer in (started, copy.deepcopy(started).eval()):
        layer.codebook.centroids.copy_(book)
        out = layer(x)
        torch.testing.assert_close(out.loss, 0.25 * (x - book[labels]).square().mean())
        torch.testing.assert_close(out.perplexity, want)


@pytest.mark.parametrize("gradient", sorted(PASSINGS))
def test_gradients_are_those_of_the_way_to_pass_and_of_the_commitment(started, blobs, gradient):
    layer = VectorQuantizer(6, 5, gradient=gradient, commitment=0.5, dtype=torch.float64).eval()
    layer.load_state_dict(started.state_dict())
    x = blobs[:40].clone().requires_grad_()
    upstream = torch.randn(40, 5, generator=seeded(), dtype=torch.float64)
    out = layer(x)
    mine = torch.autograd.grad((out.quantized * upstream).sum() + out.loss, x)[0]
    codes = layer.lookup(out.codes)
    passed = torch.autograd.grad((PASSINGS[gradient](x, codes) * upstream).sum(), x)[0]
    torch.testing.assert_close(mine, passed + 0.5 * 2 * (x.detach() - codes) / x.numel())
    assert not list(layer.parameters())


def test_dead_codes_come_back():
    """Codes that started amid one group are moved to groups that come later."""
    near = torch.randn(400, 2, generator=seeded(), dtype=torch.float64)
    groups = 50 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).double()
    far = near[:300] + groups.repeat(100, 1)

    def after(revive_below):
        layer = VectorQuantizer(
            8, 2, start_rows=100, half_life=200, revive_below=revive_below, dtype=torch.float64
        )
        layer(near, generator=seeded())
        for _ in range(12):
            out = layer(far)
        return out, (far - out.quantized).square().sum(1).mean()

    (out, apart), (without, worse) = after(0.05), after(0)
    assert out.perplexity > 5
    assert apart < 3
    assert without.perplexity < 3.5
    assert worse > apart


@pytest.mark.parametrize("revive_below", [0, 0.05])
def test_a_code_that_never_had_a_row_is_moved_if_asked(blobs, revive_below):
    layer = VectorQuantizer(3, 5, revive_below=revive_below, dtype=torch.float64)
    layer.codebook.seed(blobs, init=torch.cat([blobs[:2], torch.full((1, 5), 1e3).double()]))
    layer(blobs)
    assert (layer.codebook.centroids[2].norm() < 100) == (revive_below > 0)


def test_evaluation_moves_nothing(started, blobs):
    started.eval()
    before = buffers(started)
    first, again = started(blobs), started(blobs)
    assert equal(before, buffers(started))
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.quantized, started.lookup(first.codes))


def test_rows_of_any_rank_come_back_in_place(started, blobs):
    grid = blobs.view(20, 30, 5)
    started.eval()
    out, flat = started(grid), started(blobs)
    assert out.quantized.shape == grid.shape
    assert out.codes.shape == (20, 30)
    assert torch.equal(out.codes.flatten(), flat.codes)
    assert torch.equal(started.lookup(out.codes), out.quantized)
    assert started(blobs[0]).codes.shape == ()


def test_state_copies_and_pickles_come_back(started, blobs):
    file = io.BytesIO()
    torch.save(started.state_dict(), file)
    file.seek(0)
    fresh = VectorQuantizer(6, 5, dtype=torch.float64)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    twins = fresh, copy.deepcopy(started), pickle.loads(pickle.dumps(started))
    before = buffers(started)
    for twin in twins:
        assert torch.equal(twin.eval()(blobs).codes, started.eval()(blobs).codes)
        twin.train()(blobs)
        assert equal(before, buffers(started))
        assert not equal(before, buffers(twin))
    collecting = VectorQuantizer(6, 5, start_rows=250, dtype=torch.float64)
    collecting(blobs[:200])
    twin = copy.deepcopy(collecting)
    twin(blobs[200:260])
    assert twin.codebook.is_seeded
    assert not collecting.codebook.is_seeded


def test_cosine_codes_and_rows_are_of_unit_length(blobs):
    layer = VectorQuantizer(6, 5, metric="cosine", dtype=torch.float64)
    x = (3 * blobs).requires_grad_()
    for _ in range(3):
        out = layer(x, generator=seeded())
    ones = torch.ones(600).double()
    torch.testing.assert_close(out.quantized.norm(dim=1), ones)
    torch.testing.assert_close(layer.codebook.centroids.norm(dim=1), ones[:6])
    torch.testing.assert_close(out.loss, layer(blobs).loss, rtol=0.05, atol=0)
    out.quantized.sum().backward()
    torch.testing.assert_close((x.grad * x).sum(1), 0 * ones, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_any_dtype_and_autocast(blobs, dtype):
    layer = VectorQuantizer(6, 5)
    layer(blobs.float(), generator=seeded())
    layer.eval().to(torch.bfloat16)
    assert layer.codebook.centroids.dtype == torch.float32
    x = blobs.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.quantized.dtype == dtype
    assert out.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(out.codes, assign(x.detach(), layer.codebook.centroids).labels)
    (out.quantized.sum() + out.loss).backward()
    assert x.grad.dtype == dtype
    torch.testing.assert_close(layer(blobs.float()).loss, out.loss.float(), rtol=2e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_training_step_need_not_know_of_the_start(dtype, blobs):
    layer = VectorQuantizer(6, 5, start_rows=250)
    x = blobs[:100].to(dtype).requires_grad_()
    out = layer(x)
    assert out.loss.dtype == out.perplexity.dtype == torch.promote_types(dtype, torch.float32)
    out.loss.backward()
    assert (x.grad == 0).all()


def test_it_starts_inside_of_a_compiled_module(blobs):
    torch.compiler.reset()
    layer = VectorQuantizer(6, 5, start_rows=250)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="eager")
    for part in blobs.float().split(200):
        found, want = compiled(part, generator=seeded()), twin(part, generator=seeded())
        assert torch.equal(found.codes, want.codes)
    assert (want.codes >= 0).all()
    torch.compiler.reset()


def test_evaluation_compiles(started, blobs):
    started.eval()
    compiled = torch.compile(started, backend="aot_eager", fullgraph=True)
    found, want = compiled(blobs), started(blobs)
    assert torch.equal(found.codes, want.codes)
    torch.testing.assert_close(found.loss, want.loss)
    torch.testing.assert_close(found.perplexity, want.perplexity)


def test_an_autoencoder_learns_with_it(generator):
    """Rows on a plane in five dimensions, through sixteen codes in two."""
    torch.manual_seed(0)
    flat = torch.randint(4, (800, 2), generator=generator) + 0.1 * torch.randn(
        800, 2, generator=generator
    )
    x = flat @ torch.randn(2, 5, generator=generator)
    errors = {}
    for gradient in PASSINGS:
        encoder, decoder = torch.nn.Linear(5, 2), torch.nn.Linear(2, 5)
        layer = VectorQuantizer(16, 2, half_life=2000, gradient=gradient)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, 2e-2)
        for step in range(150):
            out = layer(encoder(x[(step % 4) :: 4]), generator=seeded())
            error = (decoder(out.quantized) - x[(step % 4) :: 4]).square().mean()
            optimizer.zero_grad()
            (error + out.loss).backward()
            optimizer.step()
        errors[gradient] = error.item()
    assert max(errors.values()) < 0.1 * x.var(0).mean()


def test_a_failed_batch_changes_nothing(started, blobs):
    before = buffers(started)
    for bad, match in [
        (torch.full((9, 5), torch.nan), "x must be finite"),
        (torch.ones(9, 4), "x must have n_features=5 columns, got shape"),
        (torch.ones(0, 5), "x must have shape"),
    ]:
        with pytest.raises(ValueError, match=match):
            started(bad)
    assert equal(before, buffers(started))
    collecting = VectorQuantizer(6, 5, start_rows=250, metric="cosine")
    with pytest.raises(ValueError, match="must be finite"):
        collecting(torch.full((9, 5), torch.nan))
    with pytest.raises(ValueError, match="2 of 2 rows of x are all zero"):
        collecting(torch.zeros(2, 5))
    for _ in range(3):
        collecting(blobs[:100].float())
    assert collecting.codebook.is_seeded


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: VectorQuantizer(0, 2), ValueError, "k must be at least 1"),
        (lambda: VectorQuantizer(3, 2, half_life=0), ValueError, "half_life must be finite"),
        (lambda: VectorQuantizer(3, 2, revive_below=-1), ValueError, "revive_below must be"),
        (lambda: VectorQuantizer(3, 2, commitment=-1), ValueError, "commitment must be finite"),
        (lambda: VectorQuantizer(3, 2, gradient="copy"), ValueError, "gradient must be one of"),
        (lambda: VectorQuantizer(3, 2, metric="l1"), ValueError, "metric must be one of"),
        (lambda: VectorQuantizer(3, 2, start_rows=2), ValueError, "start_rows must be at least 3"),
        (lambda: VectorQuantizer(3, 2)([[1.0, 2.0]]), TypeError, "x must be a tensor of float"),
        (lambda: VectorQuantizer(3, 2).eval()(torch.ones(3, 2)), ValueError, "no codes yet"),
        (lambda: VectorQuantizer(3, 2).lookup(torch.tensor(1)), ValueError, "no codes yet"),
    ],
)
def test_bad_input_is_named(build, error, match):
    with pytest.raises(error, match=match):
        build()


def test_repr_says_what_it_is():
    text = repr(VectorQuantizer(3, 2))
    assert "commitment=0.25, gradient='straight_through', start_rows=48" in text
    assert "Decay(half_life=768" in text
