"""What palettize.py found, as a line, a page and a picture."""

from __future__ import annotations

from typing import Any

import torch

from common.over_seeds import spread

_TITLES = {
    "float": "32 bits, not clustered",
    "k-means": "post-training k-means",
    "implicit": "`implicit`",
    "unroll": "`unroll`",
    "one_step": "`one_step`",
    "envelope": "`envelope`: palettes held constant",
}

_COLOURS = {
    "implicit": "#4c6a92",
    "unroll": "#4c9a6a",
    "one_step": "#c8452f",
    "envelope": "#d9a441",
    "k-means": "#999999",
}


def as_line(found: dict[str, Any]) -> str:
    """Return a row for the terminal."""
    steps = f", {found['n_iter']} steps" if "n_iter" in found else ""
    return f"{found['bits']} bits, {found['method']}{steps}: test {spread(found['test'])}"


def as_page(known: dict[str, Any]) -> str:
    """Return the page of results, from what the file holds."""
    settings, cost = known["settings"], known["costs"][0]
    n_seeds, epochs = len(settings["seeds"]), settings["fine_tuning"]
    return f"""\
# Weights of few numbers

Written by `experiments/palettize.py` from `palettize.json`: a convolutional network of
{known["n_weights"]:,} weights on {known["data"]}, tuned for {epochs} epoch{"s" * (epochs > 1)} with
each layer's weights as means of a palette, which so many soft Lloyd steps find anew in every
training step; scored with the palette's numbers alone. Test accuracy, mean and standard deviation
over {n_seeds} seeds, none left out. Rates and temperatures were chosen by the validation images,
whose accuracy is in the file, and are the same for all rows.

{as_table(known)}

What a training step of all {n_seeds} seeds costs at {cost["bits"]} bits, medians of
{len(cost["runs"])} each way in turn, on {known["machine"]["torch_threads"]} threads of
{known["machine"]["processor"]}. Kept is what autograd holds of the palettes for the backward pass.

{as_costs(known["costs"])}
"""


def as_table(known: dict[str, Any]) -> str:
    """Return the accuracies as a table in Markdown."""
    all_bits = known["settings"]["bits"]
    heads = " | ".join(f"{bits} bit{'s' if bits > 1 else ''}" for bits in all_bits)
    lines = [f"| weights | steps | {heads} |", "|---|---|" + "---|" * len(all_bits)]
    keys = dict.fromkeys((run["method"], run.get("n_iter", "")) for run in known["runs"])
    for method, n_iter in keys:
        some = {
            run["bits"]: spread(run["test"])
            for run in known["runs"]
            if (run["method"], run.get("n_iter", "")) == (method, n_iter)
        }
        cells = " | ".join(some.get(bits, some.get(32, "")) for bits in all_bits)
        lines.append(f"| {_TITLES[method]} | {n_iter} | {cells} |")
    return "\n".join(lines)


def as_costs(costs: list[dict[str, Any]]) -> str:
    """Return time and memory as a table in Markdown."""
    lines = ["| steps | gradient | a training step, ms | kept, MB |", "|---|---|---|---|"]
    for cost in costs:
        lines.append(
            f"| {cost['n_iter']} | `{cost['method']}` | {1e3 * cost['seconds']:.0f} | "
            f"{cost['kept_bytes'] / 2**20:.1f} |"
        )
    return "\n".join(lines)


def draw(known: dict[str, Any]) -> Any:
    """Draw memory and time over the steps, and error after most of them over the bits."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator

    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    memory, seconds, error = figure.subplots(1, 3)
    for axes, what, scale in ((memory, "kept_bytes", 2**-20), (seconds, "seconds", 1e3)):
        for name in known["settings"]["gradients"]:
            some = [cost for cost in known["costs"] if cost["method"] == name]
            heights = [scale * cost[what] for cost in some]
            axes.loglog([cost["n_iter"] for cost in some], heights, "o-", color=_COLOURS[name])
        axes.set_xticks(known["settings"]["n_iters"], known["settings"]["n_iters"])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if axes is seconds else NullFormatter())
        axes.set_xlabel("soft Lloyd steps")
    memory.set_title("kept for the backward pass, MB", fontsize=10, loc="left")
    seconds.set_title("a training step, ms", fontsize=10, loc="left")
    _draw_error(error, known)
    for axes in (memory, seconds, error):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_error(axes: Any, known: dict[str, Any]) -> None:
    most, bits = max(known["settings"]["n_iters"]), known["settings"]["bits"]
    names = ["k-means", *known["settings"]["gradients"]]
    for place, name in enumerate(names):
        some = [
            100 - 100 * torch.tensor(run["test"])
            for run in known["runs"]
            if run["method"] == name and run.get("n_iter", most) == most
        ]
        axes.errorbar(
            [i + 0.14 * (place - (len(names) - 1) / 2) for i in range(len(some))],
            [run.mean().item() for run in some],
            [run.std(correction=min(1, len(run) - 1)).item() for run in some],
            fmt="o",
            ms=4,
            color=_COLOURS[name],
            label=name.replace("_", " "),
        )
    (whole,) = [run["test"] for run in known["runs"] if run["method"] == "float"]
    axes.axhline(100 - 100 * sum(whole) / len(whole), color="#333333", lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xticks(range(len(bits)), [f"{some} bit{'s' if some > 1 else ''}" for some in bits])
    axes.set_title(f"test error after {most} steps, %", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
