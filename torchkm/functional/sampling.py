"""Random draws that seeding is made of: from a ``torch.Generator``, never the global state.

Numbers are drawn where the generator lives and moved to the rows, so that one CPU generator
gives the same draws on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The part of another mass that vanishes beside any.
_FAR_BELOW = 1e-290


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Return float64 draws from (0, 1) of the given shape on ``device``."""
    draws = torch.rand(shape, dtype=torch.float64, device=generator.device, generator=generator)
    return draws.clamp_(min=torch.finfo(torch.float64).tiny).to(device)


def draw_with_replacement(mass: Tensor, draws: Tensor, fallback: Tensor) -> Tensor:
    """Turn uniform ``draws (t,)`` into indices ``(t,)``, with chances as ``mass (n,)`` is large.

    Where all mass is zero the chances are those of ``fallback (n,)``. No synchronisation.
    """
    mass = mass.to(torch.float64).add(fallback, alpha=_FAR_BELOW)
    if mass.is_cuda and torch.are_deterministic_algorithms_enabled():
        upto = torch.cumsum(mass.cpu(), dim=0).to(mass.device)  # sums there differ between runs
    else:
        upto = torch.cumsum(mass, dim=0)
    # On the left: a product that rounds up to the total still finds the last row with mass.
    return torch.searchsorted(upto, draws * upto[-1])


def draw_without_replacement(
    n: int, m: int, weight: Tensor | None, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Return ``m`` distinct indices out of ``n``, with chances in proportion to ``weight (n,)``.

    An exponential race: the ``m`` smallest of ``-log(u) / weight`` (Efraimidis and Spirakis
    2006, doi:10.1016/j.ipl.2005.11.003). Rows without weight come last.
    """
    if weight is None:
        order = torch.randperm(n, generator=generator, device=generator.device)
        return order[:m].to(device)
    times = uniform((n,), generator, device).log_().neg_() / weight.to(torch.float64)
    return torch.topk(times, m, largest=False).indices
