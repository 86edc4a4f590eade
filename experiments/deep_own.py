"""Our rows: an encoder whose codes k-means can tell apart, and assigns alike however they are seen.

The responsibilities of soft k-means on the codes say as much as they can of an image: each row is
assigned surely, and the clusters are of about one size, which is an assumption. That alone would
be met by any clustering; what tells the right one is that close images are assigned alike: an
image moved in the direction that changes its responsibilities most (Miyato et al. 2018,
arXiv:1704.03976; Hu et al. 2017, arXiv:1702.08720, whose weights these are), and, in one of the
rows, an image that is turned, sheared, scaled and shifted. A decoder keeps the codes to what images
look like. Labels have no part in it: to compare settings, look at how far the seeds agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from deep_images import N_DRAWS, Views
from deep_rows import Study, missed, nearest, revive
from seedwise import Autoencoders, pixels
from torch import Tensor, nn

from torchkm.functional.soft import sq_distances

# Weight of what responsibilities say of an image, and of even sizes within that.
_INFORMATION, _EVENNESS = 0.1, 4.0

# Weight of the squared error of a decoded image, summed over its pixels.
_DECODING = 0.001

# An image is moved by this share of the distance to its tenth neighbour. The direction is found
# from a step of length 10 towards another image.
_REACH, _NEIGHBOUR, _PROBE = 0.25, 10, 10.0

# Views: up to 15 degrees, and shares of the side.
_VIEWS = {"turn": 0.26, "shear": 0.25, "scale": 0.15, "shift": 0.08}

_RATE = 2e-3
_REVIVE_EVERY = 10


def with_views(study: Study) -> Tensor:
    """Assigned alike when moved a little, and in affine views."""
    return _informed("ours", study, views=True)


def without_views(study: Study) -> Tensor:
    """Assigned alike when moved a little: nothing is known of images."""
    return _informed("ours_plain", study, views=False)


def _informed(name: str, study: Study, views: bool) -> Tensor:
    images, sizes, streams = study.images, study.sizes, study.streams()
    widths = [images.rows.shape[1], *sizes.own_widths]
    nets = Autoencoders(widths, streams, normalised=True)
    drawn = [torch.randn(study.k, widths[-1], generator=one) for one in streams.on_host]
    centroids = nn.Parameter(torch.stack(drawn).to(study.device))
    heat = torch.full((), 2.0, device=study.device)
    seen, reach = Views(images, **_VIEWS), _REACH * neighbour_distances(images.rows)

    def log_shares(x: Tensor) -> Tensor:
        return (-sq_distances(nets.encode(x), centroids) / heat).log_softmax(-1)

    def loss(rows: Tensor, draws: Tensor) -> Tensor:
        x = pixels(images.rows[rows])
        codes = nets.encode(x)
        logs = (-sq_distances(codes, centroids) / heat).log_softmax(-1)  # (s, b, k)
        held = logs.detach()
        moved = x + _worst(x, held, log_shares) * reach[rows].unsqueeze(-1)
        apart = divergence(held, log_shares(moved))
        if views:
            apart = apart + divergence(held, log_shares(seen.of(rows, draws)))
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
        n_draws=N_DRAWS if views else 0,
    )
    for epoch in range(sizes.own_epochs):
        rate = _RATE * (1 + math.cos(math.pi * epoch / sizes.own_epochs)) / 2
        study.log(name, epoch, {"loss": training.epoch(rate)})
        if (epoch + 1) % _REVIVE_EVERY == 0:
            codes = nets.codes(images.rows)
            revive(codes, centroids.data, heat, training.optimizer.state[centroids])
    return nearest(nets.codes(images.rows), centroids.detach())


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


def neighbour_distances(images: Tensor) -> Tensor:
    """Return the distance of each of ``images (n, p)`` to its tenth neighbour, ``(n,)``."""
    x, nth = pixels(images), min(_NEIGHBOUR, len(images) - 1)
    found = [
        sq_distances(block, x).topk(nth + 1, dim=1, largest=False).values[:, -1]
        for block in x.split(1000)
    ]
    return torch.cat(found).clamp_min(0).sqrt()
