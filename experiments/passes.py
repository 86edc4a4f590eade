"""Write what each pass over MNIST had to do to docs/results/passes.json.

    python experiments/passes.py

The counts do not depend on the machine's speed, only on whether it scores in bfloat16.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

import torchkm
from common.files import write_json
from common.machine import describe_machine
from common.mnist_rows import mnist, train_rows

_OUTPUT = Path(__file__).parents[1] / "docs/results/passes.json"
_SHOWN = (1, 2, 5, 10, 20, 30, 40)


def main() -> None:
    """Fit, write each pass and print some."""
    parser = ArgumentParser(prog="passes.py", description="Count the work of each pass.")
    root = os.environ.get("TORCHKM_DATA", "data")
    parser.add_argument("--data-root", type=str, default=root, help="Folder of MNIST.")
    parser.add_argument("--ks", type=list[int], default=[10, 64, 256], help="Ks.")
    parser.add_argument("--seed", type=int, default=0, help="Of the fits.")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="JSON file.")
    flags = parser.parse_args()
    x = train_rows(mnist(flags.data_root, "passes.py"))
    fits = []
    for k in flags.ks:
        generator = torch.Generator().manual_seed(flags.seed)
        result = torchkm.kmeans(x, k, generator=generator)
        passes = [record._asdict() for record in result.history]
        fits.append({"k": k, "precision": result.precision, "passes": passes})
    write_json(flags.output, {"machine": describe_machine(), "fits": fits})
    print(as_table(fits, len(x)))


def as_table(fits: list[dict[str, Any]], n: int) -> str:
    """Return shares of the rows for some of the passes over all ``n`` of them."""
    lines = ["| k | pass over all rows | label changed | scored | of those, in float32 again |"]
    lines.append("|---|---|---|---|---|")
    for fit in fits:
        whole = [record for record in fit["passes"] if record["n_rows"] == n]
        for number in _SHOWN:
            if number <= len(whole):
                record = whole[number - 1]
                scored = record["n_scored"]
                lines.append(
                    f"| {fit['k']} | {number} | {record['n_changed'] / n:.2%} "
                    f"| {scored / n:.1%} | {record['n_rescored'] / max(scored, 1):.1%} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
