"""What layers that cluster the rows of a batch refuse, where they find their own seeds."""

import numpy as np
import pytest
import torch

from torchkm.nn import HardKMeans, SoftKMeans

ROWS = torch.ones(9, 2)


@pytest.mark.parametrize("kind", [SoftKMeans, HardKMeans])
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda of: of(2)(np.ones((9, 2))), TypeError, "x must be a tensor .* got ndarray"),
        (lambda of: of(2)([[1.0], [2.0]]), TypeError, "x must be a tensor .* got list"),
        (lambda of: of(2)(ROWS[:0]), ValueError, "x must have shape"),
        (lambda of: of(2)(ROWS.to_sparse_coo()), TypeError, "x must be a dense tensor"),
        (
            lambda of: of(2)(ROWS, sample_weight=torch.ones(8)),
            ValueError,
            r"sample_weight must have one number for each row: expected \(9,\), got \(8,\)",
        ),
        (
            lambda of: of(2)(ROWS, sample_weight=[1.0] * 9),
            TypeError,
            "sample_weight must be a tensor of float numbers, got list",
        ),
        (
            lambda of: of(2, 5)(ROWS),
            ValueError,
            r"x must have n_features=5 columns, got shape \(9, 2\)",
        ),
    ],
)
def test_rows_and_weights_that_cannot_be_seeded_are_named(call, error, match, kind):
    with pytest.raises(error, match=match):
        call(kind)
