"""The report of one training: best epochs, curves, loss within the epochs, early stopping, test images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.helpers.html import page_text
from tests.reports.test_cited_numbers import Element, Reader, uncited
from tests.reports.test_query_order import changing
from winnow import reports, search
from winnow.reports.figures.training import MAX_BATCHES_DRAWN, batch_losses, curves
from winnow.reports.html.training_page import BEST, _summary, best_epochs, best_epochs_text, outcome
from winnow.reports.reading.training import read_training
from winnow.reports.tables.classes import class_scores
from winnow.reports.tables.training import TABLES
from winnow.reports.text import wording
from winnow.reports.text.queries import training_queries
from winnow.search.cli.main import cli
from winnow.search.training.checkpoint import load
from winnow.spaces.epoch_figures import TEST_METRICS, in_words
from winnow.spaces.errors import InputError

duckdb = pytest.importorskip("duckdb", reason="the extra `query` is not installed")

KNOWN = [row for row in BEST if row[1] != "validation_own_metric"]
TRAIN_LOSSES = [2.0, 1.0, 0.5, 0.4]
VALIDATION_LOSSES = [1.8, 1.1, 1.2, 1.3]
TRAIN_ACCURACIES = [0.2, 0.5, 0.8, 0.8]
VALIDATION_ACCURACIES = [0.3, 0.5, 0.55, 0.5]


def write(folder: Path, num: int = 4, result: dict[str, Any] | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    tree = {"epochs": 10, "weights": "lowest_validation_loss", "early_stopping": {"patience": 2}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    figures = zip(TRAIN_LOSSES, TRAIN_ACCURACIES, VALIDATION_LOSSES, VALIDATION_ACCURACIES, strict=True)
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    lines = [
        {"epoch": epoch, **dict(zip(names, values, strict=True)), "lr": 0.1, "wall_seconds": 1.0}
        | {"images_per_second": 9.0, "batch_losses": [values[0] + 0.1, values[0] - 0.1]}
        for epoch, values in list(enumerate(figures, start=1))[:num]
    ]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 9, "tra')
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_best_epochs_each_with_all_four_figures(tmp_path: Path) -> None:
    rows = best_epochs(read_training(write(tmp_path)))
    assert [(row["best"], row["epoch"]) for row in rows] == [
        ("lowest train loss", 4),
        ("highest train accuracy", 3),  # of equals the first
        ("lowest validation loss", 2),
        ("highest validation accuracy", 3),
    ]
    assert [rows[2][key] for key in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")] == [
        *(1.0, 0.5, 1.1, 0.5)
    ]
    assert "| lowest validation loss | 2 | 1.0000 | 0.5000 | 1.1000 | 0.5000 |" in best_epochs_text(
        read_training(tmp_path)
    )


@pytest.mark.parametrize(("num_classes", "shown"), [(5, False), (6, True)])
def test_a_figure_that_is_the_same_for_every_network_has_no_best_epoch(
    tmp_path: Path, num_classes: int, shown: bool
) -> None:
    names = [str(number) for number in range(num_classes)]
    final = {"status": "completed", "stopped_early": False, "weights_epoch": 2, "data": {"class_names": names}}
    training = read_training(write(tmp_path, result=final))
    for line in training.epochs:
        line["validation_top5_accuracy"] = 1.0
    assert ("highest validation top5 accuracy" in [row["best"] for row in best_epochs(training)]) == shown
    assert ("validation top5 accuracy" in best_epochs_text(training)) == shown


def test_early_stopping_is_told(tmp_path: Path) -> None:
    final = {"status": "completed", "stopped_early": True, "weights_epoch": 2}
    text = outcome(read_training(write(tmp_path, result=final)))
    assert "lowest validation loss (epoch 2) were kept and tested" in text
    assert (
        "training stopped early after epoch 4 of 10, because the validation loss had not improved for 2 epochs" in text
    )
    one_class = outcome(read_training(write(tmp_path, result={**final, "num_classes_answered": 1})))
    assert one_class == f"{text} The network gives every test image the same class."
    in_tf32 = outcome(read_training(write(tmp_path, result={**final, "tf32": True})))
    assert in_tf32 == f"{text} {wording.tf32_text('this training')}"
    assert "4 of 10 epochs have finished" in outcome(read_training(write(tmp_path / "running")))


def test_the_loss_within_the_epochs(tmp_path: Path) -> None:
    epochs = read_training(write(tmp_path)).epochs
    (figure,) = batch_losses(epochs)
    batches, medians = figure.plot.data
    assert list(batches.x) == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    assert list(medians.y) == pytest.approx(TRAIN_LOSSES)
    many = [{"epoch": 1, "batch_losses": [1.0] * (5 * MAX_BATCHES_DRAWN)}]
    assert len(batch_losses(many)[0].plot.data[0].x) <= MAX_BATCHES_DRAWN
    assert batch_losses([{"epoch": 1}]) == []


def test_curves_of_both_splits(tmp_path: Path) -> None:
    loss, accuracy = curves(read_training(write(tmp_path)).epochs)
    assert [list(trace.y) for trace in loss.plot.data] == [TRAIN_LOSSES, VALIDATION_LOSSES]
    assert [list(trace.y) for trace in accuracy.plot.data] == [TRAIN_ACCURACIES, VALIDATION_ACCURACIES]


def test_a_folder_that_is_no_training(tmp_path: Path) -> None:
    assert not reports.is_training(tmp_path)
    with pytest.raises(InputError, match="not the folder of a training"):
        reports.write_training(tmp_path)
    with pytest.raises(InputError, match="no epoch"):
        reports.write_training(write(tmp_path, num=0))


@pytest.mark.parametrize(("num_classes", "shown"), [(5, False), (6, True)])
def test_the_page_shows_the_metrics_in_which_networks_can_differ(tmp_path: Path, num_classes: int, shown: bool) -> None:
    names = [str(number) for number in range(num_classes)]
    result = {"status": "completed", "stopped_early": False, "weights_epoch": 2, "data": {"class_names": names}}
    result |= {"num_parameters": 5, "multiply_adds": 9, "wall_seconds": 1.0, "images_per_second": 2.0, "device": "cpu"}
    tested = {"test_loss": 0.5, "test_top5_accuracy": 1.0, "test_auroc": None, "test_own_metric": 12.5}
    text = page_text(_summary(read_training(write(tmp_path, result={**result, **tested}))).html)
    assert ("test top5 accuracy100.00 %" in text) == shown
    assert "test own metric12.5" in text
    assert "AUROC" not in text


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training through the command line: on the digits, with a learning rate at which the validation loss soon rises."""
    folder = tmp_path_factory.mktemp("trainings") / "out"
    changes = ["epochs=30", "optimizer.lr=0.03", "early_stopping.patience=2", "weights=lowest_validation_loss"]
    arguments = [argument for change in [*changes, "data.limit=300"] for argument in ("--set", change)]
    cli.main(
        args=["train", "recipes/digits-baseline", *arguments, "--threads", "1", "--output", str(folder)],
        standalone_mode=False,
    )
    return folder


def test_winnow_train_writes_it_and_stops_early(output: Path) -> None:
    result = json.loads((output / "result.json").read_text())
    training = read_training(output)
    best = min(training.epochs, key=lambda line: line["validation_loss"])["epoch"]
    assert result["stopped_early"]
    assert result["weights_epoch"] == best == result["epochs"] - 2
    assert result["validation_loss"] == training.epochs[best - 1]["validation_loss"]
    assert result["wall_seconds"] == pytest.approx(sum(line["wall_seconds"] for line in training.epochs), abs=0.01)
    assert load(output / "weights.pt")["config"] == training.config
    html = (output / "report.html").read_text()
    for place in ("curve-loss", "curve-accuracy", "batch-losses", "confusion", "per-class"):
        assert f'data-figure="{place}"' in html
    assert "Best epochs" in html
    wrong = int(
        np.count_nonzero(
            np.load(output / "predictions.npz")["predicted"] != np.load(output / "predictions.npz")["true"]
        )
    )
    assert html.count("predicted as") >= min(wrong, 24)
    table = pq.read_table(output / "epochs.parquet")
    assert table.num_rows == result["epochs"]
    assert len(table.column("batch_losses")[0].as_py()) == 4  # 240 images in batches of 64
    assert cli.main(args=["report", str(output)], standalone_mode=False) == 0


def test_every_number_cites_its_query(output: Path) -> None:
    html = (output / "report.html").read_text()
    reader = Reader()
    reader.feed(html[html.index("<main>") : html.index("</main>") + len("</main>")])
    (main,) = reader.open[0].contents
    assert isinstance(main, Element)
    assert list(uncited(main)) == []
    cited = {each.attributes["data-query"] for each in main.all() if "data-query" in each.attributes}
    assert cited == training_queries().keys()


def test_the_queries_give_one_order(output: Path) -> None:
    training = read_training(output)
    tables = {name: table(training) for name, table in TABLES.items()}
    assert not changing(tables.__getitem__, list(tables), training_queries())


def test_the_queries_give_what_the_page_shows(output: Path) -> None:
    answers = {name: search.query(output, sql).to_dict("records") for name, sql in training_queries().items()}
    result, training = json.loads((output / "result.json").read_text()), read_training(output)
    num = result["data"]["num_test"]
    true = np.load(output / "predictions.npz")["true"]
    largest = np.bincount(true).max() / len(true)
    expected = {"test_accuracy": result["test_accuracy"], "seed": result["seed"], "largest_class": largest}
    assert answers["headline"] == [expected]
    assert f"always predicting the largest class: {wording.percent(largest)}" in (output / "report.html").read_text()
    (told,) = answers["outcome"]
    assert (told["epochs"], told["planned_epochs"], told["weights_epoch"]) == (
        *(result["epochs"], 30, result["weights_epoch"]),
    )
    (told,) = answers["result"]
    known = {key: None if value != value else value for key, value in told.items()}
    assert known == {key: result.get(key) for key in told} | {"largest_class": largest}
    shown = page = page_text((output / "report.html").read_text())
    measured = [name for name in TEST_METRICS if result[name] is not None]
    assert measured == [name for name in TEST_METRICS if name != "test_own_metric"]
    for name in measured:
        assert f"{in_words(name)}{result[name]:.2%}".replace("%", " %") in shown
    best = {row["best"]: row["epoch"] for row in answers["best-epochs"]}
    assert best == {key: row["epoch"] for (_, key, _), row in zip(KNOWN, best_epochs(training), strict=True)}
    losses = [(row["epoch"], row["train_loss"], row["validation_loss"]) for row in answers["curve-loss"]]
    assert losses == [(line["epoch"], line["train_loss"], line["validation_loss"]) for line in training.epochs]
    accuracies = [
        (row["epoch"], row["train_accuracy"], row["validation_accuracy"]) for row in answers["curve-accuracy"]
    ]
    assert accuracies == [
        (line["epoch"], line["train_accuracy"], line["validation_accuracy"]) for line in training.epochs
    ]
    shown = {figure.id: figure.plot.data for figure in batch_losses(training.epochs)}["batch-losses"][1].y
    assert [row["median"] for row in answers["batch-losses"]] == pytest.approx(shown)
    right = sum(row["images"] for row in answers["confusion"] if row["true_class"] == row["predicted_class"])
    assert right == round(result["test_accuracy"] * num)
    of_class = {row["true_class"]: (row["accuracy"], row["images"]) for row in answers["per-class"]}
    predicted = np.load(output / "predictions.npz")["predicted"]
    assert of_class == {
        name: (pytest.approx(np.mean(predicted[true == k] == k)), np.sum(true == k))
        for k, name in enumerate(training.class_names)
    }
    scores = class_scores(true, predicted, len(training.class_names))
    assert [row["class_name"] for row in answers["classes"]] == training.class_names
    assert [row["support"] for row in answers["classes"]] == np.bincount(true).tolist()
    for key, values in scores.items():
        assert [row[key] for row in answers["classes"]] == pytest.approx(values.tolist(), nan_ok=True)
    row = answers["classes"][3]
    cells = "".join(wording.percent(row[key]) for key in ("precision", "recall", "f1"))
    assert f"{row['class_name']}{row['support']}{cells}".replace("\u00a0", " ") in page.replace("\u00a0", " ")
    assert len(answers["mistakes"]) == num - right
    facts = {(row["section"], row["key"]): row["value"] for row in answers["environment"]}
    assert facts["versions", "torch"] == result["versions"]["torch"]
    assert facts["data", "num_test"] == str(num)
    files = {path.stem for path in output.glob("*.parquet")}
    assert files == set(TABLES)
    assert duckdb.sql(f"select count(*) from '{output / 'predictions.parquet'}'").fetchall() == [(num,)]


def test_a_training_that_is_still_running_has_tables(tmp_path: Path) -> None:
    folder = write(tmp_path / "running")
    (row,) = search.query(folder, "select * from training").to_dict("records")
    assert (row["status"], row["epochs"], row["planned_epochs"]) == ("running", 4, 10)
    assert search.query(folder, "select count(*) as n from predictions")["n"].item() == 0
    with pytest.raises(InputError, match="the tables are training, epochs, predictions, classes, environment"):
        search.query(folder, "select * from trials")


def test_the_caller_keeps_its_threads() -> None:
    """A notebook that trains a recipe on one thread goes on with as many as it had."""
    torch.set_num_threads(2)
    try:
        small = ["recipes/digits-baseline", "--set", "epochs=1", "--set", "data.limit=100"]
        cli.main(args=["train", *small, "--threads", "1"], standalone_mode=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
