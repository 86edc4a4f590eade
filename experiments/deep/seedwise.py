"""Autoencoders of several seeds, trained as one network: each seed has its own weights and batches.

A product of small matrices leaves a GPU idle, and so does a step that Python has to start kernel by
kernel. Here the seeds stand in front of every weight, and a step is captured as a CUDA graph once
and replayed: its batches, their draws and the number of the step are read from buffers on the
device. The seeds never meet: the loss is a sum over them, and Adam works number by number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

# Steps that are made one by one before the next is captured.
_WARM_UP = 3

# Added to variances that are divided by.
_LEAST_VARIANCE = 1e-5

# Images that are encoded at once.
_BLOCK = 10_000

# A loss of each seed (s,), of rows (s, b) of the images and draws (s, b, m) from [-1, 1].
Loss = Callable[[Tensor, Tensor], Tensor]


class Streams:
    """Randomness of each seed, whichever others it runs beside.

    Args:
        seeds: one stream of numbers each.
        device: that the numbers are drawn on.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = list(seeds)
        self.device = device
        self.on_host = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.on_device = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def orders(self, n: int, length: int) -> Tensor:
        """Return the first ``length`` of ``n`` rows, shuffled for each seed, ``(s, length)``."""
        orders = [
            torch.randperm(n, generator=one, device=self.device)[:length] for one in self.on_device
        ]
        return torch.stack(orders)

    def draws(self, *shape: int) -> Tensor:
        """Return numbers from [-1, 1], ``(s, *shape)``."""
        draws = [torch.rand(*shape, generator=one, device=self.device) for one in self.on_device]
        return torch.stack(draws).mul_(2).sub_(1)


class Autoencoders(nn.Module):
    """Fully connected autoencoders, mirrored, with ReLU between layers: one of each seed.

    Args:
        widths: of the layers, from pixels to codes.
        streams: of the seeds; a seed begins the same on every device.
        normalised: whether hidden layers of the encoder have their batch's mean and variance taken
            out (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Attributes:
        statistics: means and variances ``(s, out, 1)`` by layer, of all images; while training,
            None, and those of the batch are used.
    """

    def __init__(
        self, widths: Sequence[int], streams: Streams, *, normalised: bool = False
    ) -> None:
        super().__init__()
        self.normalised = normalised
        self.statistics: list[tuple[Tensor, Tensor]] | None = None
        pairs = [*pairwise(widths), *pairwise(reversed(widths))]
        self.n_encoding = len(pairs) // 2
        drawn = self.drawn(pairs, streams)
        self.weights = nn.ParameterList(drawn)
        n_seeds = len(streams.seeds)
        self.biases = nn.ParameterList(
            torch.zeros(n_seeds, out, 1, device=streams.device) for _, out in pairs
        )
        self.pairs = pairs

    @staticmethod
    def drawn(pairs: Iterable[tuple[int, int]], streams: Streams) -> list[Tensor]:
        """Return fresh weights ``(s, in, out)`` (Glorot and Bengio 2010)."""
        weights = []
        for pair in pairs:
            bound = math.sqrt(6 / sum(pair))
            each = [torch.rand(*pair, generator=one) for one in streams.on_host]
            weights.append(torch.stack(each).mul_(2).sub_(1).mul_(bound).to(streams.device))
        return weights

    def encode(self, x: Tensor) -> Tensor:
        """Return codes ``(s, b, d)`` of pixels ``(s, b, p)``."""
        return self._through(x, 0, self.n_encoding)

    def decode(self, z: Tensor) -> Tensor:
        """Return pixels ``(s, b, p)`` of codes ``(s, b, d)``."""
        return self._through(z, self.n_encoding, len(self.pairs))

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Return the codes ``(s, n, d)`` of all ``images (n, p)`` uint8."""
        if self.normalised:
            self.statistics = []
            for i in range(self.n_encoding - 1):
                self.statistics.append(self._statistics(images, i))
        blocks = [self.encode(block) for block in self._blocks(images)]
        self.statistics = None
        return torch.cat(blocks, dim=1)

    @torch.no_grad()
    def forget(self, share: float, streams: Streams) -> None:
        """Mix the encoder with a fresh one (a soft reset: Miklautz et al. 2024, arXiv:2411.02275).

        Args:
            share: of the fresh one.
            streams: of the seeds.
        """
        fresh = self.drawn(self.pairs[: self.n_encoding], streams)
        for weight, new, bias in zip(self.weights, fresh, self.biases, strict=False):
            weight.lerp_(new, share)
            bias.mul_(1 - share)

    def _through(self, x: Tensor, first: int, end: int) -> Tensor:
        h = x.mT  # (s, in, b): units before images, so that one kernel standardises over a batch
        for i in range(first, end):
            h = torch.baddbmm(self.biases[i], self.weights[i].mT, h)
            if i < end - 1:
                h = self._standard(h, i).relu()
        return h.mT

    def _standard(self, h: Tensor, layer: int) -> Tensor:
        if not self.normalised or layer >= self.n_encoding:
            return h
        if self.statistics is None:
            return layer_norm(h, h.shape[-1:], eps=_LEAST_VARIANCE)
        mean, variance = self.statistics[layer]
        return (h - mean) * (variance + _LEAST_VARIANCE).rsqrt()

    def _statistics(self, images: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance of what comes out of a layer, of all images."""
        sums: list[Tensor] = []
        for block in self._blocks(images):
            h = self._through(block, 0, layer + 1).mT.double()
            sums.append(torch.stack([h.sum(-1, keepdim=True), h.square().sum(-1, keepdim=True)]))
        mean, square = torch.stack(sums).sum(0) / len(images)
        return mean.float(), (square - mean.square()).clamp_min(0).float()

    def _blocks(self, images: Tensor) -> Iterator[Tensor]:
        for first in range(0, len(images), _BLOCK):
            block = images[first : first + _BLOCK]
            yield pixels(block).expand(len(self.weights[0]), *block.shape)


class Training:
    """Lowers the losses of all seeds by Adam, epoch by epoch.

    Args:
        loss: ``(s,)``, of rows ``(s, b)`` of the images and draws ``(s, b, m)``. On a GPU nothing
            in it may wait for the device.
        parameters: to train.
        n: number of images.
        streams: of the seeds.
        batch_size: rows of each seed to a step; what an epoch has over is left out of it.
        rate: of Adam.
        n_draws: numbers ``m`` that the loss is given for each row.
        graph: whether to capture a step, on a GPU.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Iterable[Tensor],
        n: int,
        streams: Streams,
        *,
        batch_size: int,
        rate: float = 1e-3,
        n_draws: int = 0,
        graph: bool = True,
    ) -> None:
        device, n_seeds = streams.device, len(streams.seeds)
        self.loss, self.n, self.streams = loss, n, streams
        self.batch_size = min(batch_size, n)
        self.n_steps = n // self.batch_size
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            parameters, lr=torch.tensor(rate, device=device), fused=True, capturable=on_gpu
        )
        self.n_draws = n_draws
        length = self.n_steps * self.batch_size
        self._order = torch.zeros(n_seeds, length, dtype=torch.int64, device=device)
        self._draws = torch.zeros(n_seeds, length, n_draws, device=device)
        self._at = torch.zeros((), dtype=torch.int64, device=device)
        self._places = torch.arange(self.batch_size, device=device)
        self._total = torch.zeros(n_seeds, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._to_warm_up = _WARM_UP if on_gpu and graph else None

    def epoch(self, rate: float | None = None) -> Tensor:
        """Go once through the images; return the mean loss of each seed ``(s,)``."""
        if rate is not None:
            self.optimizer.param_groups[0]["lr"].fill_(rate)
        length = self.n_steps * self.batch_size
        self._order.copy_(self.streams.orders(self.n, length))
        self._draws.copy_(self.streams.draws(length, self.n_draws))
        self._at.zero_()
        self._total.zero_()
        for _ in range(self.n_steps):
            self._advance()
        return self._total / self.n_steps

    def _advance(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif self._to_warm_up is None:
            self._step()
        elif self._to_warm_up:
            self._beside(self._step)
            self._to_warm_up -= 1
        else:
            self._capture()
            self._advance()

    def _step(self) -> None:
        places = self._at * self.batch_size + self._places
        rows, draws = self._order.index_select(1, places), self._draws.index_select(1, places)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.loss(rows, draws)
        torch.autograd.backward(losses.sum())
        self.optimizer.step()
        self._total += losses.detach()
        self._at += 1

    def _beside(self, work: Callable[[], None]) -> None:
        """Work on a stream of its own, as capturing asks for."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)

    def _capture(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step()
        except RuntimeError as error:
            warnings.warn(f"no step could be captured, each is started anew: {error}", stacklevel=2)
            torch.cuda.synchronize()
            self._to_warm_up = None
        else:
            self._graph = graph


def pixels(images: Tensor) -> Tensor:
    """Return uint8 images as numbers from 0 to 1."""
    return images.float().div(255)
