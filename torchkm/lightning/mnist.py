"""MNIST and its drop-in relatives, decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from torchkm.functional.checks import check_known
from torchkm.lightning.arrays import ArrayDataModule

DATASETS = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
}

# Images and labels, to train and to test.
_N_FILES = 4

# What torchvision raises for files that are missing, cut short or altered, and for no network.
_LOAD_ERRORS = (RuntimeError, OSError, ValueError, AssertionError, EOFError)


class DatasetUnavailable(RuntimeError):
    """The data set is neither on disk in full nor to be downloaded."""


class DatasetDamaged(DatasetUnavailable):
    """The files are there, and cut short or altered."""


class MNISTDataModule(ArrayDataModule):
    """The images of torchvision's MNIST, Fashion-MNIST or KMNIST as rows of 784 in [0, 1].

    The files are decoded once into one uint8 tensor on the Trainer's device; each batch is a
    slice of it, converted and divided by 255 as ``torchvision.transforms.ToTensor`` does.

    Args:
        name: ``"mnist"``, ``"fashion_mnist"`` or ``"kmnist"``.
        root: folder in torchvision's layout, which holds ``MNIST/raw``.
        download: fetch the files where they are missing.
        fit_on: ``"train"`` (60,000 rows), or ``"test"``: fit on the 10,000 test rows instead,
            as a well-known notebook does. Both splits are then those rows.
        batch_size: as in ``ArrayDataModule``.
        seed: as in ``ArrayDataModule``.
        dtype: of the rows handed out.

    Raises:
        DatasetUnavailable: in ``prepare_data`` or ``setup``: the files are missing and there is
            no way to fetch them; ``DatasetDamaged`` where they are cut short. The message names
            the folder.
        ValueError: an unknown name or split.

    Example:
        >>> from torchkm.lightning import MNISTDataModule
        >>> MNISTDataModule("fashion_mnist", root="data").folder.as_posix()
        'data/FashionMNIST/raw'
    """

    def __init__(
        self,
        name: str = "mnist",
        root: str | Path = "data",
        *,
        download: bool = True,
        fit_on: str = "train",
        batch_size: int = 4096,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            batch_size=batch_size, seed=seed, dtype=dtype, divisor=255.0, image_shape=(28, 28)
        )
        self.name = check_known("name", name, DATASETS)
        self.fit_on = check_known("fit_on", fit_on, ("train", "test"))
        self.root = Path(root)
        self.download = download

    @property
    def folder(self) -> Path:
        """Where the raw files lie."""
        return self.root / DATASETS[self.name].__name__ / "raw"

    def prepare_data(self) -> None:
        """Fetch the files where they are missing; one process does it for all."""
        try:
            self._open(train=True)
        except DatasetDamaged:
            raise
        except DatasetUnavailable:
            if not self.download:
                raise
            self._fetch()

    def load(self) -> dict[str, tuple[Any, Any]]:
        """Decode both splits to uint8 rows ``(n, 784)``."""
        test = self._decoded(train=False)
        return {"train": test if self.fit_on == "test" else self._decoded(train=True), "test": test}

    def _decoded(self, *, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        images = self._open(train=train)
        return images.data.flatten(1), images.targets  # (n, 28, 28) -> (n, 784)

    def _open(self, *, train: bool) -> Any:
        try:
            return DATASETS[self.name](self.root, train=train, download=False)
        except _LOAD_ERRORS as error:
            if len(list(self.folder.glob("*-ubyte"))) == _N_FILES:
                raise DatasetDamaged(
                    f"the files of {self.name} in {self.folder} are incomplete or damaged "
                    f"({error}); delete that folder to have them downloaded again"
                ) from error
            raise DatasetUnavailable(f"{self.name} is not in {self.folder}") from error

    def _fetch(self) -> None:
        try:
            DATASETS[self.name](self.root, download=True)
        except _LOAD_ERRORS as error:
            _remove_empty(self.folder, self.folder.parent, self.root)
            raise DatasetUnavailable(
                f"{self.name} is not in {self.folder} and could not be downloaded "
                f"({str(error).splitlines()[0].rstrip(':')})"
            ) from error


def _remove_empty(*folders: Path) -> None:
    """Remove the folders that a download left behind without a file, inner ones first."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
