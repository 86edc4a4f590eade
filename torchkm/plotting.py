"""The pictures: centroids as tiles of one image, each with a title."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from torchkm.functional.arrays import as_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE_SHARE = 0.3  # of a tile's height, kept free above it for the title
_INCHES_PER_TILE = 0.62
_POINTS_PER_INCH = 72


def centroid_grid(
    centroids: Tensor,
    image_shape: tuple[int, int],
    titles: Sequence[str] | None = None,
    heading: str = "",
) -> Figure:
    """Draw centroids as pictures in a grid as square as can be.

    Args:
        centroids: ``(k, d)``.
        image_shape: ``(height, width)`` of one, with ``height * width == d``.
        titles: one for each centroid, set above its tile.
        heading: a line above the grid.

    Returns:
        A Matplotlib ``Figure`` of its own; pyplot's state is not touched.

    Raises:
        ValueError: an image shape or a number of titles that does not fit the centroids.

    Cost:
        One image of ``k`` tiles, and a text for each title.

    Example:
        >>> import torch
        >>> figure = centroid_grid(torch.rand(4, 6), (2, 3), titles=["a", "b", "c", "d"])
        >>> len(figure.axes)
        1
    """
    from matplotlib.figure import Figure

    centroids = as_rows(centroids, "centroids").float().cpu()
    k, d = centroids.shape
    height, width = image_shape
    if height * width != d:
        raise ValueError(f"image_shape must multiply to d={d}, got {height} x {width}")
    if titles is not None and len(titles) != k:
        raise ValueError(f"titles must name all k={k} centroids, got {len(titles)}")

    columns = math.ceil(math.sqrt(k))
    rows = math.ceil(k / columns)
    gap = math.ceil(_TITLE_SHARE * height) if titles is not None else 1
    canvas = _tiles(centroids.reshape(k, height, width), rows, columns, gap)

    inches_wide = max(columns * _INCHES_PER_TILE, 3.0)
    scale = inches_wide / canvas.shape[1]
    figure = Figure(figsize=(inches_wide, canvas.shape[0] * scale + 0.35), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(canvas.numpy(), cmap="gray_r", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(heading, fontsize=9)
    points = 0.75 * gap * scale * _POINTS_PER_INCH
    for j, title in enumerate(titles or ()):
        left, top = (j % columns) * (width + 1), (j // columns) * (height + gap)
        axes.text(left + width / 2, top + gap / 2, title, fontsize=points, ha="center", va="center")
    return figure


def _tiles(images: Tensor, rows: int, columns: int, gap: int) -> Tensor:
    """Lay ``images (k, h, w)`` out on one canvas, ``gap`` lines above each, one column beside."""
    k, height, width = images.shape
    blank = images.min()
    tiles = images.new_full((rows * columns, height + gap, width + 1), float(blank))
    tiles[:k, gap:, :width] = images
    grid = tiles.reshape(rows, columns, height + gap, width + 1)
    return grid.permute(0, 2, 1, 3).reshape(rows * (height + gap), columns * (width + 1))
