"""``torchkm.nn.KMeans`` with Hugging Face's ``save_pretrained`` and ``from_pretrained``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from torchkm.functional.checks import check_known
from torchkm.functional.seeding import Init
from torchkm.nn import kmeans
from torchkm.solvers import RULES, UpdateRule

try:
    from huggingface_hub import PyTorchModelHubMixin
except ImportError as error:
    raise ImportError('torchkm.nn.hub needs huggingface_hub: pip install -e ".[hub]"') from error

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class KMeans(
    kmeans.KMeans,
    PyTorchModelHubMixin,
    library_name="torchkm-kmeans",
    tags=["k-means", "clustering"],
):
    """``torchkm.nn.KMeans`` that goes to a folder or the Hugging Face Hub, and comes back.

    ``save_pretrained(folder)`` writes what was learnt as safetensors and the arguments of this
    class, but for ``device``, as JSON. ``from_pretrained(folder_or_name)`` reads them; arguments
    given there go before those in the file, as ``device="cuda"``. ``push_to_hub`` is the mixin's.

    Args:
        k: number of clusters.
        n_features: width of the rows.
        rule: as for ``torchkm.nn.KMeans``, or as the JSON has it: ``{name: settings}``.
        init: as for ``torchkm.nn.KMeans``; a function cannot be saved.
        metric: ``"euclidean"`` or ``"cosine"``.
        device: of the buffers.
        dtype: of the centroids, or its name: ``"float32"`` or ``"float64"``.

    Raises:
        TypeError: sizes that are not integers.
        ValueError: sizes below 1, unknown names, a dtype below float32.

    Example:
        >>> import tempfile, torch
        >>> from torchkm.nn.hub import KMeans
        >>> module = KMeans.from_centroids(torch.tensor([[0.0], [8.0]]), rule="minibatch-sqrt")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     module.save_pretrained(folder)
        ...     loaded = KMeans.from_pretrained(folder)
        Loading weights from local directory
        >>> loaded.predict(torch.tensor([[1.0], [9.0]]))
        tensor([0, 1])
    """

    def __init__(
        self,
        k: int,
        n_features: int,
        *,
        rule: str | UpdateRule | Mapping[str, Any] = "minibatch",
        init: Init = "k-means++",
        metric: str = "euclidean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = torch.float32,
    ) -> None:
        super().__init__(
            k,
            n_features,
            rule=_rule(rule) if isinstance(rule, Mapping) else rule,
            init=torch.tensor(init) if isinstance(init, list) else init,
            metric=metric,
            device=device,
            dtype=_DTYPES[check_known("dtype", dtype, _DTYPES)]
            if isinstance(dtype, str)
            else dtype,
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> str | None:
        """Write what was learnt, the arguments and a model card to a folder.

        Args:
            save_directory: the folder; made where it is not there.
            kwargs: of the mixin: ``push_to_hub``, ``repo_id``, ``config``, ``model_card_kwargs``.

        Returns:
            The address on the Hub where it was pushed, else None.

        Raises:
            TypeError: a rule that is none of torchkm's, or a function as ``init``.
        """
        kwargs["config"] = kwargs.get("config") or self._arguments()
        return super().save_pretrained(save_directory, **kwargs)

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that make such a module, as JSON has them."""
        return {
            "k": self.k,
            "n_features": self.n_features,
            "rule": _plain_rule(self.rule),
            "init": _plain_init(self.init),
            "metric": self.metric,
            "dtype": str(self.centroids.dtype).removeprefix("torch."),
        }


def _plain_rule(rule: UpdateRule) -> str | dict[str, Any]:
    """Return the name of a rule, or its name and settings."""
    for name, known in RULES.items():
        if rule == known:
            return name
    for name, known in RULES.items():
        if type(rule) is type(known) and is_dataclass(rule):
            return {name: asdict(rule)}
    raise TypeError(f"rule must be one of torchkm's to be saved, got {rule!r}")


def _rule(plain: Mapping[str, Any]) -> UpdateRule:
    """Return the rule of ``{name: settings}``."""
    (name, settings), *_ = plain.items()
    known: Any = RULES[check_known("rule", name, RULES)]
    return replace(known, **settings)


def _plain_init(init: Any) -> Any:
    """Return ``init`` as a name or a list of numbers."""
    if isinstance(init, str):
        return init
    if callable(init):
        raise TypeError(f"init must be a name or an array to be saved, got {init!r}")
    return torch.as_tensor(init).tolist()
