"""Compile what a fit launches for a GPU that need not be there; nothing is launched.

``python compile.py CAPABILITY LIMIT EVERY`` prints the shared memory that each kernel takes, of
every so-manieth fit on the list.
"""

import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

# Formats, widths and numbers of centroids, each of which makes kernels of its own.
FITS = [
    (torch.float32, "auto", 784, 256, False),
    (torch.float32, "auto", 128, 200, True),
    (torch.float32, "bfloat16", 128, 20, False),
    (torch.float32, "tf32", 784, 10, True),
    (torch.float32, "tf32", 128, 200, False),
    (torch.float32, "float32", 784, 256, False),
    (torch.float32, "float32", 128, 200, False),
    (torch.float32, "float32", 10, 5, True),
    (torch.float16, "auto", 128, 64, True),
    (torch.float16, "auto", 128, 200, False),
    (torch.bfloat16, "auto", 300, 40, False),
    (torch.uint8, "auto", 784, 64, False),
    (torch.uint8, "tf32", 20, 100, False),
]


class Target:
    """As much of a driver as a compiler asks for."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0


def compile_only(kernel, grid):
    def compile(*args, **constants):
        made = kernel.warmup(*args, grid=grid, **constants)
        print(kernel.__name__, made.metadata.shared, flush=True)

    return compile


def main(capability, limit, every):
    driver.set_active(Target(capability))
    JITFunction.__getitem__ = compile_only
    from torchkm.kernels.gpu import once, passes, seeding, tuning

    tuning.shared_memory = lambda device: limit
    for dtype, precision, d, k, weighted in FITS[::every]:
        x = torch.rand(300, d).mul(200).to(dtype)
        given = {"precision": precision, "origin": torch.zeros(d), "momentum": 0.9 * weighted}
        run = passes.Passes(x, x[:k].float(), torch.ones(300) if weighted else None, **given)
        run.begin(proven=True)
        run.advance(1)
        run.rest()
        run.inertia()
    x = torch.rand(300, 784)
    run = passes.Passes(x, x[:256], origin=torch.zeros(784), unit_rows=True)
    run.advance(2, anew=True)
    once.nearest_and_sums(x, x[:10].clone(), None, False, x.mean(0))
    draws = torch.rand(3, 5, dtype=torch.float64)
    seeding.one_by_one(x, 4, torch.ones(300), torch.tensor([0]), draws)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
