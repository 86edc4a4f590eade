"""How a fixed point is differentiated: implicitly, through one step, through all, or not at all.

Each way is a small object with a name; all of them take the same steps forward. No state, no
module and no k-means arithmetic of a step may live here.
"""

from torchkm.gradients.fixed_point import FixedPoint, fixed_point
from torchkm.gradients.implicit import Adjoint, UntrustedGradientWarning
from torchkm.gradients.strategies import (
    GRADIENTS,
    Detach,
    Envelope,
    Gradient,
    Implicit,
    OneStep,
    Unroll,
    as_gradient,
)

__all__ = [
    "GRADIENTS",
    "Adjoint",
    "Detach",
    "Envelope",
    "FixedPoint",
    "Gradient",
    "Implicit",
    "OneStep",
    "Unroll",
    "UntrustedGradientWarning",
    "as_gradient",
    "fixed_point",
]
