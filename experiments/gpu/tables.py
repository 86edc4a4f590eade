"""What ``benchmark.py --device cuda`` found, as tables in Markdown."""

from __future__ import annotations

from typing import Any

from gpu.ceilings import Ceilings

LEGEND = """\
A pass labels all rows and moves all centroids. Those timed follow `passes[0]` others from rows
drawn at random, the same for all but fastkmeans, which draws its own. torchkm moves the rows whose
label changed; 'all sums anew' adds all of them up in every pass. The floor is the longer of one
read of the rows, as the contender keeps them, and of the product, at the ceilings of this run.
Labels: the share that float64 gives too, in the first pass; of fits, at the end. A job is all that
run.py does once it is imported and its kernels are compiled."""

_PASSES = "| shape | | us a pass | floor | over floor | against torchkm | labels | moved | target |"
_FITS = "| | k | | ms | slowest | inertia | passes | status | labels |"


def ceilings(found: Ceilings, machine: dict[str, Any]) -> str:
    """Return the card and what it does at most, in a line."""
    rates = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in found.rates.items())
    return (
        f"{machine['gpu']}, torch {machine['torch']}, triton {machine.get('triton')}: copies "
        f"{found.bandwidth / 1e12:.2f} TB/s; products {rates} TFLOP/s"
    )


def passes(rows: list[dict[str, Any]]) -> str:
    """Return all timed passes as a table."""
    return "\n".join([_PASSES, _rule(_PASSES), *map(line, rows)])


def line(row: dict[str, Any]) -> str:
    """Return one contender at one shape."""
    over, target = row.get("over_torchkm"), row["target"]
    moved = row.get("moved")
    cells = [
        f"{row['group']}: {row['shape']}",
        row["contender"],
        f"{row['seconds'] * 1e6:.1f}",
        f"{row['floor'] * 1e6:.1f}",
        f"{row['over_floor']:.2f}",
        "" if over is None else f"{over:.2f}",
        f"{row['check']['agreement']:.6f}",
        "" if moved is None else f"{moved:.2%}",
        "" if target is None else f"{target:g}",
    ]
    return f"| {' | '.join(cells)} |"


def fits(rows: list[dict[str, Any]]) -> str:
    """Return all timed seedings and fits as a table."""
    return "\n".join([_FITS, _rule(_FITS), *map(fit_line, rows)])


def fit_line(row: dict[str, Any]) -> str:
    """Return one contender at one k."""
    runs = row["fits"]
    agreement = [one["agreement"] for one in runs if "agreement" in one]
    cells = [
        row["group"],
        str(row["k"]),
        row["contender"],
        f"{row['seconds'] * 1e3:.2f}",
        f"{max(one['seconds'] for one in runs) * 1e3:.2f}",
        f"{row['inertia']:,.0f}",
        _each(one["n_iter"] for one in runs),
        _each(one["status"] for one in runs),
        f"{min(agreement):.6f}" if agreement else "",
    ]
    return f"| {' | '.join(cells)} |"


def _each(values: Any) -> str:
    """Return the different values there are."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _rule(head: str) -> str:
    return "|" + "---|" * (head.count("|") - 1)
