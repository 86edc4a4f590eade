"""Shapes of tiles: how many rows and centroids a program works on at once.

Measured on an H200 (docs/results/gpu-notes.md). Other GPUs get the same ones, or smaller ones where
these need more shared memory than there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from torchkm.kernels.gpu.formats import Format

# Rows up to this width stay in registers and shared memory while all centroids pass by.
_RESIDENT = 256

# Columns that a product takes at once where rows are wider.
_STEP = 64

# Shared memory of a program on an H100 or H200.
_MOST_SHARED = 232448

# Programs for each multiprocessor where they share a list of rows.
_PROGRAMS = 16


@dataclass(frozen=True)
class Tile:
    """What a program of a scoring kernel works on.

    Attributes:
        rows: at once.
        centroids: at once; a power of two.
        columns: of a product's step.
        warps: to a program.
        stages: loads under way.
    """

    rows: int
    centroids: int
    columns: int
    warps: int
    stages: int


def width_of(d: int) -> int:
    """Return how many columns operands of ``d`` numbers are padded to."""
    return max(16, power_of_two(d)) if d <= _RESIDENT else -(-d // _STEP) * _STEP


def is_resident(width: int, form: Format) -> bool:
    """Return whether rows of ``width`` columns stay while the centroids pass by.

    Rows that a product splits take too many registers.
    """
    narrow = width * form.dtype.itemsize <= 2 * _RESIDENT and width == power_of_two(width)
    return narrow and not form.is_float32


def scoring_tile(k: int, width: int, form: Format) -> Tile:
    """Return the tile for the product with ``k`` centroids."""
    centroids, step = max(16, power_of_two(k)), _STEP * 2 // form.dtype.itemsize
    warps = 8 if centroids > 64 else 4
    if is_resident(width, form):
        rows = 256 if width <= 128 and form.dtype.itemsize == 2 and centroids > 32 else 128
        return Tile(rows, min(centroids, 64), min(width, step), 4, 3)
    if form.dot == "tf32x3":
        return Tile(128, min(centroids, 128), min(width, step), warps, 3)
    return Tile(128, min(centroids, 256), step, warps, 4 if centroids <= 32 else 3)


def fitting(tile: Tile, width: int, form: Format, limit: int) -> Tile:
    """Return a tile whose operands fit into ``limit`` bytes of shared memory.

    By fewer loads under way first, then by fewer rows.
    """
    resident = is_resident(width, form)
    while _shared_bytes(tile, width, form, resident) > limit:
        if tile.stages > 2:
            tile = replace(tile, stages=tile.stages - 1)
        elif tile.rows > 16:
            tile = replace(tile, rows=tile.rows // 2)
        else:
            break
    return tile


def _shared_bytes(tile: Tile, width: int, form: Format, resident: bool) -> int:
    columns = (width if resident else tile.columns) * form.dtype.itemsize
    n_rows = tile.rows if resident else tile.stages * tile.rows
    n_split = tile.rows + tile.centroids if form.is_float32 else 0
    return (n_rows + tile.stages * tile.centroids + n_split) * columns


def shared_memory(device: torch.device) -> int:
    """Return how many bytes of shared memory a program may have."""
    if device.type != "cuda":
        return _MOST_SHARED
    properties: Any = torch.cuda.get_device_properties(device)  # its stubs lack what it has
    return int(properties.shared_memory_per_block_optin)


def again_tile(tile: Tile, width: int) -> Tile:
    """Return the tile for the doubtful rows, which are few and scored in float32."""
    centroids = min(tile.centroids, 64)
    return (
        Tile(64, centroids, min(width, 32), 4, 3)
        if width <= _RESIDENT
        else Tile(32, centroids, _STEP, 4, 3)
    )


def features_to_add(tile: Tile) -> int:
    """Return how many numbers of its rows a program adds up at once that scores them."""
    return 16 if tile.rows > 128 else 32


def n_programs(device: torch.device) -> int:
    """Return how many programs to start that share a list of rows."""
    if device.type != "cuda":
        return 3
    return _PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()


def features(d: int) -> int:
    """Return how many of ``d`` numbers a program takes at once."""
    return min(1024, max(16, power_of_two(d)))
