"""MNIST from raw files: small ones written here, and the real ones where they are."""

import os
import struct

import numpy as np
import pytest
import torch
from torchvision import datasets

from torchkm.lightning import DatasetUnavailable, MNISTDataModule
from torchkm.lightning.mnist import DATASETS, DatasetDamaged


def write_raw(folder, n_train=30, n_test=12):
    """Write the four files of the format, with row i full of pixels i."""
    folder.mkdir(parents=True)
    for name, n in (("train", n_train), ("t10k", n_test)):
        pixels = torch.arange(n, dtype=torch.uint8).repeat_interleave(784)
        images = struct.pack(">4i", 2051, n, 28, 28) + pixels.numpy().tobytes()
        labels = struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(labels)


def no_download(*args, **kwargs):
    raise RuntimeError("Error downloading train-images:\nTried a mirror")


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_each_family_is_read_by_name(tmp_path, name):
    data = MNISTDataModule(name, tmp_path)
    write_raw(data.folder)
    data.prepare_data()
    data.setup()
    assert data.split("train").x.dtype == torch.uint8
    assert (data.n_rows("train"), data.n_rows("test"), data.n_features) == (30, 12, 784)
    rows = torch.cat([x for x, _ in data.predict_dataloader()])
    torch.testing.assert_close(rows[:, 0], torch.arange(30) / 255)


def test_fitting_the_test_rows(tmp_path):
    data = MNISTDataModule(root=tmp_path, fit_on="test")
    write_raw(data.folder)
    data.setup()
    assert data.n_rows("train") == data.n_rows("test") == 12


def test_missing_files_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "download", no_download)
    data = MNISTDataModule(root=tmp_path)
    with pytest.raises(DatasetUnavailable, match="could not be downloaded") as caught:
        data.prepare_data()
    assert str(data.folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetUnavailable, match="mnist is not in"):
        MNISTDataModule(root=tmp_path, download=False).prepare_data()


@pytest.mark.parametrize("keep", [0, 10, 16, 5000])
def test_a_truncated_file_is_named_as_damaged(tmp_path, monkeypatch, keep):
    monkeypatch.setattr(datasets.MNIST, "download", no_download)
    data = MNISTDataModule(root=tmp_path)
    write_raw(data.folder)
    images = data.folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:keep])
    with pytest.raises(DatasetDamaged, match="incomplete or damaged") as caught:
        data.prepare_data()
    assert str(data.folder) in str(caught.value)


def test_one_missing_file_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "download", no_download)
    data = MNISTDataModule(root=tmp_path)
    write_raw(data.folder)
    (data.folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetUnavailable, match="could not be downloaded"):
        data.prepare_data()


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="name must be one of 'fashion_mnist', 'kmnist', 'mnist'"):
        MNISTDataModule("cifar10")
    with pytest.raises(ValueError, match="fit_on must be one of 'test', 'train'; got 'both'"):
        MNISTDataModule(fit_on="both")


@pytest.mark.mnist
def test_real_mnist_is_what_torchvision_hands_out():
    root = os.environ["TORCHKM_DATA"]
    data = MNISTDataModule(root=root, download=False)
    data.setup()
    assert (data.n_rows("train"), data.n_rows("test")) == (60_000, 10_000)
    reference = datasets.MNIST(root, train=True)
    rows, targets = data.split("train").take(torch.tensor([0, 59_999]))
    for i, row, target in zip((0, 59_999), rows, targets, strict=True):
        image = torch.from_numpy(np.array(reference[i][0])).flatten() / 255
        assert torch.equal(row, image)
        assert target == reference[i][1]
