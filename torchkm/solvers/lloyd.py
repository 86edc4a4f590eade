"""Lloyd's passes: the loop of ``loop.py`` with labels that are followed from pass to pass."""

from __future__ import annotations

from torch import Tensor

from torchkm.functional.problem import Problem
from torchkm.solvers.descent import Descent
from torchkm.solvers.loop import Fit, Stopping, status_of
from torchkm.solvers.outcome import Status


def lloyd(problem: Problem, centroids: Tensor, stopping: Stopping) -> Fit:
    """Pass over all rows until the labels repeat, the centroids rest, or a limit is reached."""
    descent = Descent(problem, None, centroids, "auto", None, most_momentum=0)
    descent.admit(len(problem.x))
    while True:
        start = descent.centroids
        record = descent.step()
        status = status_of(record, descent.means, stopping)
        if status is not None:
            end = start if status is Status.LABELS_UNCHANGED else descent.means
            return descent.end_at(end, status)
