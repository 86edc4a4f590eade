"""The module: buffers, streaming, devices and dtypes, compilation."""

import copy
import io
import pickle

import pytest
import torch

import torchkm
from torchkm.functional import ClusterStats, assign, unit
from torchkm.nn import KMeans
from torchkm.solvers import RULES, CentroidState, Decay, Lloyd, update


@pytest.fixture
def fitted(blobs, generator):
    module = KMeans(6, 5)
    for batch in blobs.float().split(150):
        module.update(batch, generator=generator)
    return module


def buffers(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def equal(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_no_parameters_and_buffers_of_fixed_shape(fitted):
    shapes = {name: tuple(value.shape) for name, value in fitted.named_buffers()}
    assert shapes == {"centroids": (6, 5), "counts": (6,), "n_rows_seen": (), "seeded": ()}
    assert list(fitted.parameters()) == []
    assert {n: tuple(b.shape) for n, b in KMeans(6, 5).named_buffers()} == shapes


@pytest.mark.parametrize("solver", sorted(RULES))
def test_update_is_assign_accumulate_update(blobs, solver, generator):
    rule = RULES[solver].for_rows(600)
    init = blobs[::100]
    module = KMeans(6, 5, rule=rule, dtype=torch.float64)
    module.seed(blobs, init=init)
    state = CentroidState(init, torch.zeros(6, dtype=torch.float64))
    for batch in blobs[torch.randperm(600, generator=generator)].split(200):
        module.update(batch)
        _, stats = torchkm.functional.assign_and_accumulate(batch, state.centroids)
        state = update(stats, state, rule).state
    assert torch.equal(module.centroids, state.centroids)
    assert torch.equal(module.counts, state.counts)
    assert int(module.n_rows_seen) == 600


def test_first_update_seeds_from_its_rows(blobs, generator):
    module = KMeans(6, 5)
    assert not module.is_seeded
    stats = module.update(blobs, generator=generator)
    assert module.is_seeded
    assert isinstance(stats, ClusterStats)
    assert stats.counts.sum() == 600


def test_streaming_learns(blobs, generator):
    module = KMeans(6, 5, rule=Decay(300))
    for _ in range(5):
        for batch in blobs[torch.randperm(600, generator=generator)].split(100):
            module.update(batch, generator=generator)
    best = torchkm.kmeans(blobs, 6, n_init=5, generator=generator).inertia
    assert module(blobs).sq_distances.sum() < 1.05 * best


def test_lost_centroids_come_back(blobs):
    module = KMeans(6, 5)
    module.seed(blobs, init=blobs[:6])
    module.centroids[4] = 1e4
    module.update(blobs)
    assert module.centroids[4].abs().max() < 100
    assert module.counts[4] >= 1


def test_weights_count(blobs, generator):
    weight = torch.randint(0, 3, (600,), generator=generator)
    one, two = KMeans(3, 5), KMeans(3, 5)
    for module in (one, two):
        module.seed(blobs, init=blobs[:3])
    one.update(blobs, weight)
    two.update(blobs.repeat_interleave(weight, dim=0))
    torch.testing.assert_close(one.centroids, two.centroids)
    torch.testing.assert_close(one.counts, two.counts)


def test_stats_of_parts_make_a_full_pass(blobs):
    module = KMeans(6, 5, rule=Lloyd(), dtype=torch.float64)
    module.seed(blobs, init=blobs[:6])
    parts = [module.accumulate(batch)[1] for batch in blobs.split(100)]
    module.apply_stats(sum(parts[1:], parts[0]), 600)
    want = torchkm.kmeans(blobs, 6, init=blobs[:6], max_iter=1)
    torch.testing.assert_close(module.centroids, want.centroids)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_forward_predict_and_transform(blobs, metric, generator):
    module = KMeans(6, 5, metric=metric)
    module.update(blobs, generator=generator)
    want = assign(blobs, module.centroids, metric=metric)
    found = module(blobs)
    assert torch.equal(found.labels, want.labels)
    assert torch.equal(found.sq_distances, want.sq_distances)
    assert torch.equal(module.predict(blobs), want.labels)
    distances = module.transform(blobs)
    assert distances.shape == (600, 6)
    torch.testing.assert_close(distances.min(1).values.square(), want.sq_distances)


def test_leading_dimensions_come_back(blobs, fitted):
    grid = blobs.reshape(20, 30, 5)
    assert fitted(grid).labels.shape == (20, 30)
    assert torch.equal(fitted(grid).labels.flatten(), fitted(blobs).labels)
    assert fitted.transform(grid).shape == (20, 30, 6)
    assert fitted.predict(blobs[0]).shape == ()


def test_state_dict_round_trip_through_a_file(blobs, fitted):
    file = io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    fresh = KMeans(6, 5)
    fresh.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    assert equal(buffers(fitted), buffers(fresh))
    assert torch.equal(fresh.predict(blobs), fitted.predict(blobs))
    fresh.update(blobs)  # goes on learning, does not seed again
    assert int(fresh.n_rows_seen) == 1200


def test_loading_an_unseeded_state_unseeds(blobs, fitted):
    fitted.load_state_dict(KMeans(6, 5).state_dict())
    with pytest.raises(ValueError, match="no centroids yet"):
        fitted(blobs)


def test_copies_and_pickles(blobs, fitted):
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert equal(buffers(fitted), buffers(twin))
        twin.update(blobs)
        assert not equal(buffers(fitted), buffers(twin))


def test_narrow_dtypes_lose_nothing(blobs, fitted):
    before = buffers(fitted)
    fitted.half().to(torch.bfloat16)
    assert equal(before, buffers(fitted))
    assert fitted.predict(blobs.half()).shape == (600,)
    fitted.double()
    assert fitted.centroids.dtype == torch.float64
    assert fitted.counts.dtype == torch.float64


def test_meta_and_back():
    module = KMeans(6, 5, device="meta")
    assert "n_rows_seen=?" in repr(module)
    assert module.to_empty(device="cpu").centroids.shape == (6, 5)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.full((9, 5), float("nan")), "x must be finite"),
        (torch.zeros(9, 4), r"n_features=5 columns, got shape \(9, 4\)"),
        (torch.zeros(0, 5), "at least one row"),
    ],
)
def test_a_failed_update_changes_nothing(fitted, batch, message):
    before = buffers(fitted)
    with pytest.raises(ValueError, match=message):
        fitted.update(batch)
    assert equal(before, buffers(fitted))


def test_a_first_batch_of_too_few_rows_changes_nothing(blobs):
    module = KMeans(6, 5)
    before = buffers(module)
    with pytest.raises(ValueError, match="at most the number of rows: got k=6 for n=4"):
        module.update(blobs[:4])
    assert equal(before, buffers(module))
    module.update(blobs)


def test_before_seeding(blobs):
    for door in (KMeans(6, 5), KMeans(6, 5).predict, KMeans(6, 5).transform):
        with pytest.raises(ValueError, match=r"no centroids yet: call update\(x\) or seed\(x\)"):
            door(blobs)
    with pytest.raises(ValueError, match="no centroids yet"):
        KMeans(6, 5).accumulate(blobs)


def test_the_decay_rule_needs_a_half_life_in_a_stream(blobs):
    module = KMeans(6, 5, rule="decay")
    with pytest.raises(ValueError, match="decay needs a half_life in rows"):
        module.update(blobs)
    assert not module.is_seeded


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_compiles_without_a_break(blobs, metric, generator):
    module = KMeans(6, 5, metric=metric)
    x = blobs.float()
    module.update(x, generator=generator)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    found, want = compiled(x), module(x)
    assert torch.equal(found.labels, want.labels)
    torch.testing.assert_close(found.sq_distances, want.sq_distances, rtol=1e-4, atol=1e-4)


def test_exports_with_any_number_of_rows(blobs, fitted, tmp_path):
    x = blobs.float()
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(fitted, (x,), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "kmeans.pt2")
    loaded = torch.export.load(tmp_path / "kmeans.pt2").module()
    for n in (600, 17):
        assert torch.equal(loaded(x[:n]).labels, fitted(x[:n]).labels)


def test_repr_says_what_it_is(fitted):
    for part in ("k=6", "n_features=5", "MiniBatch(", "'k-means++'", "n_rows_seen=600"):
        assert part in repr(fitted)
    assert "init=(6, 5) array" in repr(KMeans(6, 5, init=torch.zeros(6, 5)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"n_features": 2.5}, TypeError, "n_features must be an integer, got 2.5"),
        ({"rule": "adam"}, ValueError, "rule must be one of"),
        ({"metric": "l1"}, ValueError, "metric must be one of"),
        ({"dtype": torch.float16}, ValueError, "dtype must be torch.float32 or torch.float64"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        KMeans(**{"k": 3, "n_features": 2, **arguments})


@pytest.mark.parametrize("assign", [False, True])
def test_a_refused_state_changes_neither_side(fitted, assign):
    """What is missing or does not fit is found by torch when it has copied the rest."""
    before = buffers(fitted)
    whole = {name: value + 1 for name, value in fitted.state_dict().items() if name != "seeded"}
    for other in (whole, {**whole, "seeded": before["seeded"], "counts": torch.zeros(3)}):
        given = {name: value.clone() for name, value in other.items()}
        with pytest.raises(RuntimeError, match=r"Missing key|size mismatch"):
            fitted.load_state_dict(other, assign=assign)
        assert equal(before, buffers(fitted))
        assert equal(given, other)
    given = {**buffers(fitted), "n_rows_seen": torch.tensor([7])}  # torch takes one for none
    fitted.load_state_dict(given)
    assert int(fitted.n_rows_seen) == 7


def test_a_refused_state_changes_nothing(fitted):
    before, other = buffers(fitted), KMeans(7, 5).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        fitted.load_state_dict(other)
    assert equal(before, buffers(fitted))
    fresh = KMeans(7, 5)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict(fitted.state_dict())
    assert not fresh.is_seeded


@pytest.mark.parametrize(
    ("stats_of", "n_rows", "error", "message"),
    [
        (KMeans(5, 5), 3, ValueError, r"stats must be of clusters \(6, 5\), got \(5, 5\)"),
        (KMeans(6, 5), 2.5, TypeError, "n_rows must be an integer, got 2.5"),
        (KMeans(6, 5), torch.tensor(2.5), TypeError, "n_rows must be one integer, got a tensor"),
        (KMeans(6, 5), torch.tensor([1, 2]), TypeError, "n_rows must be one integer"),
    ],
)
def test_refused_stats_change_nothing(fitted, blobs, stats_of, n_rows, error, message):
    before = buffers(fitted)
    stats_of.seed(blobs)
    _, stats = stats_of.accumulate(blobs)
    with pytest.raises(error, match=message):
        fitted.apply_stats(stats, n_rows)
    assert equal(before, buffers(fitted))
    with pytest.raises(ValueError, match="no centroids yet"):
        KMeans(6, 5).apply_stats(stats, 600)


@pytest.mark.parametrize("large", [6e18, 1e19])
def test_rows_that_no_door_would_take_as_centroids_are_refused(fitted, large):
    """The smaller can be squared, but not added up and doubled as the expanded form does."""
    before = buffers(fitted)
    rows = torch.zeros(10, 5)
    rows[7] = large
    for door in (fitted.update, fitted, fitted.accumulate, fitted.transform):
        with pytest.raises(ValueError, match="small enough to square in float32"):
            door(rows)
    assert equal(before, buffers(fitted))


def test_float64_rows_too_large_for_the_module_are_refused(fitted, blobs):
    before = buffers(fitted)
    with pytest.raises(ValueError, match="small enough to square in float32"):
        fitted.update(blobs * 1e100)
    assert equal(before, buffers(fitted))


def test_cosine_rows_whose_squares_vanish_do_no_harm(blobs, generator):
    module = KMeans(6, 5, metric="cosine")
    module.update(blobs.float(), generator=generator)
    module.update(blobs.float() * 1e-30)
    assert module.centroids.isfinite().all()


@pytest.mark.parametrize("init", ["kmeans", torch.zeros(7, 9)])
def test_an_init_that_cannot_be_is_refused_at_once(init):
    with pytest.raises(ValueError, match="init must"):
        KMeans(6, 5, init=init)


def test_lists_and_arrays_of_any_rank_are_rows(fitted, blobs):
    want = fitted.predict(blobs)
    assert torch.equal(fitted.predict(blobs.numpy().reshape(20, 30, 5)).flatten(), want)
    assert fitted.predict(blobs[:3].tolist()).tolist() == want[:3].tolist()
    assert fitted.transform(blobs[0].tolist()).shape == (6,)
    with pytest.raises(TypeError, match="x must be an array, got None"):
        fitted(None)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_centroids(blobs, metric, dtype):
    given = blobs[::100].to(dtype)
    counts = torch.arange(1, 7)
    module = KMeans.from_centroids(given, counts, rule="minibatch-sqrt", metric=metric)
    assert (module.k, module.n_features, module.metric) == (6, 5, metric)
    assert module.rule == RULES["minibatch-sqrt"]
    assert (module.centroids.dtype, module.counts.dtype) == (dtype, torch.float64)
    assert module.counts.tolist() == counts.tolist()
    want = unit(given) if metric == "cosine" else given
    assert torch.equal(module.centroids, want)
    assert torch.equal(module(blobs).labels, assign(blobs, given, metric=metric).labels)
    module.update(blobs)
    assert int(module.n_rows_seen) == 600
    assert torch.equal(given, blobs[::100].to(dtype))


def test_from_centroids_goes_on_from_the_counts(blobs):
    counts = 100 * torch.ones(6)
    module = KMeans.from_centroids(blobs[::100], counts)
    state = CentroidState(blobs[::100], counts.double())
    _, stats = torchkm.functional.assign_and_accumulate(blobs, blobs[::100])
    module.update(blobs)
    want = update(stats, state, RULES["minibatch"]).state
    assert torch.equal(module.centroids, want.centroids)
    assert torch.equal(module.counts, want.counts)


def test_from_centroids_takes_arrays_and_narrow_floats(blobs):
    assert KMeans.from_centroids(blobs.numpy()[::100]).centroids.dtype == torch.float64
    module = KMeans.from_centroids(blobs[::100].half())
    assert module.centroids.dtype == torch.float32
    assert module.counts.tolist() == [0] * 6
    assert module.is_seeded


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"centroids": torch.zeros(3)}, ValueError, "centroids must have shape"),
        ({"centroids": torch.zeros(3, 2).long()}, TypeError, "centroids must hold float32"),
        ({"centroids": torch.full((3, 2), torch.nan)}, ValueError, "centroids must be finite"),
        ({"counts": torch.ones(2)}, ValueError, r"counts must have shape \(3,\).*got \(2,\)"),
        ({"counts": [1.0, -1.0, 0.0]}, ValueError, "counts must be finite and not negative"),
        ({"counts": ["a", "b", "c"]}, TypeError, "counts must hold real numbers"),
        ({"metric": "cosine"}, ValueError, "3 of 3 rows of centroids are all zero"),
        ({"metric": "l1"}, ValueError, "metric must be one of"),
    ],
)
def test_from_centroids_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        KMeans.from_centroids(**{"centroids": torch.zeros(3, 2), **arguments})
