"""The grid of centroids: every tile in its place, every title with its tile."""

import numpy as np
import pytest
import torch

from torchkm.plotting import centroid_grid


def canvas(figure):
    (axes,) = figure.axes
    return axes.images[0].get_array(), [text.get_text() for text in axes.texts]


def test_tiles_stand_row_by_row():
    centroids = torch.arange(5.0).unsqueeze(1).expand(5, 6) + 1  # tile j is full of j + 1
    picture, titles = canvas(centroid_grid(centroids, (2, 3)))
    assert titles == []
    tiles = np.asarray(picture).reshape(2, 3, 3, 4)[:, 1:, :, :3]  # (row, line, column, pixel)
    assert [tiles[i, :, j].tolist() for i, j in ((0, 0), (0, 2), (1, 1))] == [
        [[v] * 3] * 2 for v in (1.0, 3.0, 5.0)
    ]


def test_titles_and_heading():
    figure = centroid_grid(torch.rand(3, 4), (2, 2), ["7", "1", "9"], "after 3 passes")
    assert canvas(figure)[1] == ["7", "1", "9"]
    assert figure.axes[0].get_title() == "after 3 passes"


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="image_shape must multiply to d=4, got 2 x 3"):
        centroid_grid(torch.rand(3, 4), (2, 3))
    with pytest.raises(ValueError, match="titles must name all k=3 centroids, got 1"):
        centroid_grid(torch.rand(3, 4), (2, 2), ["7"])
