"""Cluster MNIST by k-means inside an autoencoder: a ladder of methods, without labels.

    python experiments/deep_clustering.py --device cuda
    python experiments/deep_clustering.py --reduced --rows kmeans ae_kmeans --seeds 0 1 2

All seeds of a row are trained at once. After each row docs/results/deep_clustering.json has its
scores, and docs/results/deep_clustering.md is written anew from that file; TensorBoard's scalars
are under runs/. Labels are used for scores alone: no size, rate or epoch was chosen by them, and
nothing is stopped by them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from common.files import known, write_json
from common.over_seeds import Scalars, spread
from deep import own as deep_own
from deep import rows as deep_rows
from deep.images import load
from deep.rows import Sizes, Study
from torchkm.metrics.functional import hungarian_accuracy, normalized_mutual_info

_ROOT = Path(__file__).parent.parent


class Row(NamedTuple):
    """A method of the ladder.

    Attributes:
        title: in the table.
        published: accuracy on all 70,000 images, with its source.
        labels: of each seed ``(s, n)``.
    """

    title: str
    published: str
    labels: Callable[[Study], Tensor]


ROWS = {
    "kmeans": Row("k-means on pixels", "0.535 (a)", deep_rows.raw_kmeans),
    "ae_kmeans": Row("autoencoder, then k-means", "0.808 (a)", deep_rows.autoencoder_kmeans),
    "dkm_annealed": Row("deep k-means, annealed", "0.823 (a)", deep_rows.deep_kmeans_annealed),
    "dkm_pretrained": Row(
        "deep k-means, pre-trained", "0.840 (a)", deep_rows.deep_kmeans_pretrained
    ),
    "dcn": Row("DCN", "0.811 (a), 0.83 (b)", deep_rows.dcn),
    "dcn_resets": Row("DCN with soft resets", "0.964 (c), augmented", deep_rows.dcn_resets),
    "ours_plain": Row("ours", "0.984 (f)", deep_own.without_views),
    "ours": Row("ours, with views", "0.985 (d), 0.988 (e)", deep_own.with_views),
}

_SOURCES = """\
Published, accuracy on all 70,000 images: (a) Fard, Thonon and Gaussier, arXiv:1806.10069, table 2;
(b) Yang et al., arXiv:1610.04794; (c) Miklautz et al., arXiv:2411.02275; (d) ConvDEC-DA, Guo et
al. 2018; (e) ASPC-DA, Guo et al. 2019; (f) IMSAT, Hu et al., arXiv:1702.08720. Quoted from
secondary notes; see the papers before citing.
"""


def main(argv: list[str] | None = None) -> None:
    """Run the rows that are asked for, and write down each as it ends."""
    flags = parse(argv)
    torch.set_float32_matmul_precision("high")
    device = torch.device(flags.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        images = load(flags.data, flags.data_root, flags.images, device)
    except FileNotFoundError as error:
        raise SystemExit(f"deep_clustering.py: error: {error}") from None
    size = "reduced" if flags.reduced else "full"
    print(f"{images.name}: {len(images.rows):,} images, {size} size, seeds {flags.seeds}, {device}")
    with Scalars(Path(flags.output_dir) / f"deep-{images.name}", flags.seeds) as scalars:
        study = Study(images, flags.k, flags.seeds, sizes(flags), scalars.log, flags.graph)
        for name in flags.rows:
            found = measured(name, study)
            found |= {"data": images.name, "images": len(images.rows)}
            found |= {"sizes": dataclasses.asdict(study.sizes), "machine": machine(device)}
            scalars.log(name, 0, as_tensors(found["runs"], "accuracy", "nmi"))
            keep(flags.output, size, name, found)
            print(as_line(name, found), flush=True)


def keep(path: Path, size: str, name: str, found: dict[str, Any]) -> None:
    """Put a row in the file of results, and write the page beside it anew."""
    report = known(path)
    report.setdefault(size, {})[name] = found
    write_json(path, report)
    path.with_suffix(".md").write_text(as_page(report))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the flags; those of the command line override those of the file."""
    parser = argparse.ArgumentParser(prog="deep_clustering.py", allow_abbrev=False)
    add = parser.add_argument
    add("--config", type=Path, default=_ROOT / "configs/deep_clustering.yaml", help="YAML file.")
    add("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="Methods, in order.")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="Trained at once.")
    add("--reduced", action="store_true", help="The sizes under 'reduced' in the file.")
    add("--data", choices=["mnist", "digits"], default="mnist")
    add("--data-root", default=os.environ.get("TORCHKM_DATA", "data"), help="Has MNIST/raw.")
    add("--images", type=int, default=None, help="How many. Left out: all.")
    add("--k", type=int, default=10, help="Number of clusters.")
    add("--device", default=None, help="Left out: a GPU where there is one.")
    add("--no-graph", dest="graph", action="store_false", help="Capture no step on a GPU.")
    add("--output", type=Path, default=_ROOT / "docs/results/deep_clustering.json")
    add("--output-dir", default="runs", help="Folder of TensorBoard's events.")
    add("--print_config", action="store_true", help="Print the flags as YAML, and end.")
    parser.set_defaults(sizes={})
    first, _ = parser.parse_known_args(argv)
    given = yaml.safe_load(first.config.read_text())
    given = given | given.pop("reduced", {}) if first.reduced else given
    given.pop("reduced", None)
    known = {one.name for one in dataclasses.fields(Sizes)}
    own = {name: given.pop(name) for name in list(given) if name in known}
    strange = set(given) - set(vars(first))
    if strange:
        parser.error(f"{first.config} has names that are not known: {', '.join(sorted(strange))}")
    parser.set_defaults(**given, sizes=own)
    flags = parser.parse_args(argv)
    if flags.print_config:
        whole = {name: value for name, value in vars(flags).items() if name != "sizes"} | own
        plain = {n: str(v) if isinstance(v, Path) else v for n, v in whole.items()}
        print(yaml.safe_dump(plain))
        raise SystemExit(0)
    return flags


def sizes(flags: argparse.Namespace) -> Sizes:
    """Return the sizes that the file gives."""
    return Sizes(**flags.sizes)


def measured(name: str, study: Study) -> dict[str, Any]:
    """Return the scores of each seed of a row, and the time of all."""
    begun = time.perf_counter()
    labels = ROWS[name].labels(study)
    if labels.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    runs = [
        {
            "seed": seed,
            **scores(own, study.images.classes),
            "counts": own.bincount(minlength=study.k).tolist(),
        }
        for seed, own in zip(study.seeds, labels.cpu(), strict=True)
    ]
    return {"runs": runs, "agreement": agreement(labels.cpu()), "seconds": round(seconds, 1)}


def agreement(labels: Tensor) -> float | None:
    """Return how far seeds agree on ``labels (s, n)``, on average of all pairs; None of one.

    By the best matching of their clusters: what can be known of a clustering without classes.
    """
    pairs = [hungarian_accuracy(one, other).item() for one, other in combinations(labels, 2)]
    return round(mean(pairs), 6) if pairs else None


def scores(labels: Tensor, classes: Tensor) -> dict[str, float]:
    """Return accuracy by the best matching, and normalised mutual information (arithmetic)."""
    return {
        "accuracy": round(hungarian_accuracy(labels, classes).item(), 6),
        "nmi": round(normalized_mutual_info(labels, classes).item(), 6),
    }


def as_tensors(runs: list[dict[str, Any]], *tags: str) -> dict[str, Tensor]:
    """Return numbers of all seeds ``(s,)`` by name."""
    return {tag: torch.tensor([run[tag] for run in runs]) for tag in tags}


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the times depend on."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def as_line(name: str, found: dict[str, Any]) -> str:
    """Return a row for the terminal."""
    each = " ".join(f"{run['accuracy']:.4f}" for run in found["runs"])
    return f"{name}: accuracy {each}, {found['seconds']:.1f} s"


def as_page(known: dict[str, Any]) -> str:
    """Return the page of results, from what the file holds."""
    parts = ["# Deep clustering of MNIST\n"]
    parts.append(
        "Written by `experiments/deep_clustering.py` from `deep_clustering.json`: mean and standard"
        "\ndeviation over seeds, none left out. Accuracy is that of the best matching of clusters"
        "\nto classes; NMI has the arithmetic mean below. Agreement is the accuracy of one seed by"
        "\nanother, on average of all pairs: no class is looked at. Classes are used for scores"
        "\nalone.\n"
    )
    parts.append(f"## All 70,000 images\n\n{as_table(known.get('full', {}))}\n")
    reduced = known.get("reduced", {})
    count = {f"{found['images']:,}" for found in reduced.values()}
    title = f" ({', '.join(sorted(count))} images)" if count else ""
    parts.append(
        f"## Reduced size{title}\n\nSmaller networks, trained for fewer epochs: a check that every"
        f" row runs, and no result.\n\n{as_table(reduced)}\n"
    )
    return "\n".join([*parts, _SOURCES])


def as_table(rows: dict[str, Any]) -> str:
    """Return the scores of all rows as a table in Markdown."""
    lines = [
        "| method | accuracy | NMI | agreement | seeds | time of all seeds | device | published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        if name not in rows:
            lines.append(f"| {row.title} | not measured | | | | | | {row.published} |")
            continue
        found = rows[name]
        agreed = "" if found["agreement"] is None else f"{found['agreement']:.4f}"
        own = [spread([run[what] for run in found["runs"]]) for what in ("accuracy", "nmi")]
        lines.append(
            f"| {row.title} | {own[0]} | {own[1]} | {agreed} | {len(found['runs'])} | "
            f"{found['seconds']:,.0f} s | {found['machine']['device']} | {row.published} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
