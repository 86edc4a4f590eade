"""Images on the device, and random affine views of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from deep.seedwise import pixels

# Numbers of an idx file before its data: a magic one, and the sizes.
_HEADERS = {"images-idx3": 16, "labels-idx1": 8}

# What a view draws for each image: a turn, a shear, two scales and two shifts.
N_DRAWS = 6


class Images(NamedTuple):
    """All images of a data set, of both its parts.

    Attributes:
        name: of the data set.
        rows: ``(n, side * side)`` uint8.
        classes: ``(n,)`` int64, for scores alone.
        side: of an image, in pixels.
    """

    name: str
    rows: Tensor
    classes: Tensor
    side: int


def load(name: str, root: str, n: int | None, device: torch.device) -> Images:
    """Return ``n`` images of a data set, all of them if None, on the device.

    Args:
        name: ``"mnist"``, or ``"digits"``: scikit-learn's 1,797 images of 8 by 8.
        root: folder that holds ``MNIST/raw``, plain or as ``.gz``.
        n: images, drawn once and for all; None takes all.
        device: to put them on.

    Raises:
        FileNotFoundError: the files are not there.
    """
    rows, classes = _digits() if name == "digits" else _mnist(Path(root) / "MNIST" / "raw")
    if n is not None and n < len(rows):
        some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:n]
        rows, classes = rows[some], classes[some]
    side = round(rows.shape[1] ** 0.5)
    return Images(name, rows.contiguous().to(device), classes.long(), side)


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = torch.from_numpy(found.data * (255 / 16)).round().to(torch.uint8)
    return rows, torch.from_numpy(found.target)


def _mnist(folder: Path) -> tuple[Tensor, Tensor]:
    images = [_idx(folder, f"{part}-images-idx3") for part in ("train", "t10k")]
    labels = [_idx(folder, f"{part}-labels-idx1") for part in ("train", "t10k")]
    return torch.cat(images).view(-1, 28 * 28), torch.cat(labels)


def _idx(folder: Path, name: str) -> Tensor:
    plain, packed = folder / f"{name}-ubyte", folder / f"{name}-ubyte.gz"
    if not plain.is_file() and not packed.is_file():
        raise FileNotFoundError(f"MNIST is not in {folder}: neither {plain.name} nor {packed.name}")
    data = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    header = next(size for kind, size in _HEADERS.items() if name.endswith(kind))
    return torch.from_numpy(np.frombuffer(data, np.uint8)[header:].copy())


class Views:
    """Random affine views: turned, sheared, scaled and shifted by up to as much as is said.

    Args:
        images: to look at.
        turn: in radians.
        shear: in shares of the height.
        scale: as the logarithm of the factor, of width and of height.
        shift: in shares of the side.
    """

    def __init__(
        self, images: Images, *, turn: float, shear: float, scale: float, shift: float
    ) -> None:
        self.images = images
        device, side = images.rows.device, images.side
        ends = (torch.arange(side, device=device) * 2 + 1) / side - 1
        down, across = torch.meshgrid(ends, ends, indexing="ij")
        self._points = torch.stack([across, down], dim=-1).view(-1, 2)  # (p, 2)
        self._most = torch.tensor([turn, shear, scale, scale, 2 * shift, 2 * shift], device=device)

    def of(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Return views ``(s, b, p)`` of the images at ``rows (s, b)``, by ``draws (s, b, 6)``."""
        side = self.images.side
        turn, shear, wide, high, *shift = (draws * self._most).flatten(0, 1).unbind(-1)
        cos, sin = turn.cos(), turn.sin()
        wide, high = wide.exp(), high.exp()
        first = torch.stack([wide * cos, wide * (shear * cos - sin)], dim=-1)
        second = torch.stack([high * sin, high * (shear * sin + cos)], dim=-1)
        matrix = torch.stack([first, second], dim=-1)  # (s * b, 2, 2), from the right
        grid = self._points @ matrix + torch.stack(shift, dim=-1).unsqueeze(1)
        whole = pixels(self.images.rows[rows]).view(-1, 1, side, side)
        seen = grid_sample(whole, grid.view(-1, side, side, 2), align_corners=False)
        return seen.view(*rows.shape, -1)
