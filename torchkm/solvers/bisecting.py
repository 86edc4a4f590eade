"""Bisecting k-means: one cluster is parted in two, again and again.

Source: Steinbach, Karypis and Kumar 2000, "A comparison of document clustering techniques".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torchkm.functional import ClusterStats
from torchkm.functional.assignment import nearest, sq_distances_to
from torchkm.functional.problem import Problem

# What parts a cluster: from its rows and 2 to two centroids ``(2, d)`` and the labels ``(m,)`` of
# the rows; from 1 to their mean ``(1, d)`` and zeros.
Part = Callable[[Problem, int], tuple[Tensor, Tensor]]

STRATEGIES = ("biggest_inertia", "largest_cluster")


class Tree(NamedTuple):
    """Clusters that were parted, in the order in which they were.

    Attributes:
        root: the centroid ``(1, d)`` of all rows, where none was parted.
        pairs: the two centroids of each, ``(s, 2, d)``.
        children: where each side leads, ``(s, 2)``: a later cluster that was parted, or ``-1 -
            label`` where it was not.
    """

    root: Tensor
    pairs: Tensor
    children: Tensor

    @property
    def centroids(self) -> Tensor:
        """The centroids ``(s + 1, d)`` of the clusters that were not parted, by label."""
        if not len(self.pairs):
            return self.root
        ends = self.children < 0  # (s, 2)
        return self.pairs[ends][self.children[ends].argsort(descending=True)]


@dataclass
class _Leaf:
    index: Tensor  # (m,) its rows
    score: float
    side: tuple[int, int]  # which split it came from, and which of the two it is


@torch.no_grad()
def bisect(problem: Problem, k: int, strategy: str, part: Part) -> tuple[Tree, Tensor]:
    """Part clusters until there are ``k`` of them; return the tree and the labels ``(n,)``.

    Clusters are numbered from left to right in the tree.
    """
    n, device = len(problem.x), problem.origin.device
    if k == 1:
        root, labels = part(problem, 1)
        nowhere = torch.empty(0, 2, dtype=torch.int64, device=device)
        return Tree(root, root.new_empty(0, 2, root.shape[1]), nowhere), labels
    leaves = [_Leaf(torch.arange(n, device=device), 0.0, (-1, 0))]
    pairs: list[Tensor] = []
    children: list[list[int]] = []
    while len(leaves) < k:
        place = max(range(len(leaves)), key=lambda i: _urgency(leaves[i]))
        leaf, number = leaves[place], len(pairs)
        if leaf.side[0] >= 0:
            children[leaf.side[0]][leaf.side[1]] = number
        rows = problem.take(leaf.index)
        pair, its = part(rows, 2)
        pairs.append(pair)
        children.append([-1, -1])
        scores = _scores(rows, pair, its, strategy)
        leaves[place : place + 1] = [
            _Leaf(leaf.index[its == side], scores[side], (number, side)) for side in (0, 1)
        ]
    labels = torch.empty(n, dtype=torch.int64, device=device)
    for label, leaf in enumerate(leaves):
        labels[leaf.index] = label
        children[leaf.side[0]][leaf.side[1]] = -1 - label
    stacked = torch.stack(pairs)
    return Tree(stacked[0, :1], stacked, torch.tensor(children, device=device)), labels


@torch.no_grad()
def descend(problem: Problem, tree: Tree) -> Tensor:
    """Return the labels ``(n,)`` of rows that go down the tree to the nearer side each time."""
    first = 0 if len(tree.pairs) else -1
    at = torch.full((len(problem.x),), first, device=tree.children.device)
    for number, (pair, children) in enumerate(zip(tree.pairs, tree.children, strict=True)):
        index = torch.nonzero(at == number).squeeze(1)  # (m,)
        if len(index):
            at[index] = children[nearest(problem.take(index), pair).labels]
    return -1 - at


def _urgency(leaf: _Leaf) -> tuple[bool, float]:
    """Return what says which cluster is to be parted: one of two rows at least."""
    return leaf.index.numel() > 1, leaf.score


def _scores(rows: Problem, pair: Tensor, labels: Tensor, strategy: str) -> list[float]:
    """Return how much each side of a cluster wants to be parted, of rows with ``labels (m,)``."""
    weight = None
    if strategy == "biggest_inertia":
        sq_distances = sq_distances_to(rows, pair, labels)
        weight = sq_distances if rows.sample_weight is None else sq_distances * rows.sample_weight
    return ClusterStats.counted(labels, weight, 2).tolist()
