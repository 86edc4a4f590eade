"""The contingency table: counted by hand, added over parts, and what it refuses."""

import numpy as np
import pytest
import torch

from torchkm.metrics import contingency_table

LABELS = [0, 0, 1, 2, 2, 2]
TARGETS = [1, 1, 0, 3, 1, 3]
TABLE = [[0, 2, 0, 0], [1, 0, 0, 0], [0, 1, 0, 2]]


def test_by_hand():
    got = contingency_table(torch.tensor(LABELS), torch.tensor(TARGETS))
    assert got.dtype == torch.int64
    assert got.tolist() == TABLE


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (LABELS, TARGETS),
        (np.array(LABELS, dtype=np.int32), np.array(TARGETS, dtype=np.uint8)),
        (torch.tensor(LABELS, dtype=torch.uint8), torch.tensor(TARGETS, dtype=torch.int16)),
        (np.array(LABELS[::-1])[::-1], torch.tensor(TARGETS)),
    ],
    ids=["lists", "numpy", "small-integers", "negative-strides"],
)
def test_any_integers_count(labels, targets):
    assert contingency_table(labels, targets).tolist() == TABLE


def test_small_integers_do_not_overflow_in_the_index_of_a_cell():
    index = torch.full((3,), 200, dtype=torch.uint8)
    got = contingency_table(index, index)
    assert got.shape == (201, 201)
    assert got[200, 200] == 3
    assert got.sum() == 3


def test_given_sizes_add_empty_rows_and_columns():
    got = contingency_table(LABELS, TARGETS, k=np.int64(5), n_classes=6)
    assert got.shape == (5, 6)
    assert got[:3, :4].tolist() == TABLE
    assert got.sum() == 6


def test_one_row():
    assert contingency_table([2], [1]).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_weights_by_hand():
    got = contingency_table(LABELS, TARGETS, sample_weight=[0.5, 0.25, 3, 0, 1, 2])
    assert got.dtype == torch.float64
    assert got.tolist() == [[0, 0.75, 0, 0], [3, 0, 0, 0], [0, 1, 0, 2]]


def test_weights_are_added_in_float64():
    weight = torch.tensor([2.0**24] + [1.0] * 5, dtype=torch.float32)
    assert contingency_table([0] * 6, [0] * 6, sample_weight=weight).item() == 2**24 + 5


def test_a_weight_is_so_many_rows(generator):
    labels = torch.randint(4, (50,), generator=generator)
    targets = torch.randint(3, (50,), generator=generator)
    weight = torch.randint(3, (50,), generator=generator)
    want = contingency_table(
        labels.repeat_interleave(weight), targets.repeat_interleave(weight), 4, 3
    )
    got = contingency_table(labels, targets, 4, 3, weight)
    assert torch.equal(got, want.double())


@pytest.mark.parametrize("weighted", [False, True])
def test_tables_of_parts_add_up(weighted, generator):
    labels = torch.randint(7, (101,), generator=generator)
    targets = torch.randint(4, (101,), generator=generator)
    weight = torch.randint(1, 9, (101,), generator=generator) / 8 if weighted else None
    whole = contingency_table(labels, targets, 7, 4, weight)
    first, second = (
        contingency_table(labels[s], targets[s], 7, 4, None if weight is None else weight[s])
        for s in (slice(30), slice(30, None))
    )
    assert torch.equal(first + second, whole)


def test_counts_stay_exact_past_two_to_the_24():
    """A float32 count would stop at 2^24; doubling reaches it without as many rows."""
    table = contingency_table([0, 1], [0, 0])
    for _ in range(25):
        table = table + table
    table = table + contingency_table([0], [0], 2, 1)
    assert table.tolist() == [[2**25 + 1], [2**25]]


def test_swapped_arguments_transpose():
    assert torch.equal(contingency_table(TARGETS, LABELS), contingency_table(LABELS, TARGETS).T)


def test_the_callers_tensors_stay_as_they_were():
    given = torch.tensor(LABELS), torch.tensor(TARGETS), torch.arange(1.0, 7)
    kept = [t.clone() for t in given]
    contingency_table(given[0], given[1], 3, 4, given[2])
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint16", "uint32", "uint64"])
def test_integers_of_any_width(dtype):
    got = contingency_table(np.array(LABELS, dtype), np.array(TARGETS, dtype))
    assert torch.equal(got, contingency_table(LABELS, TARGETS))


@pytest.mark.parametrize("name", ["labels", "targets"])
@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (torch.zeros(2), TypeError, "must hold integers, got float32"),
        (torch.zeros(2, dtype=torch.bool), TypeError, "must hold integers, got bool"),
        (torch.zeros(2, dtype=torch.complex64), TypeError, "must hold integers, got complex64"),
        (["a", "b"], TypeError, "must hold real numbers, got an array of dtype <U1"),
        (torch.tensor([0, -3]), ValueError, "must not be negative, got -3"),
        (torch.zeros(2, 1, dtype=torch.int64), ValueError, r"must have shape \(n,\).*\(2, 1\)"),
        (torch.tensor(3), ValueError, r"must have shape \(n,\) with n above 0, got \(\)"),
        ([], ValueError, r"with n above 0, got \(0,\)"),
    ],
)
def test_bad_index(name, index, error, message):
    arguments = {"labels": [0, 1], "targets": [0, 1], name: index}
    with pytest.raises(error, match=f"{name}.*{message}"):
        contingency_table(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": [0]}, ValueError, "got 6 labels and 1 targets"),
        ({"k": 2}, ValueError, r"labels must lie in \[0, 2\) for k=2, got 2"),
        ({"n_classes": 3}, ValueError, r"targets must lie in \[0, 3\) for n_classes=3, got 3"),
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"n_classes": 0}, ValueError, "n_classes must be at least 1, got 0"),
        ({"k": 3.0}, TypeError, "k must be an integer, got 3.0"),
        ({"n_classes": True}, TypeError, "n_classes must be an integer, got True"),
        ({"sample_weight": [1.0] * 5}, ValueError, r"sample_weight must have shape \(6,\)"),
        ({"sample_weight": [-1.0] * 6}, ValueError, "sample_weight must be non-negative"),
        ({"sample_weight": [0.0] * 6}, ValueError, "sample_weight must have a positive weight"),
        ({"sample_weight": [float("nan")] * 6}, ValueError, "sample_weight must be finite"),
        ({"sample_weight": [1j] * 6}, TypeError, "sample_weight must hold real numbers"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        contingency_table(**{"labels": LABELS, "targets": TARGETS, **arguments})


def test_devices_must_agree(monkeypatch):
    # The meta device stands in for another one; it has no values to look at.
    monkeypatch.setattr("torchkm.metrics.contingency.as_index", lambda index, name: index)
    with pytest.raises(ValueError, match=r"targets.*device.*expected cpu, got meta"):
        contingency_table(torch.tensor(LABELS), torch.tensor(TARGETS, device="meta"))
