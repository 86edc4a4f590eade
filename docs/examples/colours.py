"""A picture in 64 colours: scikit-learn's colour-quantisation example, with one import changed.

    python docs/examples/colours.py

draws docs/gallery/colours.jpg and prints how far the colours are off. All 273,280 pixels are
fitted, where the original takes a sample of 1,000.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import shuffle

from torchkm.cluster import KMeans

N_COLOURS = 64
PICTURE = Path(__file__).parents[1] / "gallery" / "colours.jpg"


def main(path: Path = PICTURE) -> None:
    """Fit the colours, paint the picture with them, and compare."""
    china = np.asarray(load_sample_image("china.jpg"), dtype=np.float32) / 255
    height, width, depth = china.shape
    pixels = china.reshape(-1, depth)

    start = time.perf_counter()
    kmeans = KMeans(n_clusters=N_COLOURS, random_state=0).fit(pixels)
    labels = kmeans.predict(pixels)
    seconds = time.perf_counter() - start
    fitted = kmeans.cluster_centers_[labels].reshape(height, width, depth)

    palette = shuffle(pixels, random_state=0, n_samples=N_COLOURS)
    nearest = pairwise_distances_argmin(pixels, palette)
    drawn = palette[nearest].reshape(height, width, depth)

    titles = {
        f"{len(np.unique(pixels, axis=0)):,} colours": china,
        f"{N_COLOURS} colours, k-means: {_error(china, fitted):.1f} off": fitted,
        f"{N_COLOURS} of its pixels: {_error(china, drawn):.1f} off": drawn,
    }
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        axes.imshow(image.clip(0, 1))
        axes.set_axis_off()
        axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=110)
    print(f"{seconds:.2f} s for {len(pixels):,} pixels; {'; '.join(list(titles)[1:])} (of 255)")


def _error(one: np.ndarray, other: np.ndarray) -> float:
    """Return the root of the mean squared difference, in steps of 255."""
    return float(255 * np.sqrt(np.square(one - other).mean()))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
