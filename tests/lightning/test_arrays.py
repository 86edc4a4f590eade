"""The data module for rows that are already there."""

import numpy as np
import pytest
import torch

from torchkm.lightning import ArrayDataModule, DigitsDataModule


def test_arrays_tensors_and_files_are_the_same_rows(tmp_path):
    x = np.random.default_rng(0).random((50, 3), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    for rows in (x, torch.from_numpy(x), tmp_path / "x.npy", str(tmp_path / "x.npy")):
        data = ArrayDataModule(rows, batch_size=20, seed=3)
        data.setup()
        got = torch.cat(list(data.predict_dataloader()))
        assert torch.equal(got, torch.from_numpy(x))
        assert (data.n_features, data.n_classes, data.n_rows("train")) == (3, None, 50)
        assert data.n_rows("test") == 0


def test_targets_come_with_their_rows():
    x = torch.arange(10.0).unsqueeze(1)
    data = ArrayDataModule(x, torch.arange(10), test=x[:4], test_targets=np.arange(4), batch_size=3)
    data.setup()
    for rows, targets in data.train_dataloader():
        assert rows.squeeze(1).tolist() == targets.tolist()
    assert data.n_classes == 10
    assert torch.cat([t for _, t in data.test_dataloader()]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, None])
def test_dtype_of_the_rows_handed_out(dtype):
    data = ArrayDataModule(torch.ones(4, 2, dtype=torch.uint8), dtype=dtype, divisor=4)
    data.setup()
    (rows,) = data.train_dataloader()
    assert rows.dtype == (dtype or torch.float32)
    assert rows.unique().tolist() == [0.25]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train": torch.zeros(3)}, ValueError, r"train must have shape \(n, d\), got \(3,\)"),
        ({"train": torch.full((2, 2), torch.nan)}, ValueError, "train must be finite"),
        ({"train": torch.zeros(3, 2), "targets": [0, 1]}, ValueError, "targets must have shape"),
        (
            {"train": torch.zeros(3, 2), "test": torch.zeros(3, 4)},
            ValueError,
            "test must be as wide as train: expected 2 columns, got 4",
        ),
        ({"test": torch.zeros(3, 2)}, ValueError, "train must be given"),
        ({"train": "rows.csv"}, ValueError, "a file of rows must be .npy, got rows.csv"),
        ({"train": "absent.npy"}, FileNotFoundError, "absent.npy"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        ArrayDataModule(**arguments).setup()


def test_asking_for_rows_that_are_not_there():
    data = ArrayDataModule(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"no 'train' rows .* call setup\(\) first"):
        data.train_dataloader()
    data.setup()
    with pytest.raises(ValueError, match="no 'test' rows in this data module; it has 'train'"):
        data.test_dataloader()
    with pytest.raises(ValueError, match="dtype must be one of"):
        ArrayDataModule(torch.zeros(3, 2), dtype=torch.int64)


def test_digits_are_split_the_same_way_every_time():
    one, two = DigitsDataModule(), DigitsDataModule(seed=5)
    one.setup()
    two.setup()
    assert torch.equal(one.split("test").x, two.split("test").x)
    assert one.n_classes == 10
    rows = torch.cat([x for x, _ in one.train_dataloader()])
    assert (rows.min(), rows.max()) == (0, 1)
