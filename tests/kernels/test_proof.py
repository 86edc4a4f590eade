"""Labels proven without distances: what is not in doubt is right, and little is in doubt."""

import pytest
import torch
from proving import (
    leave_loops,
    mixture,
    multiply_in_bfloat16,
    multiply_in_eight_bits,
    nearest_in_float64,
    sure_and_right,
)

import torchkm
from torchkm.kernels import (
    bfloat16,
    int8,
    labels,
    looks,
    nearest,
    proof,
    rivals,
    scratch,
    subspace,
)


@pytest.fixture(autouse=True)
def nothing_in_eight_bits(monkeypatch):
    """Prove in eight bits only where a test asks for it."""
    monkeypatch.setattr(int8, "is_fast", lambda: False)
    monkeypatch.setattr(int8, "pays", lambda: False)


def look_along_directions(monkeypatch):
    """Prove along a few directions, whatever the rows and centroids."""
    leave_loops(monkeypatch)
    monkeypatch.setattr(subspace, "_WIDE", 1)
    monkeypatch.setattr(proof, "_WORTH_A_LOOK", 1)
    monkeypatch.setattr(looks, "_DIRECTIONS", 6)
    monkeypatch.setattr(proof, "_ENOUGH_ROWS", 1)


@pytest.fixture(
    params=[
        "eight bits",
        "eight bits, doubts left",
        "eight bits, in loops",
        "bfloat16",
        "bfloat16, doubts left",
        "own dtype",
        "own dtype, in loops",
        "directions",
        "directions, in loops",
    ]
)
def product(request, monkeypatch):
    """Prove in few digits, on any machine, in those of the rows, or along a few directions."""
    if request.param.startswith("eight bits"):
        multiply_in_eight_bits(monkeypatch)
    if request.param.endswith("in loops"):
        pytest.importorskip("numba")
        monkeypatch.setattr(proof, "_SEVERAL", 1)
        monkeypatch.setattr(proof, "_FEW", dict.fromkeys((True, False), 10**9))
        if request.param.startswith("directions"):
            from torchkm.kernels.compiled import look

            monkeypatch.setattr(proof, "_SAVED", -(10**9))
            monkeypatch.setattr(look, "_SHARE", 1)
    else:
        leave_loops(monkeypatch)
    if request.param.startswith("bfloat16"):
        multiply_in_bfloat16(monkeypatch)
    else:
        monkeypatch.setattr(bfloat16, "pays", lambda: False)
    monkeypatch.setattr(bfloat16, "_MANY", 1)
    monkeypatch.setattr(proof, "_ENOUGH_NUMBERS", 1)
    if request.param.endswith("doubts left"):
        monkeypatch.setattr(rivals, "_SINGLY", 2**30)
    if request.param.startswith("directions"):
        look_along_directions(monkeypatch)
        monkeypatch.setattr(subspace, "_BEYOND", 2)
        monkeypatch.setattr(rivals, "_SINGLY", 0)
    return request.param


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_scores_far_from_zero_lose_digits_of_float64_too(product, offset, generator):
    """Centroids of which squares differ by less than float64 has digits for."""
    centroids = torch.randn(30, 40, generator=generator, dtype=torch.float64) + offset
    first, second = torch.randint(30, (2, 2000), generator=generator)
    x = (centroids[first] + centroids[second]) / 2
    x = x + 1e-6 * torch.randn(2000, 40, generator=generator, dtype=torch.float64)
    assert sure_and_right(x, centroids) >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0])
def test_labels_that_are_not_in_doubt_are_right(product, dtype, offset, generator):
    x, centroids = mixture(5000, 50, 30, generator, spread=0.5)
    x, centroids = (x + offset).to(dtype), centroids + offset
    share = sure_and_right(x, centroids)
    if product.startswith("own dtype"):
        assert share > 0.98
    elif offset < 10:  # far off, little is proven by few digits
        assert share > 0.5


COMPARED = (
    "eight bits",
    "eight bits, in loops",
    "own dtype, in loops",
    "bfloat16",
    "directions",
    "directions, in loops",
)


@pytest.mark.parametrize("spread", [0.7, 1.0, 1.5])
def test_clusters_that_overlap_leave_doubts_and_no_errors(product, spread, generator):
    x, centroids = mixture(20000, 12, 40, generator, spread)
    share = sure_and_right(x, centroids)
    assert share > 0.2 if product.endswith("doubts left") else share > 0.999
    assert share < 1 or product in COMPARED  # these compare rivals


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_centroids(product, k, generator):
    x, centroids = mixture(500, 20, k, generator)
    assert sure_and_right(x, centroids) > 0.8


def test_to_compare_rivals_settles_most_doubts(monkeypatch, generator):
    multiply_in_bfloat16(monkeypatch)
    x, centroids = mixture(6000, 200, 150, generator, spread=4.0)
    x += 2
    after = 1 - sure_and_right(x, centroids + 2)
    monkeypatch.setattr(rivals, "_SINGLY", 2**30)
    before = 1 - sure_and_right(x, centroids + 2)
    assert before > 0.01
    assert after < 0.05 * before


def test_whole_numbers_of_one_byte(product, generator):
    x = torch.randint(256, (3000, 60), generator=generator).to(torch.uint8)
    assert sure_and_right(x, x[:20].float() + 0.25) > 0.3


def test_more_rows_than_a_block_holds(product, generator, monkeypatch):
    monkeypatch.setattr(looks, "_MOST_ROWS", 700)
    x, centroids = mixture(3000, 40, 9, generator, spread=0.3)
    assert sure_and_right(x, centroids) > 0.9


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, 1e-30, 1e-42])
def test_rows_beyond_the_numbers_are_in_doubt(product, bad, generator):
    x, centroids = mixture(100, 40, 5, generator)
    x[7] *= bad
    centroids = centroids * 1e-30 if 0 < abs(bad) < 1 else centroids
    assert 7 in proof.labels(x, centroids)[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_leaves_its_row_in_doubt(product, bad, generator):
    x, centroids = mixture(100, 40, 5, generator)
    centroids[:, 3] = 0
    x[7, 3] = bad
    assert 7 in proof.labels(x, centroids)[1]


@pytest.mark.parametrize("spread", [1e-3, 1.0, 5.0])
def test_leads_are_not_longer_than_they_are(product, spread, generator):
    """Scores are large beside the norms that their rounding is told by."""
    x = spread * torch.randn(1500, 40, generator=generator)
    centroids = 10 + torch.randn(60, 40, generator=generator)
    found = rivals.Found.room(len(x), x.dtype)
    assert next(proof._products(x, centroids)).score(x, found)
    true = x.double() @ centroids.double().T - centroids.double().square().sum(1) / 2
    own = true.gather(1, found.labels.unsqueeze(1)).squeeze(1)
    others = true.scatter(1, found.labels.unsqueeze(1), -torch.inf).amax(1)
    proven = found.leads > 0
    assert (found.leads.double() <= own - others)[proven].all()


def test_squares_that_vanish_prove_nothing(product):
    x = torch.tensor([[1.0, 1e-3], [1e-3, 1.0]]) * 1e-20
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # as far from the origin of both
    assert len(proof.labels(x, centroids)[1]) == 2


def test_equal_centroids_are_in_doubt_and_go_to_the_first(product, generator):
    x, centroids = mixture(4000, 130, 70, generator)
    twice = torch.cat([centroids, centroids])
    assert len(proof.labels(x, twice)[1]) == len(x)
    found, _ = labels(x, twice, False)
    assert torch.equal(found, nearest_in_float64(x, centroids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_rounding_alone_tells_apart_is_in_doubt(product, dtype, generator):
    """The same numbers in another order: their squares add up to a little more or less."""
    numbers = torch.randn(40, generator=generator, dtype=torch.float64).to(dtype)
    order = torch.stack([torch.randperm(40, generator=generator) for _ in range(30)])
    assert numbers[order].square().sum(1).unique().numel() > 1
    assert len(proof.labels(torch.zeros(100, 40, dtype=dtype), numbers[order])[1]) == 100


def test_whole_rows_are_multiplied_where_directions_tell_nothing(monkeypatch, generator):
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    look_along_directions(monkeypatch)
    monkeypatch.setattr(looks, "_MOST_ROWS", 500)
    x, centroids = mixture(3000, 100, 40, generator)
    assert sure_and_right(x, centroids) > 0.99  # no direction holds much of the centroids
    flat = torch.randn(3000, 5, generator=generator) @ torch.randn(5, 100, generator=generator)
    rows = flat + 5 * torch.randn(3000, 100, generator=generator)
    assert sure_and_right(rows, flat[:40]) > 0.8  # all but the first block, whose bounds cross
    assert sure_and_right(flat, flat[:40]) > 0.99


def test_rows_so_wide_that_few_are_multiplied_at_once(monkeypatch, generator):
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    look_along_directions(monkeypatch)
    monkeypatch.setattr(looks, "_NUMBERS", 100 * 64)
    x, centroids = mixture(3000, 100, 40, generator)  # no direction holds much of the centroids
    assert sure_and_right(x, centroids) > 0.99


def test_few_rows_are_not_worth_directions(monkeypatch, generator):
    leave_loops(monkeypatch)
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    chosen = []
    choose = looks.Subspace
    monkeypatch.setattr(looks, "Subspace", lambda *args: chosen.append(args) or choose(*args))
    x, centroids = mixture(4096, 600, 256, generator)
    proof.labels(x[:4095], centroids)
    assert not chosen
    proof.labels(x, centroids)
    assert len(chosen) == 1


def test_rows_are_looked_at_along_directions_where_that_saves_much(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(proof, "_in_eight_bits", lambda x, k: None)
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    x = torch.randn(4096, 784)
    for k, pays in [(87, True), (86, False)]:
        found = [type(product).__name__ for product in proof._products(x, x[:k])]
        assert (found[0] == "ProjectedLoops") == pays
        assert found[-1] == "Plain"
        assert proof.pays_before_distances(x, x[:k]) == pays
    assert not proof.pays_before_distances(torch.randn(2**16, 128), torch.randn(256, 128))


@pytest.mark.parametrize(("k", "in_loops"), [(48, True), (60, False), (257, False)])
@pytest.mark.parametrize("rounded", [True, False])
def test_scores_as_they_are_come_from_loops(k, in_loops, rounded, monkeypatch, generator):
    pytest.importorskip("numba")
    monkeypatch.setattr(int8, "is_fast", lambda: rounded)
    monkeypatch.setattr(proof, "_in_eight_bits", lambda x, k: None)  # not these rows
    x, centroids = mixture(2000, 512, k, generator, spread=0.5)
    last_resorts = {type(product).__name__ for product in proof._products(x, centroids)}
    assert ("FewLoops" in last_resorts) == (in_loops or (k <= 256 and not rounded))
    assert "Plain" in last_resorts


def test_norms_of_bfloat16_rows_are_added_up_in_more_digits():
    """The bound of what rounding takes is a norm of a rounded row."""
    for width in (100, 1000, 10_000):
        ones = torch.ones(3, width, dtype=torch.bfloat16)
        norms = torch.linalg.vector_norm(ones, dim=1).double()
        torch.testing.assert_close(norms, norms.new_full((3,), width**0.5), rtol=2**-8, atol=0)


def test_rows_seen_in_inference_mode_leave_room_for_others(product, generator):
    x, centroids = mixture(200, 150, 8, generator)
    scratch._KEPT.__dict__.clear()
    with torch.inference_mode():
        inside = labels(x, centroids, False)[0].clone()
    assert torch.equal(inside, labels(x, centroids, False)[0])


@pytest.fixture
def proven_first(monkeypatch):
    """Prove labels before distances, whatever the number of centroids; count the proofs."""
    multiply_in_bfloat16(monkeypatch)
    monkeypatch.setattr(bfloat16, "_MANY", 1)
    monkeypatch.setattr(proof, "pays_before_distances", lambda *args: True)
    asked, prove = [], proof.labels
    monkeypatch.setattr(proof, "labels", lambda *args: asked.append(args) or prove(*args))
    return asked


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_distances_behind_proven_labels(dtype, proven_first, generator):
    x, centroids = mixture(3000, 150, 60, generator)
    x = (x * 20 + 120).clamp(0, 255).to(dtype)
    centroids = (centroids * 20 + 120).to(torch.promote_types(dtype, torch.float32))
    found, sq_distances = nearest(x, centroids, False, centroids.mean(0))
    assert len(proven_first) == 1
    truth = torch.cdist(x.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(found, truth.argmin(1))
    assert sq_distances.dtype == centroids.dtype
    torch.testing.assert_close(sq_distances.double(), truth.amin(1).square(), rtol=1e-5, atol=0)


def test_distances_of_rows_in_doubt_are_not_proven_again(proven_first, generator):
    x, centroids = mixture(500, 150, 20, generator)
    found, sq_distances = nearest(x, torch.cat([centroids, centroids]), False, x.mean(0))
    assert len(proven_first) == 1
    assert torch.equal(found, nearest_in_float64(x, centroids))
    assert sq_distances.isfinite().all()


def test_a_row_that_is_not_finite_is_told_behind_proven_labels(proven_first, generator):
    x, centroids = mixture(500, 150, 20, generator)
    x[7, 3] = float("nan")
    with pytest.raises(ValueError, match="x must be finite"):
        torchkm.functional.assign(x, centroids)
    assert proven_first


@pytest.mark.parametrize(
    ("n", "d", "proven"), [(8192, 128, True), (8191, 128, False), (9000, 127, False)]
)
def test_few_or_narrow_rows_are_not_proven(n, d, proven, monkeypatch, generator):
    asked, prove = [], proof.labels
    monkeypatch.setattr(proof, "labels", lambda *args: asked.append(args) or prove(*args))
    x, centroids = mixture(n, d, 6, generator, spread=0.1)
    found, _ = labels(x, centroids, False)
    assert bool(asked) == proven
    assert torch.equal(found, nearest_in_float64(x, centroids))


@pytest.mark.parametrize("digits", [int8, bfloat16])
def test_few_or_narrow_rows_and_few_centroids_are_measured_at_once(digits, monkeypatch):
    leave_loops(monkeypatch)
    monkeypatch.setattr(bfloat16, "pays", lambda: False)
    monkeypatch.setattr(digits, "pays", lambda: True)
    x = torch.empty(4096, 784)
    assert proof.pays_before_distances(x, x[:168])
    assert not proof.pays_before_distances(x, x[:167])
    monkeypatch.setattr(int8, "_FEWEST", 84)
    assert proof.pays_before_distances(x.double(), x[:84].double())
    assert not proof.pays_before_distances(x[:4095], x[:168])
    assert not proof.pays_before_distances(x[:, :500].contiguous(), x[:1000, :500])
    monkeypatch.setattr(digits, "pays", lambda: False)
    assert not proof.pays_before_distances(x, x[:168])
