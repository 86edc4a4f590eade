"""Rows that are looked at once: labels, distances and sums, with nothing kept of them."""

from __future__ import annotations

import torch
from torch import Tensor

from torchkm.kernels.gpu import launch
from torchkm.kernels.gpu.formats import format_at_once
from torchkm.kernels.gpu.state import Block, State
from torchkm.kernels.layout import unit


@launch.on_its_device
def nearest(x: Tensor, centroids: Tensor, unit_rows: bool, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``labels (n,)`` and ``sq_distances (n,)`` of the nearest centroids."""
    state, block = _laid_out(x, centroids, None, unit_rows, origin)
    launch.assign(state, block, prove=True, measure=True)
    return _found(state, block)


@launch.on_its_device
def nearest_and_sums(
    x: Tensor,
    centroids: Tensor,
    sample_weight: Tensor | None,
    unit_rows: bool,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, squared distances, ``counts (k,)`` and ``sums (k, d)`` in float64.

    With few centroids rows are added up by the programs that score them, in one read.
    """
    state, block = _laid_out(x, centroids, sample_weight, unit_rows, origin)
    launch.measure(state, block)
    at_once = launch.can_add_while_scoring(state)
    launch.assign(state, block, prove=True, measure=True, add=at_once)
    if at_once:
        launch.move(state, block)  # those that were in doubt
    else:
        launch.add_all(state, block)
    counts = state.counts[0] / state.weight_unit
    sums = state.sums[0] * state.inverse_units + counts.unsqueeze(1) * state.origin.double()
    return *_found(state, block), counts, sums


def _laid_out(
    x: Tensor, centroids: Tensor, weight: Tensor | None, unit_rows: bool, origin: Tensor
) -> tuple[State, Block]:
    rows = unit(x.float()) if unit_rows else x
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    form = format_at_once(rows.dtype)
    state = State(centroids.float().unsqueeze(0), origin, form, 1)
    weights = None if weight is None else weight.reshape(1, -1)
    block = Block(rows.unsqueeze(0), weights, 1, state.width, form)
    state.restart(centroids.unsqueeze(0))
    launch.step(state, unit_rows=False, from_means=False)
    return state, block


def _found(state: State, block: Block) -> tuple[Tensor, Tensor]:
    sq_distances = torch.empty_like(block.scores)
    launch.sq_distances(state, block, sq_distances)
    return block.labels[0].long(), sq_distances[0]
