"""The test images by class, every metric of the winners, the share of the largest class, networks that answer one class only."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from tests.helpers.make_run import make_run
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports import read as read_run
from winnow.reports.facts import largest_class
from winnow.reports.html import search_sections, sections
from winnow.reports.schemas import TABLES
from winnow.reports.tables.classes import class_scores, scores_by_class
from winnow.reports.text.compare import show_comparison
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.queries import queries
from winnow.reports.text.terminal import Chosen, show
from winnow.search.operations.training import TrainingJob, fit_and_test


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "digits")


def change_lines(folder: Path, **values: object) -> None:
    file = folder / "retrain.jsonl"
    lines = [json.loads(line) | values for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_precision_recall_and_f1_are_null_where_they_are_not_defined() -> None:
    scores = class_scores(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 3]), 5)
    np.testing.assert_allclose(scores["precision"], [1, 1 / 2, np.nan, 0, np.nan])
    np.testing.assert_allclose(scores["recall"], [2 / 3, 1, 0, np.nan, np.nan])
    np.testing.assert_allclose(scores["f1"], [4 / 5, 2 / 3, 0, 0, np.nan])


def test_the_table_has_each_class_of_each_config(folder: Path) -> None:
    run = read_run(folder)
    rows = run.rows("classes")
    assert [(row["rank"], row["class"]) for row in rows] == [(r, k) for r in (1, 2, 3, None) for k in range(10)]
    first = [row for row in rows if row["rank"] == 1]
    assert sum(row["support"] for row in first) == 360
    accuracy = sum(row["recall"] * row["support"] for row in first) / 360
    chosen = np.array(run.predictions.column("rank").to_pylist()) == 1
    assert accuracy == pytest.approx(np.array(run.predictions.column("correct").to_pylist())[chosen].mean())


def test_a_precision_is_of_the_seeds_that_predict_the_class() -> None:
    """The mean is over those, which the report says; recall and F1 are means over all seeds."""
    true = np.array([0, 0, 1, 1])
    rows = scores_by_class([(true, np.array([0, 0, 1, 0])), (true, np.zeros(4, int))], ["cat"])
    assert [row["class_name"] for row in rows] == ["cat", "1"]
    assert [row["support"] for row in rows] == [2, 2]
    assert rows[1] == rows[1] | {"precision": 1.0, "recall": 0.25, "f1": pytest.approx(1 / 3)}
    assert "mean over the seeds that predict the class" in describe_column("classes", "precision")


def describe_column(table: str, name: str) -> str:
    return next(column.meaning for column in TABLES[table].columns if column.name == name)


def test_the_report_shows_classes_and_all_metrics(folder: Path) -> None:
    change_lines(folder, test_balanced_accuracy=0.5123, test_own_metric=-3.25)
    run = read_run(folder)
    assert "<th" in sections.test_images(run).html
    assert all(word in sections.test_images(run).html for word in ("precision", "recall", "F1"))
    html = sections.winners(run).html
    assert "balanced accuracy" in html
    assert "51.23" in html
    assert "own metric" in html
    assert "-3.25" in html
    assert not re.search(r"AUROC(</a>)?</th>", html)  # no winner has it


@pytest.mark.parametrize(("num_classes", "shown"), [(5, False), (6, True)])
def test_a_metric_that_is_the_same_for_every_network_is_not_shown(folder: Path, num_classes: int, shown: bool) -> None:
    change_lines(folder, test_top5_accuracy=1.0, test_balanced_accuracy=0.5)
    run = read_run(folder)
    run.study["data"]["num_classes"] = num_classes
    table = sections._metrics_table(run, run.rows("winners"))
    assert table is not None
    assert ("top5 accuracy" in table.columns) == shown
    assert "balanced accuracy" in table.columns
    assert ("test_top5_accuracy" in queries(run)["metrics"]) == shown


def test_the_share_of_the_largest_class_stands_beside_accuracies(folder: Path) -> None:
    run = read_run(folder)
    assert largest_class(run, "test") == pytest.approx(0.1)
    assert largest_class(run, "validation") == pytest.approx(35 / 287)
    assert run.rows("winners")[0]["largest_class"] == pytest.approx(0.1)
    assert "largest class" in sections.winners(run).html
    assert "Always predicting the largest class" in sections.overview(run).html
    console = Console(width=100, record=True, quiet=False)
    show(run, console)
    text = console.export_text()
    validation = "Always predicting the largest class would reach a validation accuracy of 12.20\u00a0%."
    tested = "Always predicting the largest class would reach a test accuracy of 10.00\u00a0%."
    assert validation in text
    assert tested in text
    assert validation in search_sections.search(run).html
    first = run.winner_rows()[0]
    show_trial(run, console, first["trial"])
    text = " ".join(console.export_text().split())
    assert validation.replace("\u00a0", " ") in text
    assert tested.replace("\u00a0", " ") in text
    show_comparison([run, run], console)
    text = " ".join(console.export_text().split())
    assert "largest class" in text
    assert text.count("12.20 %") == 2
    assert tested.replace("\u00a0", " ") in text


def test_the_largest_class_stands_below_the_front(tmp_path: Path) -> None:
    study = {"objectives": ["validation_accuracy", "parameters"]}
    folder = make_run(tmp_path / "front")
    recorded = yaml.safe_load((folder / "study.yaml").read_text())
    recorded["settings"] |= study
    (folder / "study.yaml").write_text(yaml.safe_dump(recorded))
    section = sections.front(read_run(folder))
    assert section is not None
    told = "Always predicting the largest class would reach a test accuracy of 10.00\u00a0%."
    assert told in section.html
    printed = io.StringIO()
    show(read_run(folder), Console(file=printed, width=160))
    table = " ".join(printed.getvalue().partition("Front of")[2].partition("Retrained, tested once")[0].split())
    assert " ".join(told.split()) in table
    assert "Always predicting the largest class would reach a validation accuracy of 12.20 %." in table


@pytest.mark.parametrize("column", ["validation_accuracy", "num_epochs"])
def test_the_largest_class_stands_below_chosen_accuracies(tmp_path: Path, column: str) -> None:
    run = read_run(make_run(tmp_path / "run", objective="validation_loss"))
    printed = io.StringIO()
    show(run, Console(file=printed, width=160), chosen=Chosen(run.trial_rows()[:2], [column], f"-{column}"))
    told = "Always predicting the largest class would reach a validation accuracy of 12.20\u00a0%."
    assert (told in printed.getvalue()) == (column == "validation_accuracy")


def test_networks_that_answer_one_class_are_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "digits")
    assert "same class" not in sections.overview(read_run(folder)).html
    change_lines(folder, num_classes_answered=1)
    run = read_run(folder)
    warning = "3 of the 3 networks of winner 1 give every test image the same class"
    assert warning in sections.overview(run).html
    assert warning in sections.winners(run).html
    console = Console(width=150, record=True)
    show(run, console)
    assert warning in console.export_text()
    show_trial(run, console, run.winner_rows()[0]["trial"])
    assert warning in console.export_text()
    show_comparison([run, run], console)
    assert "3 of the 3 networks of the winner of digits give every test image the same class" in console.export_text()


def test_a_training_counts_the_classes_it_answers() -> None:
    config = tiny_config(epochs=1, optimizer={"name": "sgd", "lr": 1e-9})
    final = fit_and_test(TrainingJob("tiny", config, 0), tiny_data(), CPU, None)
    assert final is not None
    assert final["num_classes_answered"] in (1, 2, 3)
