"""Work that is repeated, captured once and replayed without the host."""

from __future__ import annotations

from collections.abc import Callable

import torch


def capture(work: Callable[[], None], times: int, device: torch.device) -> torch.cuda.CUDAGraph:
    """Return a graph that does ``work`` so many times. Its kernels must have been loaded before."""
    graph = torch.cuda.CUDAGraph()
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")  # other threads may go on
        try:
            for _ in range(times):
                work()
        finally:
            graph.capture_end()
    current.wait_stream(stream)
    return graph


def repeat(work: Callable[[], None], times: int, per_graph: int, device: torch.device) -> None:
    """Do ``work`` at least so many times; on a GPU in graphs, where that pays.

    For work that does nothing once all is done.
    """
    if device.type != "cuda" or times < 2 * per_graph:
        for _ in range(times):
            work()
        return
    graph = capture(work, per_graph, device)
    for _ in range(-(-times // per_graph)):
        graph.replay()
    torch.cuda.current_stream(device).synchronize()  # before the graph goes
