"""Kernels in Triton for CUDA: nothing here is imported where no row lies on a GPU.

Each is a few lines of arithmetic on one tile; what launches them stands beside it. They run in
Triton's interpreter too, which is how a machine without a GPU tests them.
"""
