"""The pictures: centroids as tiles of one image, and what several k are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from torchkm.functional.arrays import as_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_SHARE = 0.3  # of a tile's height, kept free above it for the title
_INCHES_PER_TILE = 0.62
_POINTS_PER_INCH = 72

_INCHES_PER_PANEL, _INCHES_HIGH = 3.3, 3.0
_LINE, _MARK, _FAINT, _TEXT = "#4c6a92", "#c8452f", "#b4bac4", "#333a45"

# From here on numbers are written with a prefix: 2.4M.
_LARGE = 10_000

# A logarithmic axis whose ends differ by less has even ticks; by more, powers of ten alone.
_FEW_NUMBERS, _DECADES = 5, 500


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


class Curve(NamedTuple):
    """One panel of ``selection_curves``.

    Attributes:
        title: what is drawn.
        values: one for each k; NaN where there is none.
        best: the k to mark, or None.
        log: whether its axis is logarithmic.
    """

    title: str
    values: Sequence[float]
    best: int | None = None
    log: bool = False


def selection_curves(
    ks: Sequence[int], curves: Sequence[Curve], k: int | None = None, heading: str = ""
) -> Figure:
    """Draw what several numbers of clusters are worth: a panel for each score, its best k marked.

    Args:
        ks: numbers of clusters, rising.
        curves: one for each panel.
        k: a number of clusters that a line points out in every panel.
        heading: a line above all.

    Returns:
        A Matplotlib ``Figure`` of its own; pyplot's state is not touched.

    Raises:
        ValueError: no curve, one with another number of values than ``ks``, a marked k that is
            not among them.

    Cost:
        A line and its points in each panel.

    Example:
        >>> figure = selection_curves([2, 3, 4], [Curve("Silhouette", [0.2, 0.7, 0.5], 3)], k=3)
        >>> [axes.get_title() for axes in figure.axes]
        ['Silhouette']
    """
    from matplotlib.figure import Figure

    _check_curves(list(ks), curves, k)
    figure = Figure(figsize=(_INCHES_PER_PANEL * len(curves), _INCHES_HIGH), layout="constrained")
    panels = figure.subplots(1, len(curves), sharex=True, squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        if k is not None:
            axes.axvline(k, color=_FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        _draw(axes, list(ks), curve)
    if heading:
        figure.suptitle(heading, fontsize=11, color=_TEXT)
    return figure


def _check_curves(ks: list[int], curves: Sequence[Curve], k: int | None) -> None:
    if not curves:
        raise ValueError("curves must hold at least one curve, got none")
    for curve in curves:
        if len(curve.values) != len(ks):
            raise ValueError(
                f"curves must have a value for each of {len(ks)} ks, got {len(curve.values)} of "
                f"{curve.title!r}"
            )
    for marked in (k, *(curve.best for curve in curves)):
        if marked is not None and marked not in ks:
            raise ValueError(f"k must be one of ks={ks}, got {marked}")


def _draw(axes: Axes, ks: list[int], curve: Curve) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

    drawn = {k: value for k, value in zip(ks, curve.values, strict=True) if math.isfinite(value)}
    values = [*drawn.values()]
    log = curve.log and min(values, default=0) > 0
    ratio = max(values) / min(values) if log else 1
    spread = LogLocator(subs=(1, 2, 5) if ratio < _DECADES else (1,))
    axes.plot([*drawn], values, color=_LINE, linewidth=1.6, marker="o", markersize=3.5, zorder=2)
    axes.set_yscale("log" if log else "linear")
    axes.margins(x=0.06, y=0.18)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(spread if ratio > _FEW_NUMBERS else MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    if max(map(abs, values), default=0) >= _LARGE:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    elif log:
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(curve.title, fontsize=10, color=_TEXT)
    axes.set_xlabel("number of clusters k", fontsize=9, color=_TEXT)
    axes.tick_params(labelsize=8, length=3, color=_FAINT, labelcolor=_TEXT)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    if curve.best in drawn:
        _mark(axes, curve.best, drawn)


def _mark(axes: Axes, k: int, drawn: dict[int, float]) -> None:
    """Mark a point, with its k on the side where the curve is not."""
    value = drawn[k]
    axes.plot(k, value, color=_MARK, marker="o", markersize=7, zorder=3)
    lowest, highest = value == min(drawn.values()), value == max(drawn.values())
    side = "left" if k == min(drawn) else "right" if k == max(drawn) else "center"
    axes.annotate(
        f"k = {k}",
        (k, value),
        (0, -17) if lowest else (0, 9) if highest else (9, 7),
        textcoords="offset points",
        ha=side if lowest or highest else "left",
        fontsize=9,
        color=_MARK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def _tiles(images: Tensor, rows: int, columns: int, gap: int) -> Tensor:
    """Lay ``images (k, h, w)`` out on one canvas, ``gap`` lines above each, one column beside."""
    k, height, width = images.shape
    blank = images.min()
    tiles = images.new_full((rows * columns, height + gap, width + 1), float(blank))
    tiles[:k, gap:, :width] = images
    grid = tiles.reshape(rows, columns, height + gap, width + 1)
    return grid.permute(0, 2, 1, 3).reshape(rows * (height + gap), columns * (width + 1))
