"""The pictures: every tile of the grid in its place, every curve with its best k marked."""

import math

import numpy as np
import pytest
import torch

from torchkm.plotting import Curve, centroid_grid, selection_curves


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


def curve(values, best=None, **settings):
    return Curve("score", values, best, **settings)


def test_a_panel_for_each_curve_with_its_best_marked():
    curves = [curve([9.0, 4.0, 3.0], 3, log=True), curve([float("nan"), 0.5, 0.6], 4)]
    figure = selection_curves([2, 3, 4], curves, k=4, heading="Recommended")
    inertia, silhouette = figure.axes
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [
        ["k = 3"],
        ["k = 4"],
    ]
    for axes, ks, marked in ((inertia, [2, 3, 4], (3, 4.0)), (silhouette, [3, 4], (4, 0.6))):
        pointed_out, line, mark = axes.lines
        assert list(pointed_out.get_xdata()) == [4, 4]
        assert list(line.get_xdata()) == ks
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == marked
    assert figure.get_suptitle() == "Recommended"


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    nothing = curve([float("nan")] * 3)
    infinite = curve([5.0, 1.0, -math.inf], 4)
    zero = curve([5.0, 1.0, 0.0], 3, log=True)
    figure = selection_curves([2, 3, 4], [nothing, infinite, zero])
    figure.savefig(tmp_path / "curves.png")
    assert [len(axes.texts) for axes in figure.axes] == [0, 0, 1]
    assert figure.axes[2].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("values", "written"),
    [([2e6, 1.5e6], "M"), ([9e8, 1e3], "M"), ([2.0, 1.0], "1.2")],
)
def test_numbers_on_a_logarithmic_axis_are_short(values, written):
    figure = selection_curves([2, 3], [curve(values, log=True)])
    figure.canvas.draw()
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert any(written in label for label in labels)
    assert max(map(len, labels)) <= 6


def test_curves_that_do_not_fit():
    with pytest.raises(ValueError, match="curves must hold at least one curve"):
        selection_curves([2, 3], [])
    with pytest.raises(ValueError, match="a value for each of 2 ks, got 1 of 'score'"):
        selection_curves([2, 3], [curve([1.0])])
    with pytest.raises(ValueError, match=r"k must be one of ks=\[2, 3\], got 4"):
        selection_curves([2, 3], [curve([1.0, 2.0], 4)])
    with pytest.raises(ValueError, match=r"k must be one of ks=\[2, 3\], got 5"):
        selection_curves([2, 3], [curve([1.0, 2.0])], k=5)
