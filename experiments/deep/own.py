"""Our rows: an encoder whose codes k-means can tell apart, and assigns alike what is alike.

The responsibilities of soft k-means on the codes say as much as they can of an image: each row is
assigned surely, and the clusters are of about one size, which is an assumption. That alone would
be met by many clusterings; what tells the right one is what is assigned alike:

- an image, and itself moved in the direction that changes its responsibilities most (Miyato et al.
  2018, arXiv:1704.03976; Hu et al. 2017, arXiv:1702.08720, whose weights these are);
- an image, and one of its nearest neighbours among pixels, which keeps clusters from cutting
  through where images lie densely (Van Gansbeke et al. 2020, arXiv:2005.12320); the longer the
  training, the more often it is the image itself;
- in one of the rows that other is turned, sheared, scaled and shifted.

A decoder keeps the codes to what images look like. Of a few restarts the one of the lowest loss is
kept. Labels have no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from deep.images import N_DRAWS, Views
from deep.rows import Study, missed, nearest, revive
from deep.seedwise import Autoencoders, Streams, pixels
from torchkm.functional.soft import sq_distances

# Weight of what responsibilities say of an image, and of even sizes within that.
_INFORMATION, _EVENNESS = 0.1, 4.0

# Weight of the squared error of a decoded image, summed over its pixels.
_DECODING = 0.001

# An image is moved by this share of the distance to its tenth neighbour. The direction is found
# from a step of length 10 towards another image.
_REACH, _TENTH, _PROBE = 0.25, 10, 10.0

# Neighbours that an image may be assigned like.
_NEIGHBOURS = 5

# Views: up to 15 degrees, and shares of the side.
_VIEWS = {"turn": 0.26, "shear": 0.25, "scale": 0.15, "shift": 0.08}

# How far from the middle codes begin.
_AMID = 1e-3

# Images whose neighbours are looked for at once.
_BLOCK = 1000

_RATE = 2e-3
_REVIVE_EVERY = 10


def with_views(study: Study) -> Tensor:
    """Assigned alike when moved a little, and in affine views."""
    return _informed("ours", study, views=True)


def without_views(study: Study) -> Tensor:
    """Assigned alike when moved a little: nothing is known of images."""
    return _informed("ours_plain", study, views=False)


def _informed(name: str, study: Study, views: bool) -> Tensor:
    images, sizes = study.images, study.sizes
    streams = study.streams(sizes.own_restarts)
    nets, centroids = begun([images.rows.shape[1], *sizes.own_widths, study.k], streams)
    heat = torch.full((), 2.0, device=study.device)
    near, distance = neighbours(images.rows)
    seen, reach = Views(images, **_VIEWS), _REACH * distance
    among = torch.ones((), device=study.device)  # one of so many, with the image itself

    def log_shares(x: Tensor) -> Tensor:
        return (-sq_distances(nets.encode(x), centroids) / heat).log_softmax(-1)

    def loss(rows: Tensor, draws: Tensor) -> Tensor:
        x = pixels(images.rows[rows])
        codes = nets.encode(x)
        logs = (-sq_distances(codes, centroids) / heat).log_softmax(-1)  # (s, b, k)
        held = logs.detach()
        moved = x + _worst(x, held, log_shares) * reach[rows].unsqueeze(-1)
        others = near[rows, ((draws[..., -1] + 1) / 2 * among).long().clamp_max(near.shape[1] - 1)]
        other = seen.of(others, draws[..., :-1]) if views else pixels(images.rows[others])
        apart = divergence(held, log_shares(moved)) + divergence(held, log_shares(other))
        unsure = entropy(logs).mean(-1)
        even = entropy(logs.exp().mean(-2).clamp_min(1e-12).log())
        decoded = missed(nets.decode(codes), x)
        return apart + _INFORMATION * (unsure - _EVENNESS * even) + _DECODING * decoded

    training = study.training(
        loss,
        [*nets.parameters(), centroids],
        streams,
        batch_size=sizes.own_batch_size,
        rate=_RATE,
        n_draws=N_DRAWS + 1 if views else 1,
    )
    for epoch in range(sizes.own_epochs):
        among.fill_(1 + (near.shape[1] - 1) * (1 - epoch / sizes.own_epochs))
        rate = _RATE * (1 + math.cos(math.pi * epoch / sizes.own_epochs)) / 2
        losses = training.epoch(rate).view(-1, sizes.own_restarts)
        study.log(name, epoch, {"loss": losses.amin(1)})
        if (epoch + 1) % _REVIVE_EVERY == 0:
            codes = nets.codes(images.rows)
            revive(codes, centroids.data, heat, training.optimizer.state[centroids])
    best = losses.argmin(1) + torch.arange(len(losses), device=study.device) * losses.shape[1]
    return nearest(nets.codes(images.rows)[best], centroids.detach()[best])


def begun(widths: list[int], streams: Streams) -> tuple[Autoencoders, nn.Parameter]:
    """Return networks and centroids ``(s, k, k)`` to begin with.

    Codes begin amid centroids that lie at the corners of a simplex, at one distance of all: as
    above the critical temperature, so that no seeding decides what becomes a cluster. They spread
    as the network learns.
    """
    nets, k = Autoencoders(widths, streams, normalised=True), widths[-1]
    nets.weights[nets.n_encoding - 1].data.mul_(_AMID)
    corners = torch.eye(k, device=streams.device).repeat(len(streams.seeds), 1, 1)
    return nets, nn.Parameter(corners)


def _worst(x: Tensor, held: Tensor, log_shares: Callable[[Tensor], Tensor]) -> Tensor:
    """Return directions ``(s, b, p)`` in which log shares ``held`` change most, about."""
    towards = unit_rows(x.roll(1, dims=1) - x)  # batches are shuffled
    probe = (_PROBE * towards).requires_grad_()
    changed = divergence(held, log_shares(x + probe)).sum()
    return unit_rows(torch.autograd.grad(changed, probe)[0])


def unit_rows(x: Tensor) -> Tensor:
    """Return rows of length one; those of zeros stay."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-20)


def divergence(logs: Tensor, others: Tensor) -> Tensor:
    """Return the relative entropy of shares to others, as logarithms ``(s, b, k)``: ``(s,)``."""
    return (logs.exp() * (logs - others)).sum(-1).mean(-1)


def entropy(logs: Tensor) -> Tensor:
    """Return the entropy of shares, given as logarithms, over the last dimension."""
    return -(logs.exp() * logs).sum(-1)


def neighbours(images: Tensor) -> tuple[Tensor, Tensor]:
    """Find what is near each of ``images (n, p)`` among pixels.

    Returns:
        Itself and its nearest neighbours ``(n, 6)``, and the distance of the tenth ``(n,)``.
    """
    x, nth = pixels(images), min(_TENTH, len(images) - 1)
    index, distances = [], []
    for first in range(0, len(x), _BLOCK):
        found = sq_distances(x[first : first + _BLOCK], x).topk(nth + 1, dim=1, largest=False)
        index.append(found.indices[:, : _NEIGHBOURS + 1])
        distances.append(found.values[:, -1].clamp_min(0).sqrt())
    return torch.cat(index), torch.cat(distances)
