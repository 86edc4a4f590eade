import pytest
import torch

pytest.importorskip("triton")

from torchkm.kernels.gpu import formats, tuning


@pytest.mark.parametrize("d", [1, 16, 17, 100, 128, 200, 256, 257, 784, 3000])
@pytest.mark.parametrize("k", [1, 10, 33, 256, 1000, 5000])
@pytest.mark.parametrize("precision", ["auto", "tf32", "float32"])
def test_tiles_are_what_products_can_take(d, k, precision):
    form, width = formats.format_of(torch.float32, precision), tuning.width_of(d)
    tile = tuning.scoring_tile(k, width, form)
    again = tuning.again_tile(tile, width)
    assert width >= d
    for each in (tile, again):
        assert each.centroids == tuning.power_of_two(each.centroids) >= 16
        assert each.columns == tuning.power_of_two(each.columns) >= 16
        assert width % each.columns == 0
    assert tile.centroids % again.centroids == 0


@pytest.mark.parametrize(
    ("rows", "precision", "dtype", "kept"),
    [
        (torch.float32, "auto", torch.float16, True),
        (torch.float32, "bfloat16", torch.bfloat16, True),
        (torch.bfloat16, "auto", torch.bfloat16, False),
        (torch.float16, "auto", torch.float16, False),
        (torch.uint8, "auto", torch.float16, False),
        (torch.uint8, "tf32", torch.float32, False),
        (torch.float16, "bfloat16", torch.bfloat16, True),
    ],
)
def test_rows_that_are_exact_are_not_copied(rows, precision, dtype, kept):
    form = formats.format_of(rows, precision)
    assert (form.dtype, form.kept) == (dtype, kept)


def test_what_is_called_float32_loses_least():
    split, tf32 = (formats.format_of(torch.float32, name) for name in ("float32", "tf32"))
    assert (split.name, split.dot, split.is_float32) == ("float32", "tf32x3", True)
    assert (tf32.name, tf32.is_float32) == ("tf32", False)
    assert 0 < split.lost < tf32.lost == 2**-10


@pytest.mark.parametrize("limit", [99 * 1024, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("d", [16, 128, 256, 784])
@pytest.mark.parametrize("precision", ["auto", "tf32", "float32"])
def test_tiles_shrink_to_the_shared_memory_there_is(limit, d, precision):
    form, width = formats.format_of(torch.float32, precision), tuning.width_of(d)
    tile = tuning.scoring_tile(1024, width, form)
    fitted = tuning.fitting(tile, width, form, limit)
    assert (fitted.centroids, fitted.columns) == (tile.centroids, tile.columns)
    assert fitted.rows >= 32
    columns = width if tuning.is_resident(width, form) else fitted.columns
    stages = fitted.stages
    operands = fitted.rows * (1 if columns == width else stages) + stages * fitted.centroids
    assert operands * columns * form.dtype.itemsize <= limit
    assert fitted == tile or limit < 227 * 1024
