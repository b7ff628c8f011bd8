"""Compares the shipped recipes with the published results that they reproduce. Each recipe has a row, even if it was not run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from winnow.reports.durable import make_folder, write_whole
from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.predictions import PREDICTIONS, largest_share, load_predictions
from winnow.reports.tables.answers import load_answers
from winnow.reports.tables.retraining import metric_interval
from winnow.reports.text.wording import count, one_class_text
from winnow.spaces import catalog
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.trial_status import TrialStatus

RESULTS = "results.jsonl"

PROTOCOL = (
    "The published reports choose the epoch on the test images or do not say how they choose it. Here the epoch is chosen on "
    "the validation images and the test images are used once, so published values may be slightly optimistic. Accuracies "
    "are in percent; ours are means over n seeds with a 95 % interval over seeds and test images, or over seeds alone where the table "
    "says so (none for one seed). Largest class: its share of the test images, the accuracy of always predicting it. Difference: "
    "ours minus published. Minutes and images/s are those of one training."
)

_PARTS = re.compile(r"(\D*)(\d*)")

# Columns of recipes.parquet: name and Arrow type.
COLUMNS: dict[str, str] = {
    "row": "string",
    "recipe": "string",
    "status": "string",
    "split": "string",
    "published": "float64",
    "ours": "float64",
    "ours_low": "float64",
    "ours_high": "float64",
    "num_seeds": "int64",
    "num_test_images": "int64",
    "largest_class": "float64",
    "num_one_class": "int64",
    "difference": "float64",
    "epochs": "float64",
    "weights_epoch": "float64",
    "minutes": "float64",
    "images_per_second": "float64",
    "num_parameters": "int64",
    "hardware": "string",
    "changed": "string",
    "note": "string",
}
"""`split`: the images on which the accuracies were measured. `num_test_images`: number of test images that the interval takes into
account besides the seeds; null for an interval over seeds alone. `largest_class`: share of the largest class in the test images, in
percent; null if `split` is not `test`. `num_one_class`: number of networks that give every test image the same class. `epochs` and `weights_epoch` are means over the seeds. `changed`:
the keys in which the trained configs differ from the recipe, and whether the validation images were trained on."""


def write_table(folder: Path) -> Path:
    """Write `recipes.md` and `recipes.parquet` from the results in a folder, and return the path of the Markdown file."""
    rows = recipe_rows(_results(folder / RESULTS), folder)
    make_folder(folder)
    markdown = folder / "recipes.md"
    write_whole(markdown, lambda part: part.write_text(as_markdown(rows), encoding="utf-8"))
    write_whole(folder / "recipes.parquet", partial(_write_parquet, rows))
    return markdown


def recipe_rows(results: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return one dict with the keys of COLUMNS for every recipe with a published result, in the order of the published rows.

    Args:
        results: One line of `results.jsonl` per recipe and seed.
        folder: Folder of the trainings, which holds their predictions. Without these, the intervals are over seeds alone.
    """
    spaces = [space for name in catalog.recipe_names() if (space := catalog.load(name)).reference]
    rows = [_row(space, [line for line in results if line["recipe"] == space.name], folder) for space in spaces]
    return sorted(rows, key=lambda row: [(text, int("0" + number)) for text, number in _PARTS.findall(row["row"])])


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    heads = (
        "row",
        "recipe",
        "published",
        "ours",
        "n",
        "largest class",
        "difference",
        "epochs",
        "minutes",
        "images/s",
        "parameters",
    )
    lines = [f"| {' | '.join((*heads, 'hardware'))} |", "|" + "---|" * (len(heads) + 1)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(["# Reference experiments", "", PROTOCOL, "", *lines, ""])


def _results(path: Path) -> list[dict[str, Any]]:
    """Return the last line of each recipe and seed, because a failed training may have been repeated."""
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for line in read_lines(path, {"recipe": (str,), "seed": (int,), "status": (str,)})[0]:
        last[line["recipe"], line["seed"]] = line
    return list(last.values())


def _row(space: Space, lines: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    reference = space.reference
    assert reference is not None
    done = [line for line in lines if line["status"] == TrialStatus.COMPLETED]
    values = [line[f"{reference.split}_accuracy"] for line in done]
    tested = done if reference.split == "test" else []
    files = [f"{training_name(space.name, line['seed'])}/{PREDICTIONS}" for line in tested]
    answers = load_answers(folder, [line | {"predictions": file} for line, file in zip(tested, files, strict=True)])
    arrays = next(filter(None, (load_predictions(folder, file) for file in files)), None)
    interval, num_images = metric_interval("test_accuracy", values, answers)
    mean, low, high = map(_percent, interval)
    return {
        "row": reference.row,
        "recipe": space.name,
        "status": _status(lines),
        "split": reference.split,
        "published": reference.accuracy,
        "ours": mean,
        "ours_low": low,
        "ours_high": high,
        "num_seeds": len(done),
        "num_test_images": num_images,
        "largest_class": None if arrays is None else 100 * largest_share(arrays),
        "num_one_class": sum(line.get("num_classes_answered") == 1 for line in done),
        "difference": None if mean is None else mean - reference.accuracy,
        "epochs": _mean(done, "epochs"),
        "weights_epoch": _mean(done, "weights_epoch"),
        "minutes": None if not done else fmean(line["wall_seconds"] for line in done) / 60,
        "images_per_second": _mean(done, "images_per_second"),
        "num_parameters": done[0]["num_parameters"] if done else reference.parameters,
        "hardware": ", ".join(dict.fromkeys(map(_hardware, done))) or None,
        "changed": ", ".join(dict.fromkeys(text for line in done for text in _changes(space, line))) or None,
        "note": reference.note or None,
    }


def training_name(recipe: str, seed: int) -> str:
    """Return the name of the folder of a training.

    Args:
        recipe: Name of the recipe, such as `cifar100-a1`.
        seed: Seed of the training.
    """
    return f"{recipe}-s{seed}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _status(lines: Sequence[dict[str, Any]]) -> str:
    """Return `not run`, or the statuses of the seeds."""
    statuses = [line["status"] for line in lines]
    others = [
        f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses) if status != TrialStatus.COMPLETED
    ]
    return ", ".join((["completed"] if "completed" in statuses else []) + others) or "not run"


def _mean(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    return fmean(line[key] for line in lines) if lines else None


def _hardware(line: dict[str, Any]) -> str:
    if line["device"] != "cpu":
        return str(line["device"])
    threads = line["threads"]
    return f"{line['hardware']['processor']}, {threads} thread{'s' * (threads > 1)}"


def _changes(space: Space, line: dict[str, Any]) -> list[str]:
    """Return the keys that differ from the recipe, such as `epochs=2 (not 50)`.

    The location of the images is ignored, except for the name of a folder that the recipe names too. Validation images that were trained
    on are named.
    """
    own = space.config(space.suggest(KnownTrial({}))).model_dump(mode="json")
    ours, theirs = _flat(line["config"]), _flat(own)
    folders = [Path(str(flat["data.path"])).name if flat.get("data.path") else None for flat in (ours, theirs)]
    keys = [key for key in dict.fromkeys([*theirs, *ours]) if key not in ("data.name", "data.path")]
    changes = [
        f"{key}={json.dumps(ours.get(key))} (not {json.dumps(theirs.get(key))})"
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]
    if None not in folders and folders[0] != folders[1]:
        changes.append(f"images of {folders[0]} (not {folders[1]})")
    return [*changes, *(["trained on the validation images too"] if line.get("fit_validation") else [])]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in _flat(item, f"{path}.{name}".lstrip(".")).items()}


def _cells(row: dict[str, Any]) -> list[str]:
    kind = "" if row["split"] == "test" else f" {row['split']}"
    published = f"{row['published']:g}{kind}" + (f" ({row['note']})" if row["note"] else "")
    if not row["num_seeds"]:
        return [
            row["row"],
            row["recipe"],
            published,
            row["status"],
            "",
            "",
            "",
            "",
            "",
            "",
            count(row["num_parameters"]),
            "",
        ]
    ours = f"{row['ours']:.2f}"
    if row["ours_low"] is not None:
        over = " over seeds alone" if row["num_test_images"] is None else ""
        ours += f" ({row['ours_low']:.2f} to {row['ours_high']:.2f}{over})"
    if row["status"] != TrialStatus.COMPLETED:
        ours += f" ({row['status'].removeprefix('completed, ')})"
    if warning := one_class_text(row["num_one_class"], row["num_seeds"], "this recipe"):
        ours += f"; {warning}"
    if row["changed"]:
        ours += f"; changed: {row['changed']}"
    return [
        row["row"],
        row["recipe"],
        published,
        ours,
        str(row["num_seeds"]),
        "" if row["largest_class"] is None else f"{row['largest_class']:.2f}",
        f"{row['difference']:+.2f}",
        f"{row['weights_epoch']:g} of {row['epochs']:g}",
        f"{row['minutes']:.1f}",
        f"{row['images_per_second']:.0f}",
        count(row["num_parameters"]),
        row["hardware"],
    ]


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [pa.field(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()],
        metadata={"winnow.table": "recipes", "winnow.protocol": PROTOCOL},
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")
