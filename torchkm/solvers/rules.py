"""The update rules: each says what the past still weighs and how far a batch may pull.

| rule | past counts kept | rate of a cluster |
|---|---|---|
| Lloyd | none | 1 |
| mini-batch, mean | all | batch count / count so far |
| mini-batch, sqrt | all | sqrt(batch count / batch size) |
| decay | half after each half-life | batch count / discounted count |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from torchkm.functional.checks import check_known, check_number

RATES = ("mean", "sqrt")

# The default half-life of the decay rule, as a share of the rows of one pass.
_HALF_LIFE_IN_PASSES = 0.5


@runtime_checkable
class UpdateRule(Protocol):
    """What ``update`` asks of a rule; any object that has these is one.

    Attributes:
        streaming: whether the centroids move after every batch, or after a full pass.
    """

    @property
    def streaming(self) -> bool:
        """Whether the centroids move after every batch."""

    def for_rows(self, n: int) -> UpdateRule:
        """Return the rule with its open settings fixed for passes over ``n`` rows."""

    def kept(self, batch_weight: Tensor) -> Tensor | float:
        """Return the share of past counts that survives a batch of total weight ``()``."""

    def rate(self, batch_counts: Tensor, counts: Tensor) -> Tensor:
        """Return how far each centroid goes towards its batch mean, ``(k,)`` in [0, 1]."""

    def is_empty(self, counts: Tensor) -> Tensor:
        """Return which clusters ``(k,)`` count as empty, given their counts so far."""


@dataclass(frozen=True)
class Lloyd:
    """Full passes: each centroid becomes the mean of its rows (Lloyd 1982).

    Source: doi:10.1109/TIT.1982.1056489.

    Example:
        >>> Lloyd().streaming
        False
    """

    streaming = False

    def for_rows(self, n: int) -> Lloyd:
        """Return the rule itself: nothing is open."""
        return self

    def kept(self, batch_weight: Tensor) -> float:
        """Return 0: a pass replaces the one before."""
        return 0.0

    def rate(self, batch_counts: Tensor, counts: Tensor) -> Tensor:
        """Return 1 for every cluster."""
        return torch.ones_like(counts)

    def is_empty(self, counts: Tensor) -> Tensor:
        """Return which clusters hold no weight."""
        return counts <= 0


@dataclass(frozen=True)
class MiniBatch:
    """The running mean of all batches, or the square-root rate.

    With ``"mean"`` each centroid is the mean of every row it was ever given (Sculley 2010,
    doi:10.1145/1772690.1772862): it settles, and freezes early. With ``"sqrt"`` a batch pulls
    by ``sqrt(batch count / batch size)`` however long the stream (Schwartzman 2023,
    arXiv:2304.00419).

    Args:
        learning_rate: ``"mean"`` or ``"sqrt"``.

    Raises:
        ValueError: an unknown rate.

    Example:
        >>> MiniBatch(learning_rate="sqrt").streaming
        True
    """

    learning_rate: str = "mean"
    streaming = True

    def __post_init__(self) -> None:
        check_known("learning_rate", self.learning_rate, RATES)

    def for_rows(self, n: int) -> MiniBatch:
        """Return the rule itself: nothing is open."""
        return self

    def kept(self, batch_weight: Tensor) -> float:
        """Return 1: nothing is forgotten."""
        return 1.0

    def rate(self, batch_counts: Tensor, counts: Tensor) -> Tensor:
        """Return the running-mean or the square-root rate."""
        if self.learning_rate == "mean":
            return batch_counts / counts
        rate = (batch_counts / batch_counts.sum()).sqrt()
        return torch.where(counts > batch_counts, rate, 1)

    def is_empty(self, counts: Tensor) -> Tensor:
        """Return which clusters never had a row."""
        return counts <= 0


@dataclass(frozen=True)
class Decay:
    """The running mean of a fading past, for streams that drift.

    After ``half_life`` rows (more exactly: that much weight) a batch counts half. A cluster
    whose faded count falls below a small share of the average counts as empty.

    Args:
        half_life: in rows; None is half of one pass, where the number of rows is known.
        forgotten: the share of the average count that a cluster has lost its rows with;
            0 is one that never had any.

    Raises:
        TypeError: not a number.
        ValueError: a half-life that is not above 0, a share below 0.

    Example:
        >>> import torch
        >>> Decay(half_life=100).kept(torch.tensor(100.0))
        tensor(0.5000)
    """

    half_life: float | None = None
    forgotten: float = 1e-3
    streaming = True

    def __post_init__(self) -> None:
        check_number("forgotten", self.forgotten, 0)
        if self.half_life is not None:
            check_number("half_life", self.half_life, 0, above=True)

    def for_rows(self, n: int) -> Decay:
        """Return the rule with a half-life: the one given, or half of ``n`` rows."""
        if self.half_life is not None:
            return self
        return replace(self, half_life=_HALF_LIFE_IN_PASSES * n)

    def kept(self, batch_weight: Tensor) -> Tensor:
        """Return ``2 ** (-batch weight / half-life)``."""
        if self.half_life is None:
            raise ValueError(
                "decay needs a half_life in rows where the length of a pass is not known, got None"
            )
        return torch.exp2(-batch_weight / self.half_life)

    def rate(self, batch_counts: Tensor, counts: Tensor) -> Tensor:
        """Return batch count over faded count."""
        return batch_counts / counts

    def is_empty(self, counts: Tensor) -> Tensor:
        """Return which clusters have faded below that share of the average count."""
        return counts <= self.forgotten * counts.mean()


RULES: dict[str, UpdateRule] = {
    "lloyd": Lloyd(),
    "minibatch": MiniBatch(),
    "minibatch-sqrt": MiniBatch(learning_rate="sqrt"),
    "decay": Decay(),
}


def as_rule(solver: str | UpdateRule, also: Iterable[str] = (), name: str = "solver") -> UpdateRule:
    """Return the rule of a name, or the rule itself; names ``also`` known are no rules.

    A message has the ``name`` of the parameter.

    Raises:
        ValueError: an unknown name; the message lists the known ones.

    Example:
        >>> as_rule("decay")
        Decay(half_life=None, forgotten=0.001)
    """
    if isinstance(solver, UpdateRule) and not isinstance(solver, type):
        return solver
    return RULES[check_known(name, solver, [*RULES, *also])]
