"""Writes the report of one training into a folder that `winnow train --output` or `winnow bench-recipes` has written."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from winnow.reports.durable import write_whole
from winnow.reports.figures import training as figures_training
from winnow.reports.figures.winners import confusion_of
from winnow.reports.html.gallery import mistakes_of
from winnow.reports.html.page import document
from winnow.reports.html.sections import class_table
from winnow.reports.html.templating import Section, Table, render
from winnow.reports.reading.training import FIGURES, TrainingData, read_training
from winnow.reports.tables.parquet import write_table
from winnow.reports.tables.training import TABLES, class_rows, environment_rows, largest_class
from winnow.reports.text import wording
from winnow.reports.text.queries import training_queries
from winnow.reports.text.winner_recipe import training_words
from winnow.spaces.epoch_figures import QUALITY, TEST_METRICS, in_words, name_on_validation_images, tells_apart
from winnow.spaces.errors import InputError
from winnow.spaces.trial_status import TrialStatus

# The rows of the table of best epochs: name, figure, and whether the lowest or the highest value is best.
BEST: tuple[tuple[str, str, Any], ...] = tuple(
    (f"{figure.better}est {in_words(figure.name)}", figure.name, min if figure.better == "low" else max)
    for figure in QUALITY
)


def write_training(path: Path) -> Path:
    """Write report.html, its tables and best_epochs.md into the folder of a training, which may still be running.

    Args:
        path: The folder.

    Returns:
        The HTML file.

    Raises:
        InputError: The folder does not contain a training, no epoch has finished yet, or the files cannot be written.
    """
    training = read_training(path)
    html = path / "report.html"
    try:
        for name, make in TABLES.items():
            write_table(make(training), path / f"{name}.parquet")
        write_whole(html, lambda part: part.write_text(_page(training), encoding="utf-8"))
        write_whole(path / "best_epochs.md", lambda part: part.write_text(best_epochs_text(training), encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the report cannot be written: {error.strerror or error}") from error
    return html


def best_epochs(training: TrainingData) -> list[dict[str, Any]]:
    """Return the best epoch by each figure, with the values of all figures. Among equal epochs the first is chosen, as for the weights.

    Returns:
        One row per known figure with the keys `best` (a name), `epoch` and FIGURES. Figures that are the same for every network are
        left out.
    """
    rows = []
    for name, key, best in BEST:
        known = [line for line in training.epochs if line[key] is not None and line[key] == line[key]]
        if known and tells_apart(key, len(training.class_names)):
            line = best(known, key=lambda row, key=key: row[key])
            rows.append({"best": name, "epoch": line["epoch"], **{figure: line[figure] for figure in FIGURES}})
    return rows


def best_epochs_text(training: TrainingData) -> str:
    """Return the table of best epochs in Markdown."""
    heads, rows = _best_epoch_cells(training)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([*lines, "", outcome(training), ""])


def outcome(training: TrainingData) -> str:
    """Return a sentence about the epoch whose weights were kept, and why the training ended."""
    result, planned, last = training.result, training.config["epochs"], training.epochs[-1]["epoch"]
    kept = "last" if result.get("fit_validation") else training.config["weights"]
    rule = "of the last epoch" if kept == "last" else f"of the epoch with the {in_words(kept)}"
    if not result:
        return f"{last} of {planned} epochs have finished; the training is still running or was interrupted."
    if result["status"] == TrialStatus.DIVERGED:
        return f"The loss became non-finite in epoch {last}; the test images were not used."
    stopping = training.config.get("early_stopping") or {}
    metric = in_words(stopping.get("metric", "validation_loss"))
    end = f"all {planned} epochs were trained"
    if result["stopped_early"]:
        end = f"training stopped early after epoch {last} of {planned}, because the {metric} had not improved for {stopping['patience']} epochs"
    told = f"The weights {rule} (epoch {result['weights_epoch']}) were kept and tested; {end}."
    if result.get("tf32"):
        told += f" {wording.tf32_text('this training')}"
    if result.get("num_classes_answered") == 1:
        told += " The network gives every test image the same class."
    return told


def _page(training: TrainingData) -> str:
    name = training.result.get("name", training.path.name)
    made = f"One training; this page was generated on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    sections = [_summary(training), _epochs(training), _test_images(training), _reproduce(training)]
    footer = f"Generated by Winnow from {training.path.resolve()}."
    return document(name, made, sections, footer, training_queries())


def _summary(training: TrainingData) -> Section:
    result = training.result
    headline = facts = None
    largest = largest_class(training)
    if "test_accuracy" in result:
        about = f"test accuracy, seed {result['seed']}, test images used once"
        if largest is not None:
            about += f"; always predicting the largest class: {wording.percent(largest)}"
        headline = (wording.percent(result["test_accuracy"]), about)
    if result:
        rows = [
            ["test accuracy", wording.percent(result.get("test_accuracy"))],
            ["accuracy of always predicting the largest class", wording.percent(largest)],
            ["test loss", wording.number(result.get("test_loss"))],
            *([in_words(key), wording.figure_text(key, result[key])] for key in _further_metrics(training)),
            ["parameters", wording.count(result["num_parameters"])],
            ["multiply-adds per image", wording.count(result["multiply_adds"])],
            ["wall time of the epochs", wording.duration(result["wall_seconds"])],
            ["training images per second", f"{result['images_per_second']:,.0f}"],
            ["device", result["device"]],
        ]
        facts = Table(("", ""), rows, numeric=(1,))
    html = render("training_summary.html", headline=headline, outcome=outcome(training), facts=facts)
    return Section("summary", "Summary", html)


def _further_metrics(training: TrainingData) -> list[str]:
    """Return the metrics of the test images besides accuracy and loss that were measured and in which networks can differ."""
    known = (name for name in TEST_METRICS if training.result.get(name) is not None)
    return [name for name in known if tells_apart(name_on_validation_images(name), len(training.class_names))]


def _epochs(training: TrainingData) -> Section:
    figures = [*figures_training.curves(training.epochs), *figures_training.batch_losses(training.epochs)]
    heads, rows = _best_epoch_cells(training)
    table = Table(heads, rows, numeric=range(1, len(heads)))
    return Section("epochs", "Epochs", render("training_epochs.html", figures=figures, table=table), figures)


def _best_epoch_cells(training: TrainingData) -> tuple[list[str], list[list[str]]]:
    figures = [key for key in FIGURES if tells_apart(key, len(training.class_names))]
    rows = [
        [row["best"], str(row["epoch"]), *("-" if row[key] is None else f"{row[key]:.4f}" for key in figures)]
        for row in best_epochs(training)
    ]
    return ["", "epoch", *map(in_words, figures)], rows


def _test_images(training: TrainingData) -> Section:
    arrays = training.predictions
    figures, mistakes = [], []
    if arrays is not None:
        figures = confusion_of(arrays["true"], arrays["predicted"], training.class_names)
        mistakes = mistakes_of(arrays, training.class_names)
    html = render(
        "training_test_images.html",
        tested=arrays is not None,
        figures=figures,
        classes=class_table(class_rows(training)),
        mistakes=mistakes,
    )
    return Section("test-images", "Test images", html, figures)


def _reproduce(training: TrainingData) -> Section:
    recipe, result = training.path / "config.yaml", training.result
    again, facts = shlex.join(["winnow", "train", str(recipe)]), None
    if result:
        again = training_words(
            recipe,
            seed=result["seed"],
            fit_validation=result.get("fit_validation", False),
            threads=result.get("threads"),
            micro_batches=result.get("micro_batches", 1),
            device=result.get("device"),
        )
        rows = [[row["section"], row["key"], row["value"]] for row in environment_rows(training)]
        facts = Table(("", "", ""), rows, wide=(2,))
    config = yaml.safe_dump(training.config, sort_keys=False)
    html = render("training_reproduce.html", command=again, config=config, facts=facts)
    return Section("reproduce", "Reproduce", html)
