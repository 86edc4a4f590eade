"""What bilevel.py found, as tables, a page and a picture."""

from __future__ import annotations

from statistics import mean
from typing import Any

from common.over_seeds import spread

_TITLES = {
    "planted": "Planted: two features with three classes, four of noise",
    "wine": "Wine: 13 features, three growers",
}
_COLOURS = {
    "implicit": "#4c6a92",
    "one_step": "#c8452f",
    "5 steps": "#d9a441",
    "unroll 10": "#9c6aa9",
    "unroll 100": "#4c9a6a",
    "envelope": "#999999",
}


def as_line(runs: list[dict[str, Any]]) -> str:
    """Return the runs of a gradient, one of each temperature, for the terminal."""
    each = ", ".join(
        f"{mean(run['validation_before']):.3f} -> {mean(run['validation']):.3f} "
        f"at {run['temperature']:g}"
        for run in runs
    )
    return f"{runs[0]['data']}, {runs[0]['gradient']}: score {each}"


def as_page(known: dict[str, Any]) -> str:
    """Return the page of results, from what the file holds."""
    settings = known["settings"]
    tables = "\n".join(
        f"## {_TITLES[data]}\n\n{as_table(known, data)}\n"
        for data in dict.fromkeys(run["data"] for run in known["runs"])
    )
    return f"""\
# Feature weights learnt through converged k-means

Written by `experiments/bilevel.py` from `bilevel.json`: mean and standard deviation over
{len(settings["seeds"])} seeds, none left out, after {settings["n_steps"]} steps of Adam at a rate
that falls from {settings["rate"]:g} to 0, the same for all. Temperatures are shares of the critical
one. Contraction is that of a soft Lloyd step at equal weights; cosine and length are those of the
first gradient by the true one, of central differences (medians). Scores are mean squared distances
of the centroids from the means of the classes, of validation rows (which are learnt by) and of test
rows (which are not); accuracy is that of the best matching on the test rows. All three are measured
afresh at the end, on converged centroids. A score jumps where the point at which steps come to rest
ceases to be one: there the contraction is near 1, and an exact gradient is large.

{tables}"""


def as_table(known: dict[str, Any], data: str, temperature: float | None = None) -> str:
    """Return how each gradient did as a table in Markdown, at one of the temperatures or at all."""
    lines = [
        "| temperature | contraction | gradient | cosine | length | validation score | test score "
        "| test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    runs = [run for run in known["runs"] if run["data"] == data]
    shares = dict.fromkeys(run["temperature"] for run in runs)
    for share in shares if temperature is None else [temperature]:
        some = [run for run in runs if run["temperature"] == share]
        lines.append(_line(some[0], "none: equal weights", "", "", "_before"))
        for run in some:
            numbers = [f"{_median(run[what]):.2f}" for what in ("cosine", "length")]
            lines.append(_line(run, f"`{run['gradient']}`", *numbers))
    return "\n".join(lines)


def _line(run: dict[str, Any], title: str, cosine: str, length: str, when: str = "") -> str:
    scores = (
        spread(run[f"{what}{when}"], digits) for what, digits in (("validation", 3), ("test", 3))
    )
    return (
        f"| {run['temperature']:g} | {mean(run['contraction_before']):.2f} | {title} | {cosine} | "
        f"{length} | {' | '.join(scores)} | {spread(run[f'accuracy{when}'], 3)} |"
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def draw(known: dict[str, Any]) -> Any:
    """Draw the score over the steps at the middle temperature, for each set of rows."""
    from matplotlib.figure import Figure

    data = list(dict.fromkeys(run["data"] for run in known["runs"]))
    figure = Figure(figsize=(4.8 * len(data), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(data), squeeze=False)[0], data, strict=True):
        runs = [run for run in known["runs"] if run["data"] == name]
        shares = sorted({run["temperature"] for run in runs})
        middle = shares[len(shares) // 2]
        for run in runs:
            if run["temperature"] != middle:
                continue
            gradient, colour = run["gradient"], _COLOURS[run["gradient"]]
            steps, curve = range(len(run["curve"])), run["curve"]
            width = 5 if gradient == "implicit" else 1.4  # seen beneath those that agree with it
            axes.plot(steps, curve, color=colour, lw=width, label=gradient.replace("_", " "))
            if gradient in ("implicit", "one_step"):
                ends = [*zip(curve, run["curve_deviation"], strict=True)]
                low, high = [at - by for at, by in ends], [at + by for at, by in ends]
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        axes.set_title(
            f"{name}, at {middle:g} of the critical temperature", fontsize=10, loc="left"
        )
        axes.set_xlabel("steps of Adam")
        axes.set_ylabel("validation score")
        axes.set_ylim(0, 2.2 * runs[0]["curve"][0])  # what goes further up has failed
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure
