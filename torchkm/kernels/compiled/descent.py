"""Passes over narrow rows that are kept in runs, one after the other in one call.

Such a pass takes less time than to call it. What each does is ``solvers/descent.py``'s to say.
"""

from __future__ import annotations

import numpy as np

from torchkm.kernels.compiled.jit import in_order
from torchkm.kernels.compiled.kept import add_up, label_runs, label_runs_on_threads


@in_order
def descend(rows, clusters, aims, centroids, means, momentum, limits, figures, n_threads):
    """Make passes until they move the means little enough, or there is no room for figures.

    A pass that leaves a cluster without rows goes only as far as to find that out.

    Args:
        rows: ``columns (g, d, RUN)``, ``weights (n,)`` or none, their ``origin (d,)``, how many
            they are and their squares added up.
        clusters: labels ``(2, >= n)`` of passes that take turns, whose turn was last, ``totals
            (k, d + 2)``, and whether all rows are to be added up.
        aims: room for what rows are scored against, in float64 and in their dtype, ``(k, d + 2)``;
            and whether it is there for the first pass.
        centroids: where to begin, ``(k, d)``; then, where to look next.
        means: of the clusters, after the last pass and then after these, ``(k, d)``.
        momentum: the most of it, steps so far, and the inertia of the last.
        limits: movement that is none, and whether that is instead what the choice of the rows may
            cause; of a number the share that is rounding, and of its distance from the origin.
        figures: ``(p, 3)``, room for the inertia, movement and labels changed of each pass.
        n_threads: how many to take, or None for this one alone.

    Returns:
        How many passes were finished, clusters without rows, and steps so far.
    """
    columns, weights, origin, n, squares = rows
    labels, turn, totals, anew = clusters
    aim, against, aimed = aims
    most, n_steps, last = momentum
    still, on_part, rounding, rounding_of_sums = limits
    for made in range(len(figures)):
        if made or not aimed:
            _aim_at(centroids, origin, aim, against)
        before, turn = labels[turn][:n], 1 - turn
        now = labels[turn][:n]
        if n_threads is None:  # then Numba compiles no more than this
            label_runs(columns, against, now)
        else:
            label_runs_on_threads(columns, against, now)
        n_changed = add_up(columns, weights, before, now, anew and made == 0, totals, n_threads)
        n_empty = _empty(totals)
        inertia = squares - 2 * _across(totals, aim)
        figures[made, 0], figures[made, 2] = inertia, n_changed
        if n_empty:
            return made, n_empty, n_steps
        n_steps = 0 if inertia > last else n_steps + 1
        last = inertia
        ahead = min(most, (n_steps - 1) / (n_steps + 2)) if n_steps > 1 else 0.0
        moved = _move(centroids, means, totals, origin, ahead, rounding, rounding_of_sums)
        figures[made, 1] = moved
        if moved <= (_noise(inertia, n, totals) if on_part else still):
            return made + 1, 0, n_steps
    return len(figures), 0, n_steps


@in_order
def _aim_at(centroids, origin, aim, against):
    """Write ``[c, -|c|^2 / 2, 0]`` for each of ``centroids (k, d)``, less the origin."""
    k, d = centroids.shape
    for c in range(k):
        square = 0.0
        for j in range(d):
            number = np.float64(centroids[c, j]) - origin[j]
            square += number * number
            aim[c, j] = number
            against[c, j] = number
        aim[c, d] = square / -2
        against[c, d] = square / -2


@in_order
def _empty(totals):
    """Return how many clusters have no members; there is nothing in their ``totals`` then."""
    n_empty, last = 0, totals.shape[1] - 1
    for c in range(len(totals)):
        if totals[c, last] == 0:
            n_empty += 1
            totals[c] = 0
    return n_empty


@in_order
def _across(totals, aim):
    out = 0.0
    for c in range(len(totals)):
        for j in range(aim.shape[1] - 1):
            out += totals[c, j] * aim[c, j]
    return out


@in_order
def _move(centroids, means, totals, origin, ahead, rounding, rounding_of_sums):
    """Write the new means, and to where they are on the way; return how far they moved."""
    k, d = centroids.shape
    moved = 0.0
    for c in range(k):
        for j in range(d):
            start, before = centroids[c, j], means[c, j]
            means[c, j] = origin[j] + totals[c, j] / totals[c, d]
            mean = means[c, j]
            apart = np.float64(mean) - start
            limit = rounding * abs(start) + rounding_of_sums * abs(start - origin[j])
            moved += apart * apart if abs(apart) > limit else 0.0
            centroids[c, j] = mean + ahead * (np.float64(mean) - before) if ahead > 0 else mean
    return moved


@in_order
def _noise(inertia, n_rows, totals):
    """Return by how much the choice of ``n_rows`` may move the means, in squares summed."""
    spread = 0.0
    for c in range(len(totals)):
        spread += 1 / totals[c, totals.shape[1] - 2]
    return inertia / n_rows * spread
