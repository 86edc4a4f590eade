"""Seedings, fits and jobs of MNIST that ``benchmark.py --device cuda`` times by host clock."""

from __future__ import annotations

import importlib
import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpu.contenders import Torch

# Rows that torchkm's k-means++ draws its centroids from.
_SAMPLE, _SAMPLE_PER_CLUSTER = 4096, 16

# Passes of plain torch between two looks at whether labels still change.
_LOOK, _PASSES = 10, 300


class Fitted(NamedTuple):
    """What a fit found.

    Attributes:
        centroids: ``(k, d)`` on the device.
        labels: ``(n,)`` that belong to them, where it has those.
        inertia: that it tells, where it does.
        n_iter: passes, where it tells.
        status: why it stopped, where it tells.
    """

    centroids: Tensor
    labels: Tensor | None = None
    inertia: float | None = None
    n_iter: int | None = None
    status: str | None = None


Fit = Callable[[Tensor, int, int], Fitted]


def ours(x: Tensor, k: int, seed: int, **settings: Any) -> Fitted:
    """``torchkm.kmeans``, defaults but for the seed."""
    import torchkm

    generator = torch.Generator().manual_seed(seed)
    found = torchkm.kmeans(x, k, generator=generator, **settings)
    inertia, status = float(found.inertia), str(found.status)
    return Fitted(found.centroids, found.labels, inertia, int(found.n_iter), status)


def ours_lloyd(x: Tensor, k: int, seed: int) -> Fitted:
    """Lloyd's, tol and max_iter as by default."""
    return ours(x, k, seed, solver="lloyd")


def plain(x: Tensor, k: int, seed: int) -> Fitted:
    """Plain torch from random rows, until ten passes change no label."""
    generator = torch.Generator(x.device).manual_seed(seed)
    starts = x[torch.randperm(len(x), generator=generator, device=x.device)[:k]]
    loop = Torch(x[None], starts[None], one_hot=True)
    loop.restart()
    labels, n_iter, settled = loop.found()[0].clone(), 0, False
    while n_iter < _PASSES and not settled:
        loop.advance(_LOOK)
        n_iter += _LOOK
        settled = torch.equal(loop.found()[0], labels)
        labels.copy_(loop.found()[0])
    return Fitted(loop.found()[1][0], n_iter=n_iter)


def flash(x: Tensor, k: int, seed: int, **settings: Any) -> Fitted:
    """``FlashKMeans``, defaults but for the seed: 25 passes from random rows, in TF32."""
    library = importlib.import_module("flash_kmeans")
    model = library.FlashKMeans(x.shape[1], k, seed=seed, device=x.device, **settings).fit(x)
    return Fitted(model.centroids_b[0])


def flash_long(x: Tensor, k: int, seed: int) -> Fitted:
    """The same, until its tolerance is met, 300 passes at most."""
    return flash(x, k, seed, niter=_PASSES)


def fast(x: Tensor, k: int, seed: int) -> Fitted:
    """``FastKMeans``, defaults but for the seed: 25 passes over rows that come from the host."""
    library = importlib.import_module("fastkmeans")
    model = library.FastKMeans(x.shape[1], k, seed=seed, device=x.device)
    model.train(x.cpu().numpy())
    return Fitted(torch.from_numpy(model.centroids).to(x.device))


# By name: what has to be installed, and the fit.
FITS: dict[str, tuple[str, Fit]] = {
    "torchkm": ("torchkm", ours),
    "torchkm, lloyd": ("torchkm", ours_lloyd),
    "torch": ("torch", plain),
    "flash-kmeans": ("flash_kmeans", flash),
    "flash-kmeans, 300 passes": ("flash_kmeans", flash_long),
    "fastkmeans": ("fastkmeans", fast),
}


def our_seeds(x: Tensor, k: int, seed: int) -> Fitted:
    """``torchkm.functional.seed``, defaults but for the seed."""
    import torchkm

    generator = torch.Generator().manual_seed(seed)
    return Fitted(torchkm.functional.seed(x, k, generator=generator))


def plain_seeds(x: Tensor, k: int, seed: int) -> Fitted:
    """Greedy k-means++ in plain torch on as many rows, which waits for nothing."""
    generator = torch.Generator(x.device).manual_seed(seed)
    size = min(len(x), max(_SAMPLE, _SAMPLE_PER_CLUSTER * k))
    trials = 2 + int(math.log(k))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=x.device)

    sample = x[torch.randperm(len(x), generator=generator, device=x.device)[:size]]
    norms = sample.square().sum(1)
    centroids = torch.empty(k, x.shape[1], device=x.device)
    centroids[0] = sample[0]
    least = (sample - sample[0]).square().sum(1)
    for i in range(1, k):
        ends = least.cumsum(0)
        at = torch.searchsorted(ends, uniform(trials) * ends[-1]).clamp_(max=size - 1)
        rows = sample[at]  # (trials, d)
        apart = torch.addmm(norms, rows, sample.T, alpha=-2.0) + norms[at][:, None]
        apart = torch.minimum(apart.clamp_(min=0), least)  # (trials, size)
        best = apart.sum(1).argmin(keepdim=True)
        centroids[i] = rows[best][0]
        least = apart[best][0]
    return Fitted(centroids)


SEEDINGS: dict[str, tuple[str, Fit]] = {
    "torchkm, k-means++": ("torchkm", our_seeds),
    "torch, k-means++": ("torch", plain_seeds),
}


def jobs(data_root: str) -> dict[str, tuple[str, Fit]]:
    """Return ``run.py`` on the MNIST that lies in a folder, defaults but for the seed."""
    return {"run.py": ("torchkm", partial(_job, data_root))}


def _job(data_root: str, x: Tensor, k: int, seed: int) -> Fitted:
    """All that ``run.py`` does once it is imported: read, fit, score, draw and write."""
    import run

    given = {"data": "mnist", "data-root": data_root, "k": k, "seed": seed}
    given["accelerator"] = "gpu" if x.is_cuda else "cpu"
    printed = io.StringIO()
    with TemporaryDirectory() as folder:
        flags = [f"--{name}={value}" for name, value in given.items()]
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                run.main([*flags, f"--output-dir={folder}"])
        except SystemExit as error:
            raise RuntimeError(printed.getvalue()[-500:].strip()) from error
        (made,) = Path(folder).iterdir()
        told = json.loads((made / "metrics.json").read_text())
        saved = torch.load(made / "checkpoints" / "last.ckpt", x.device, weights_only=True)
    centroids = saved["state_dict"]["kmeans.centroids"]
    return Fitted(centroids, n_iter=told["n_iter"], status=told["status"])
