"""The report of one training, as `winnow train --output` and `winnow bench-recipes` leave it in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from winnow.reports.figures import training as figures_training
from winnow.reports.figures.winners import confusion_of
from winnow.reports.html.gallery import gallery_of
from winnow.reports.html.markup import code, details, figure_html, paragraph, table_html
from winnow.reports.html.page import document
from winnow.reports.html.sections import Section
from winnow.reports.reading.run import read_lines
from winnow.reports.schemas import KINDS
from winnow.reports.tables.build import load_predictions
from winnow.reports.tables.parquet import write_whole
from winnow.reports.text import wording as words
from winnow.reports.text.winner_recipe import training_words
from winnow.spaces.epoch_figures import EPOCH_FIGURES, QUALITY
from winnow.spaces.errors import InputError

FIGURES = tuple(figure.name for figure in QUALITY)

# The rows of the best-epoch table: words, the figure, and whether the lowest or the highest is best.
BEST: tuple[tuple[str, str, Any], ...] = tuple(
    (f"{figure.better}est {figure.name.replace('_', ' ')}", figure.name, min if figure.better == "low" else max)
    for figure in QUALITY
)


@dataclass(frozen=True)
class TrainingData:
    """`epochs` are the lines of epochs.jsonl in order, each epoch once; `result` is empty while the training runs."""

    path: Path
    config: dict[str, Any]
    epochs: Sequence[dict[str, Any]]
    result: dict[str, Any]

    @property
    def class_names(self) -> list[str]:
        return list(self.result.get("data", {}).get("class_names", []))


def write_training(path: Path) -> Path:
    """Write report.html, epochs.parquet and best_epochs.md, at any time. InputError where the folder is no training."""
    training = read_training(path)
    html = path / "report.html"
    try:
        write_whole(html, lambda part: part.write_text(_page(training), encoding="utf-8"))
        write_whole(path / "epochs.parquet", partial(_write_epochs, training))
        write_whole(path / "best_epochs.md", lambda part: part.write_text(best_epochs_text(training), encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the report cannot be written: {error.strerror or error}") from error
    return html


def read_training(path: Path) -> TrainingData:
    """Torn last lines are left out; InputError where the folder is no training, or no epoch is over yet."""
    try:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        result = path / "result.json"
        final = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not the folder of a training (winnow train --output): {error}") from error
    first: dict[int, dict[str, Any]] = {}
    for line in read_lines(path / "epochs.jsonl", ("epoch",))[0]:
        first.setdefault(line["epoch"], {**dict.fromkeys(FIGURES), **line})
    if not first:
        raise InputError(f"{path}: no epoch of this training is over yet")
    return TrainingData(path, config, [first[epoch] for epoch in sorted(first)], final)


def best_epochs(training: TrainingData) -> list[dict[str, Any]]:
    """Up to four rows {best, epoch, and all four figures}: of equals the first epoch, as when weights are kept."""
    rows = []
    for name, key, best in BEST:
        known = [line for line in training.epochs if line[key] is not None and line[key] == line[key]]
        if known:
            line = best(known, key=lambda row, key=key: row[key])
            rows.append({"best": name, "epoch": line["epoch"], **{figure: line[figure] for figure in FIGURES}})
    return rows


def best_epochs_text(training: TrainingData) -> str:
    """The table of best epochs in Markdown."""
    heads, rows = _best_epoch_cells(training)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([*lines, "", outcome(training), ""])


def outcome(training: TrainingData) -> str:
    """Which epoch's weights were kept and why the training ended, in a sentence."""
    result, asked, last = training.result, training.config["epochs"], training.epochs[-1]["epoch"]
    rule = {
        "last": "of the last epoch",
        "lowest_validation_loss": "of the epoch with the lowest validation loss",
        "highest_validation_accuracy": "of the epoch with the highest validation accuracy",
    }["last" if result.get("fit_validation") else training.config["weights"]]
    if not result:
        return f"{last} of {asked} epochs are over; the training is still running, or was cut short."
    if result["status"] == "diverged":
        return f"The loss was no longer finite in epoch {last}; the test images were not looked at."
    patience = (training.config.get("early_stopping") or {}).get("patience")
    end = f"all {asked} epochs were trained"
    if result["stopped_early"]:
        end = f"stopped early after epoch {last} of {asked}, as the validation loss had not improved for {patience} epochs"
    return f"The weights {rule} were kept and tested, those of epoch {result['weights_epoch']}; {end}."


def _page(training: TrainingData) -> str:
    name = training.result.get("name", training.path.name)
    made = f"One training; this page was made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    sections = [_summary(training), _epochs(training), _test_images(training), _reproduce(training)]
    return document(name, made, sections, f"Made by Winnow from {training.path.resolve()}.")


def _summary(training: TrainingData) -> Section:
    result = training.result
    parts = [paragraph(outcome(training), "lead")]
    if "test_accuracy" in result:
        seed = f"test accuracy, seed {result['seed']}, test images read once"
        parts.insert(0, f'<p class="headline"><b>{words.percent(result["test_accuracy"])}</b><span>{seed}</span></p>')
    if result:
        facts = [
            ["test accuracy", words.percent(result.get("test_accuracy"))],
            ["test loss", words.number(result.get("test_loss"))],
            ["parameters", words.count(result["num_parameters"])],
            ["multiply-adds per image", words.count(result["multiply_adds"])],
            ["wall time of the epochs", words.duration(result["wall_seconds"])],
            ["training images per second", f"{result['images_per_second']:,.0f}"],
            ["device", result["device"]],
        ]
        parts.append(table_html(["", ""], facts, numeric=(1,)))
    return Section("summary", "Summary", "".join(parts))


def _epochs(training: TrainingData) -> Section:
    figures = [*figures_training.curves(training.epochs), *figures_training.batch_losses(training.epochs)]
    heads, rows = _best_epoch_cells(training)
    table = table_html(heads, rows, numeric=range(1, len(heads)))
    html = "".join(map(figure_html, figures)) + f"<figure><h3>Best epochs</h3>{table}</figure>"
    return Section("epochs", "Epochs", html, figures)


def _best_epoch_cells(training: TrainingData) -> tuple[list[str], list[list[str]]]:
    rows = [
        [row["best"], str(row["epoch"]), *("-" if row[key] is None else f"{row[key]:.4f}" for key in FIGURES)]
        for row in best_epochs(training)
    ]
    return ["", "epoch", *(key.replace("_", " ") for key in FIGURES)], rows


def _test_images(training: TrainingData) -> Section:
    arrays = load_predictions(training.path / "predictions.npz")
    if arrays is None or "test_accuracy" not in training.result:
        return Section("test-images", "Test images", paragraph("The test images were not looked at yet."))
    figures = confusion_of(arrays["true"], arrays["predicted"], training.class_names)
    html = "".join(map(figure_html, figures))
    mistakes = gallery_of(arrays, training.class_names)
    if mistakes:
        html += f'<figure><h3>Most confident mistakes</h3></figure><ul class="gallery">{mistakes}</ul>'
    return Section("test-images", "Test images", html, figures)


def _reproduce(training: TrainingData) -> Section:
    recipe, result = training.path / "config.yaml", training.result
    again = f"winnow train {recipe}"
    if result:
        again = training_words(
            recipe,
            seed=result["seed"],
            fit_validation=result.get("fit_validation", False),
            threads=result.get("threads"),
            micro_batches=result.get("micro_batches", 1),
            device=result.get("device"),
        )
    parts = [
        paragraph("This trains it again:"),
        code(again, "command"),
        details("config.yaml", code(yaml.safe_dump(training.config, sort_keys=False))),
    ]
    if training.result:
        facts = [
            [section, key, str(value)]
            for section in ("data", "versions", "hardware")
            for key, value in training.result[section].items()
            if key != "class_names"
        ]
        parts.append(details("Data, versions and hardware", table_html(["", "", ""], facts, wide=(2,))))
    return Section("reproduce", "Reproduce", "".join(parts))


def _write_epochs(training: TrainingData, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {figure.name: pa.type_for_alias(KINDS[figure.kind]) for figure in EPOCH_FIGURES if figure.column}
    kinds["batch_losses"] = pa.list_(pa.float64())
    rows = [{key: line.get(key) for key in kinds} for line in training.epochs]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds.items())), path, compression="zstd")
