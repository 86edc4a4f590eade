"""The handwritten digits that ship with scikit-learn: real images with no network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from torchkm.lightning.arrays import ArrayDataModule

_TEST_SHARE = 0.2


class DigitsDataModule(ArrayDataModule):
    """1,797 handwritten digits of 8 x 8 pixels as rows of 64 in [0, 1] (UCI, in scikit-learn).

    A fifth of each class, always the same rows, is the test split.

    Args:
        batch_size: as in ``ArrayDataModule``.
        seed: as in ``ArrayDataModule``.
        dtype: of the rows handed out.

    Example:
        >>> from torchkm.lightning import DigitsDataModule
        >>> data = DigitsDataModule()
        >>> data.setup("fit")
        >>> data.n_rows("train"), data.n_rows("test"), data.n_features
        (1437, 360, 64)
    """

    name = "digits"

    def __init__(
        self,
        *,
        batch_size: int = 4096,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            batch_size=batch_size, seed=seed, dtype=dtype, divisor=16.0, image_shape=(8, 8)
        )

    def load(self) -> dict[str, tuple[Any, Any]]:
        """Split the digits, the same way every time."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, targets = load_digits(return_X_y=True)
        x_train, x_test, y_train, y_test = train_test_split(
            x.astype(np.float32), targets, test_size=_TEST_SHARE, stratify=targets, random_state=0
        )
        return {"train": (x_train, y_train), "test": (x_test, y_test)}
