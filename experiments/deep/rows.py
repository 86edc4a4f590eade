"""The rows of the deep clustering ladder: each a function from a study to labels of each seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import torchkm
from deep.images import Images
from deep.seedwise import Autoencoders, Streams, Training, pixels
from torchkm.functional import ClusterStats, assign, responsibilities
from torchkm.functional.soft import sq_distances
from torchkm.solvers import CentroidState, MiniBatch, update

# Deep k-means by Fard, Thonon and Gaussier (2020, arXiv:1806.10069): the inverse temperature that
# pre-trained networks get, the first one of annealing, epochs to each value, and the weights of
# the two clustering losses. The weights are the published ones, which their authors chose by
# labels of a validation part.
_HARD, _SOFTEST, _EPOCHS_EACH = 1000.0, 0.1, 5
_WEIGHT_PRETRAINED, _WEIGHT_ANNEALED = 1.0, 0.1

# Rows that each centroid of DCN counts as seen before the first (Yang et al. 2017,
# arXiv:1610.04794).
_SEEN_BEFORE = 100.0

# Soft resets: every so many epochs, so large a share of the encoder (arXiv:2411.02275).
_RESET_EVERY, _RESET_SHARE = 20, 0.2

# Between the seeds of two restarts.
_APART = 100_000

# Tells a training's progress: its name, the epoch, and a number of each seed.
Log = Callable[[str, int, dict[str, Tensor]], None]


@dataclass(frozen=True)
class Sizes:
    """How large a study is.

    Attributes:
        widths: of the published autoencoder, after the pixels.
        batch_size: of the published rows.
        pretraining: epochs.
        clustering: epochs after pre-training.
        annealing: values of the temperature.
        own_widths: of the hidden layers of our encoder.
        own_batch_size: of our rows.
        own_epochs: of our rows.
        own_restarts: of each seed, of which the one of the lowest loss is kept.
    """

    widths: list[int] = field(default_factory=lambda: [500, 500, 2000, 10])
    batch_size: int = 256
    pretraining: int = 50
    clustering: int = 100
    annealing: int = 40
    own_widths: list[int] = field(default_factory=lambda: [1200, 1200])
    own_batch_size: int = 500
    own_epochs: int = 100
    own_restarts: int = 2


@dataclass
class Study:
    """What the rows share.

    Attributes:
        images: of one data set.
        k: number of clusters.
        seeds: that are trained at once.
        sizes: of networks, batches and trainings.
        log: told of each epoch.
        graph: whether steps are captured, on a GPU.
    """

    images: Images
    k: int
    seeds: list[int]
    sizes: Sizes
    log: Log
    graph: bool = True
    _trained: Autoencoders | None = None

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.rows.device

    def streams(self, restarts: int = 1) -> Streams:
        """Return fresh randomness, for some restarts of each seed: no row depends on another."""
        each = [seed + _APART * i for seed in self.seeds for i in range(restarts)]
        return Streams(each, self.device)

    def trained(self) -> Autoencoders:
        """Return published autoencoders, pre-trained for reconstruction alone; a copy of them."""
        if self._trained is None:
            streams = self.streams()
            nets = Autoencoders([self.images.rows.shape[1], *self.sizes.widths], streams)

            def loss(rows: Tensor, draws: Tensor) -> Tensor:
                x = pixels(self.images.rows[rows])
                return missed(nets.decode(nets.encode(x)), x)

            training = self.training(loss, nets.parameters(), streams)
            for epoch in range(self.sizes.pretraining):
                self.log("pretraining", epoch, {"loss": training.epoch()})
            self._trained = nets
        return copy.deepcopy(self._trained)

    def training(self, loss: Any, parameters: Any, streams: Streams, **options: Any) -> Training:
        """Return a training on the images, in the batches of the published rows."""
        options = {"batch_size": self.sizes.batch_size, "graph": self.graph, **options}
        return Training(loss, parameters, len(self.images.rows), streams, **options)

    def start(self, codes: Tensor) -> Tensor:
        """Return centroids of k-means on ``codes (s, n, d)``, the best of ten starts each."""
        found = []
        for seed, rows in zip(self.seeds, codes, strict=True):
            generator = torch.Generator().manual_seed(seed)
            found.append(torchkm.kmeans(rows, self.k, n_init=10, generator=generator).centroids)
        return torch.stack(found)


def raw_kmeans(study: Study) -> Tensor:
    """k-means on pixels."""
    rows = pixels(study.images.rows).expand(len(study.seeds), -1, -1)
    return nearest(rows, study.start(rows))


def autoencoder_kmeans(study: Study) -> Tensor:
    """k-means on the codes of an autoencoder that knows nothing of clusters."""
    codes = study.trained().codes(study.images.rows)
    return nearest(codes, study.start(codes))


def deep_kmeans_pretrained(study: Study) -> Tensor:
    """Deep k-means (Fard et al.), pre-trained, at a temperature near none."""
    nets = study.trained()
    start = study.start(nets.codes(study.images.rows))
    rounds = math.ceil(study.sizes.clustering / _EPOCHS_EACH)
    heats = [1 / _HARD] * rounds
    return _deep_kmeans("dkm_pretrained", study, nets, start, heats, _WEIGHT_PRETRAINED)


def deep_kmeans_annealed(study: Study) -> Tensor:
    """Deep k-means (Fard et al.) from random weights and centroids, at falling temperatures."""
    streams = study.streams()
    nets = Autoencoders([study.images.rows.shape[1], *study.sizes.widths], streams)
    width = study.sizes.widths[-1]
    drawn = [torch.rand(study.k, width, generator=one) for one in streams.on_host]
    start = torch.stack(drawn).mul_(2).sub_(1).to(study.device)
    heats = [1 / sharp for sharp in annealed(study.sizes.annealing)]
    return _deep_kmeans("dkm_annealed", study, nets, start, heats, _WEIGHT_ANNEALED)


def annealed(n: int) -> Iterator[float]:
    """Yield the inverse temperatures of Fard et al.: each ``2^(1 / log(i)^2)`` times the last."""
    value = _SOFTEST
    for i in range(n):
        yield value
        value *= 2 ** (1 / math.log(i + 2) ** 2)


def _deep_kmeans(
    name: str, study: Study, nets: Autoencoders, start: Tensor, heats: list[float], weight: float
) -> Tensor:
    centroids, heat = nn.Parameter(start), torch.ones((), device=study.device)

    def loss(rows: Tensor, draws: Tensor) -> Tensor:
        x = pixels(study.images.rows[rows])
        codes = nets.encode(x)
        shares = responsibilities(codes, centroids, heat)
        pulled = (shares * sq_distances(codes, centroids)).sum(-1).mean(-1)
        return missed(nets.decode(codes), x) + weight * pulled

    training = study.training(loss, [*nets.parameters(), centroids], study.streams())
    for i, value in enumerate(heats):
        heat.fill_(value)
        for epoch in range(_EPOCHS_EACH):
            study.log(name, i * _EPOCHS_EACH + epoch, {"loss": training.epoch()})
        codes = nets.codes(study.images.rows)
        revive(codes, centroids.data, heat, training.optimizer.state[centroids])
    return nearest(codes, centroids.detach())


def dcn(study: Study) -> Tensor:
    """A deep clustering network: codes are pulled to centroids that follow as running means."""
    return _dcn("dcn", study, resets=False)


def dcn_resets(study: Study) -> Tensor:
    """The same, whose encoder forgets a part every some epochs, and clusters anew."""
    return _dcn("dcn_resets", study, resets=True)


def _dcn(name: str, study: Study, resets: bool) -> Tensor:
    nets, streams = study.trained(), study.streams()
    centroids = study.start(nets.codes(study.images.rows))
    seen = torch.full(centroids.shape[:2], _SEEN_BEFORE, device=study.device, dtype=torch.float64)
    hard = torch.full((), 1 / _HARD, device=study.device)

    def loss(rows: Tensor, draws: Tensor) -> Tensor:
        x = pixels(study.images.rows[rows])
        codes = nets.encode(x)
        apart = sq_distances(codes, centroids)
        labels = apart.argmin(-1)
        pulled = apart.gather(-1, labels.unsqueeze(-1)).squeeze(-1).mean(-1)
        _follow(codes.detach(), labels, centroids, seen)
        return missed(nets.decode(codes), x) + _WEIGHT_PRETRAINED * pulled

    training = study.training(loss, nets.parameters(), streams)
    for epoch in range(study.sizes.clustering):
        study.log(name, epoch, {"loss": training.epoch()})
        last = epoch + 1 == study.sizes.clustering
        if resets and (epoch + 1) % _RESET_EVERY == 0 and not last:
            nets.forget(_RESET_SHARE, streams)
            centroids.copy_(study.start(nets.codes(study.images.rows)))
            seen.fill_(_SEEN_BEFORE)
        revive(nets.codes(study.images.rows), centroids, hard, {}, seen)
    return nearest(nets.codes(study.images.rows), centroids)


@torch.no_grad()
def _follow(codes: Tensor, labels: Tensor, centroids: Tensor, seen: Tensor) -> None:
    """Move ``centroids (s, k, d)`` to the running means of the codes, in place."""
    belongs = nn.functional.one_hot(labels, centroids.shape[1]).double()  # (s, b, k)
    counts, sums = belongs.sum(1), belongs.mT @ codes.double()
    rule, nothing = MiniBatch(), counts.new_zeros(())
    for i in range(len(centroids)):
        stats = ClusterStats(counts[i], sums[i], nothing)
        after = update(stats, CentroidState(centroids[i], seen[i]), rule).state
        centroids[i].copy_(after.centroids)
        seen[i].copy_(after.counts)


@torch.no_grad()
def revive(
    codes: Tensor,
    centroids: Tensor,
    heat: Tensor,
    moments: dict[str, Tensor],
    seen: Tensor | None = None,
) -> int:
    """Give each cluster that holds less than a row the one that lies farthest; return how many.

    Args:
        codes: ``(s, n, d)``.
        centroids: ``(s, k, d)``, changed in place.
        heat: the temperature.
        moments: that Adam has of the centroids; forgotten with them.
        seen: counts of running means ``(s, k)``; forgotten too.
    """
    masses = responsibilities(codes, centroids, heat).sum(-2)  # (s, k)
    dead = (masses < 1).nonzero().tolist()
    for i, j in dead:
        row = assign(codes[i], centroids[i]).sq_distances.argmax()
        centroids[i, j] = codes[i, row]
        for name in ("exp_avg", "exp_avg_sq"):
            if name in moments:
                moments[name][i, j] = 0
        if seen is not None:
            seen[i, j] = 0
    return len(dead)


def missed(made: Tensor, x: Tensor) -> Tensor:
    """Return the squared error of an image, summed over its pixels, ``(s,)``."""
    return (made - x).square().sum(-1).mean(-1)


def nearest(codes: Tensor, centroids: Tensor) -> Tensor:
    """Return the labels ``(s, n)`` of ``codes (s, n, d)``."""
    pairs = zip(codes, centroids, strict=True)
    return torch.stack([assign(rows, own).labels for rows, own in pairs])
