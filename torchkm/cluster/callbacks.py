"""scikit-learn's callbacks, told of every pass, and a bar that shows how a fit goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from torchkm.cluster.kinds import Kind
from torchkm.solvers import PassRecord, Status

__all__ = ["CallbackSupportMixin", "PassBar", "Watcher", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks: these take their names
    F = TypeVar("F", bound=Callable[..., Any])

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn cannot be told of passes."""

    def with_callbacks(method: F) -> F:
        """Return ``method`` as it is."""
        return method


class Watcher:
    """Passes each record on: to ``verbose`` lines and to the callbacks of an estimator.

    Args:
        estimator: whose fit it is.
        X: its rows, as they came.
        kind: of them.
    """

    def __init__(self, estimator: Any, X: Any, kind: Kind) -> None:
        self._estimator, self._X, self._kind = estimator, X, kind
        self._context = None
        if getattr(estimator, "_skl_callbacks", None):
            self._context = estimator._init_callback_context(max_subtasks=None)
            self._context.call_on_fit_task_begin(estimator=estimator, X=X)

    @property
    def watch(self) -> Watcher | None:
        """The watcher, where anybody wants to know."""
        return self if self._context is not None or self._estimator.verbose else None

    def __call__(self, record: PassRecord, centroids: Tensor) -> bool:
        """Tell of a pass; return whether a callback wants the fit to end."""
        if self._estimator.verbose:
            print(_line(record))
        if self._context is None:
            return False
        task = self._context.subcontext(task_name="pass")
        task.call_on_fit_task_begin(estimator=self._estimator, X=self._X)
        stop: bool = task.call_on_fit_task_end(
            estimator=self._estimator,
            X=self._X,
            metadata=record._asdict(),
            reconstruction_attributes=lambda: {"cluster_centers_": self._kind.give(centroids)},
        )
        return stop

    def end(self, status: Status | None = None) -> None:
        """Tell that the fit is over, why, and that its estimator is ready."""
        if self._estimator.verbose and status is not None:
            print(f"Ended: {status.message}.")
        if self._context is not None:
            self._context.call_on_fit_task_end(estimator=self._estimator, X=self._X)


class PassBar:
    """A callback that shows a line with the passes made and the inertia, where one can be seen.

    For ``estimator.set_callbacks(PassBar())``; ``sklearn.callback.ProgressBar`` works as well.

    Parameters
    ----------
    **settings
        Of ``tqdm.tqdm``, as ``file`` or ``leave``. Without ``disable=False`` there is no line
        where the output is not a terminal.

    Examples
    --------
    >>> from torchkm.cluster import KMeans, PassBar
    >>> KMeans(2, random_state=0).set_callbacks(PassBar()).fit([[0.0], [1.0], [9.0]])
    KMeans(n_clusters=2, random_state=0)
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin the line."""
        from tqdm import tqdm

        settings = {"desc": context.estimator_name, "unit": "pass", "disable": None}
        self._bar = tqdm(**settings | self.settings)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Wait for the pass to end."""

    def on_fit_task_end(self, estimator: Any, context: Any, *, metadata: Any = None) -> None:
        """Count the pass and show what it saw."""
        if metadata is not None and "inertia" in metadata:
            self._bar.set_postfix(inertia=f"{metadata['inertia']:.6g}", refresh=False)
            self._bar.update()

    def teardown(self, estimator: Any, context: Any) -> None:
        """End the line."""
        self._bar.close()


def _line(record: PassRecord) -> str:
    return f"Iteration {record.n_iter}, inertia {record.inertia}, rows {record.n_rows}."
