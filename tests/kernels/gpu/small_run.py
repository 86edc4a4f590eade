"""Launch every kind of kernel on few rows, for a checker of memory to look at."""

import torch

from torchkm.kernels.gpu import once, seeding
from torchkm.kernels.gpu.passes import Passes
from torchkm.kernels.gpu.streaming import Streamed


def main(device):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(203, 37, generator=generator).to(device)
    weight = torch.rand(203, generator=generator).to(device)
    for precision in ("auto", "float32"):
        starts = torch.stack([x[:13], x[20:33]])
        starts[0, 3] = 1e3  # an empty cluster
        run = Passes(x, starts, weight, precision=precision, momentum=0.9)
        run.begin()
        run.advance(1)
        run.advance(1, proven=True)
        run.rest()
        run.inertia()
    once.nearest_and_sums(x, x[:13], weight, False, x.mean(0))
    streamed = Streamed(x.cpu(), x[:13].clone(), weight, x.mean(0), 90, 3)
    streamed.measure()
    streamed.advance()
    streamed.look()
    draws = torch.rand(12, 4, dtype=torch.float64, generator=generator).to(device)
    seeding.one_by_one(x, 13, weight, torch.tensor([5], device=device), draws)
    print("done")


if __name__ == "__main__":
    main("cuda" if torch.cuda.is_available() else "cpu")
