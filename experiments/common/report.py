"""What a run tells and leaves: settings, scores as a file, in TensorBoard and as a table."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jsonargparse import Namespace

from common.flags import settings

if TYPE_CHECKING:
    from pytorch_lightning.loggers import TensorBoardLogger

    from torchkm.lightning import ArrayDataModule
    from torchkm.solvers import Status

CONFIG_FILE = "config.yaml"
_METRICS_FILE = "metrics.json"

# Flags that say where a run happens, not what it does.
_NOT_HYPERPARAMETERS = ("accelerator", "data_root", "devices", "output_dir")


class Outcome(NamedTuple):
    """How a fit went."""

    n_iter: int
    status: Status
    seconds: float
    accelerator: str
    scores: dict[str, dict[str, float]]


def save_config(flags: Namespace, run_dir: Path) -> None:
    """Write the resolved flags, from which the run can be made again or resumed."""
    import yaml

    (run_dir / CONFIG_FILE).write_text(yaml.safe_dump(settings(flags), sort_keys=False))


def has_converged(run_dir: Path, tol: float) -> bool:
    """Return whether the run in ``run_dir`` has come to rest by a tolerance no larger than this."""
    import yaml

    scores = run_dir / _METRICS_FILE
    if not scores.is_file() or json.loads(scores.read_text())["status"] != "tolerance":
        return False
    made_with = yaml.safe_load((run_dir / CONFIG_FILE).read_text())
    return bool(tol >= made_with["tol"])


def report(flags: Namespace, data: ArrayDataModule, run_dir: Path, outcome: Outcome) -> None:
    """Write metrics.json, and print the closing table."""
    summary = {
        "dataset": data.name,
        "n_train": data.n_rows("train"),
        "n_test": data.n_rows("test"),
        "k": flags.k,
        "seed": flags.seed,
        "accelerator": outcome.accelerator,
        "n_iter": outcome.n_iter,
        "status": outcome.status.value,
        "fit_seconds": round(outcome.seconds, 3),
        **outcome.scores,
    }
    (run_dir / _METRICS_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    passes = "1 pass" if outcome.n_iter == 1 else f"{outcome.n_iter} passes"
    print(f"\n{passes} in {outcome.seconds:.1f} s: {outcome.status.message}")
    print(f"{'':8}{'rows':>8}{'inertia':>16}{'homogeneity':>13}{'accuracy':>10}")
    for split, scores in outcome.scores.items():
        print(
            f"{split:8}{data.n_rows(split):8,}{scores['inertia']:16,.1f}"
            f"{scores['homogeneity']:13.4f}{scores['accuracy']:10.4f}"
        )
    folder = shlex.quote(str(run_dir.parent))
    print(f"\nEverything is in {run_dir}. To look at it:\n  tensorboard --logdir {folder}")


def log_settings(
    flags: Namespace, logger: TensorBoardLogger, scores: dict[str, dict[str, float]]
) -> None:
    """Fill TensorBoard's tab of hyper-parameters: what made this run, beside what it scored."""
    from torch.utils.tensorboard import summary

    given = {name: v for name, v in settings(flags).items() if name not in _NOT_HYPERPARAMETERS}
    tags = {f"{split}/{name}": v for split, found in scores.items() for name, v in found.items()}
    # Lightning's own call would log each score once more, under a tag of its own.
    parts = cast("Any", summary).hparams(given, tags)  # torch leaves it untyped
    for part in parts:
        logger.experiment.file_writer.add_summary(part)
