"""Compile what a fit launches for a GPU that need not be there; nothing is launched.

``python compile.py CAPABILITY LIMIT`` prints the shared memory that each kernel takes.
"""

import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


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


def main(capability, limit):
    driver.set_active(Target(capability))
    JITFunction.__getitem__ = compile_only
    from torchkm.kernels.gpu import once, passes, seeding, tuning

    tuning.shared_memory = lambda device: limit
    x = torch.rand(300, 784)
    run = passes.Passes(x, x[:256])
    run.begin(proven=True)
    run.advance(1)
    run.rest()
    wide = torch.rand(300, 128).half()
    run = passes.Passes(wide, wide[:200].float())
    run.measure()
    run.look()
    once.nearest_and_sums(x, x[:10].clone(), None, False, x.mean(0))
    draws = torch.rand(3, 5, dtype=torch.float64)
    seeding.one_by_one(x, 4, torch.ones(300), torch.tensor([0]), draws)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
