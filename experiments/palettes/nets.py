"""Small convolutional networks of several seeds, and palettes of few numbers for their weights.

The seeds stand in front of every weight, as in ``seedwise``. The weights of a layer are the rows
of a k-means problem, ``(s, n, 1)``: a palette is its centroids, and a weight is replaced by the
mean of the palette under its responsibilities (Cho et al. 2022, arXiv:2108.12659).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deep.images import Images
from deep.seedwise import Streams, pixels
from torchkm import kmeans
from torchkm.functional import assign, responsibilities
from torchkm.gradients import Gradient, fixed_point
from torchkm.solvers import KMeansResult

# Channels of the two convolutions, their kernel and stride.
_CHANNELS, _KERNEL, _STRIDE = (1, 8, 16), 5, 2

# Mean and deviation that pixels are brought to.
_MEAN, _DEVIATION = 0.13, 0.31

# Images that are classified at once.
_BLOCK = 2000

# Starts of post-training k-means, of which the best is taken.
_N_INIT = 10


class Parts(NamedTuple):
    """Images to train on, to choose settings by, and to report."""

    train: slice
    validation: slice
    test: slice


def parts(images: Images) -> Parts:
    """Split images in the order they came in, as 5, 1 and 1 sevenths: MNIST's test set is last."""
    seventh = len(images.rows) // 7
    ends = len(images.rows) - 2 * seventh, len(images.rows) - seventh
    return Parts(slice(0, ends[0]), slice(*ends), slice(ends[1], None))


class Nets:
    """Two strided convolutions and a linear layer of each seed.

    Args:
        side: of an image, in pixels.
        n_classes: of the answers.
        streams: of the seeds; one begins the same whichever others it runs beside.

    Attributes:
        weights: ``(s, out, ...)`` of each layer.
        biases: ``(s, out)`` of each layer.
    """

    def __init__(self, side: int, n_classes: int, streams: Streams) -> None:
        kernel = (_KERNEL, _KERNEL)
        small = math.ceil(math.ceil(side / _STRIDE) / _STRIDE)
        shapes = [
            (_CHANNELS[1], _CHANNELS[0], *kernel),
            (_CHANNELS[2], _CHANNELS[1], *kernel),
            (n_classes, _CHANNELS[2] * small**2),
        ]
        self.side = side
        self.weights = [self._drawn(shape, streams) for shape in shapes]
        self.biases = [
            torch.zeros(len(streams.seeds), shape[0], device=streams.device) for shape in shapes
        ]

    @staticmethod
    def _drawn(shape: tuple[int, ...], streams: Streams) -> Tensor:
        """Return fresh weights (He et al. 2015, arXiv:1502.01852)."""
        deviation = math.sqrt(2 / math.prod(shape[1:]))
        each = [torch.randn(*shape, generator=one) for one in streams.on_host]
        return torch.stack(each).mul_(deviation).to(streams.device)

    def copy(self) -> Nets:
        """Return networks of the same numbers, to be trained."""
        copy = object.__new__(Nets)
        copy.side = self.side
        copy.weights = [one.detach().clone().requires_grad_() for one in self.weights]
        copy.biases = [one.detach().clone().requires_grad_() for one in self.biases]
        return copy

    @property
    def n_weights(self) -> int:
        """Weights of one seed, biases not among them."""
        return sum(weight[0].numel() for weight in self.weights)

    def logits(self, images: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Return scores ``(s, b, classes)`` of uint8 ``images (s, b, p)``, by other ``weights``."""
        first, second, last = self.weights if weights is None else weights
        n_seeds, size = images.shape[:2]
        x = (pixels(images) - _MEAN) / _DEVIATION
        h = x.view(n_seeds, size, self.side, self.side).transpose(0, 1)  # seeds as channels
        for weight, bias in zip((first, second), self.biases, strict=False):
            flat = weight.flatten(0, 1), bias.flatten()
            h = F.conv2d(h, *flat, stride=_STRIDE, padding=_KERNEL // 2, groups=n_seeds).relu()
        h = h.view(size, n_seeds, -1).transpose(0, 1)  # (s, b, features)
        return torch.baddbmm(self.biases[-1].unsqueeze(1), h, last.mT)

    def losses(
        self, images: Tensor, classes: Tensor, weights: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return the mean cross-entropy of each seed ``(s,)``, of ``classes (s, b)``."""
        scores = self.logits(images, weights).mT
        return F.cross_entropy(scores, classes, reduction="none").mean(-1)

    @torch.no_grad()
    def accuracy(
        self, images: Tensor, classes: Tensor, weights: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Return the share of ``images (n, p)`` that each seed gets right ``(s,)``."""
        hits = torch.zeros(len(self.biases[0]), device=images.device)
        for first in range(0, len(images), _BLOCK):
            block = slice(first, first + _BLOCK)
            seen = images[block].expand(len(hits), -1, -1)
            hits += (self.logits(seen, weights).argmax(-1) == classes[block]).sum(-1)
        return hits / len(images)


class Palettes:
    """A palette of ``k`` numbers for each layer of each seed.

    They start as post-training k-means has them, and go on from where the last step ended.

    Args:
        weights: ``(s, out, ...)`` of each layer.
        k: numbers in a palette.
        gradient: of the centroids, see ``torchkm.gradients``.
        n_iter: soft Lloyd steps each time.

    Attributes:
        centroids: of each layer, ``(s, k, 1)``.
        unit: of each layer, ``(s,)``: the mean squared distance of a weight to its number, at the
            start. Temperatures are shares of it.
    """

    def __init__(self, weights: Sequence[Tensor], k: int, gradient: Gradient, n_iter: int) -> None:
        self.gradient, self.n_iter = gradient, n_iter
        fits = [[_best(rows, k) for rows in _as_rows(weight.detach())] for weight in weights]
        self.centroids = [torch.stack([fit.centroids for fit in layer]) for layer in fits]
        self.unit = [
            weight.new_tensor([fit.inertia / len(fit.labels) for fit in layer])
            for layer, weight in zip(fits, weights, strict=True)
        ]

    def soft(self, weights: Sequence[Tensor], heat: float) -> list[Tensor]:
        """Return weights as means of their palette, with the gradient that is asked for."""
        return [self._soft(layer, weight, heat) for layer, weight in enumerate(weights)]

    @torch.no_grad()
    def hard(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return each weight as the nearest number of its palette."""
        found = []
        for weight, centroids in zip(weights, self.centroids, strict=True):
            pairs = zip(_as_rows(weight), centroids, strict=True)
            flat = [some[assign(rows, some).labels] for rows, some in pairs]
            found.append(torch.stack(flat).view_as(weight))
        return found

    def _soft(self, layer: int, weight: Tensor, heat: float) -> Tensor:
        rows, temperature = _as_rows(weight), heat * self.unit[layer]
        found = fixed_point(
            rows,
            self.centroids[layer],
            temperature,
            gradient=self.gradient,
            max_iter=self.n_iter,
            tol=0,
        )
        self.centroids[layer] = found.centroids.detach()
        return (responsibilities(rows, found.centroids, temperature) @ found.centroids).view_as(
            weight
        )


def _as_rows(weight: Tensor) -> Tensor:
    return weight.flatten(1).unsqueeze(-1)  # (s, n, 1)


def _best(rows: Tensor, k: int) -> KMeansResult:
    generator = torch.Generator().manual_seed(0)
    return kmeans(rows, k, n_init=_N_INIT, generator=generator)
