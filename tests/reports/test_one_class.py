"""A trial whose network gives every validation image the same class is told before it is retrained, from metrics that are recorded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.helpers.fronts import make_front_run
from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.facts import gives_one_class
from winnow.reports.html import sections
from winnow.reports.run_data import RunFacts
from winnow.reports.tables.candidates import best_first
from winnow.reports.text import summary, wording
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.terminal import show
from winnow.search.training.metrics import accuracy, balanced_accuracy, macro_f1

EQUAL, UNEQUAL, WITH_GAP = [28] * 10, [5, 5, 40, 50], [30, 0, 10, 20]


def facts_of(counts: list[int]) -> RunFacts:
    summary_of_data = {"splits": {"validation": {"by_class": counts}}}
    return RunFacts(path=Path("run"), study={"data": {"summary": summary_of_data}})


def row_of(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, Any]:
    probabilities = np.eye(num_classes)[predicted]
    metrics = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
    return {"trial": 7} | {f"validation_{name}": function(labels, probabilities) for name, function in metrics.items()}


def labels_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL, WITH_GAP])
def test_a_network_of_one_class_is_recognised_whichever_it_is(counts: list[int]) -> None:
    labels, run = labels_of(counts), facts_of(counts)
    for answer in np.flatnonzero(counts):
        assert gives_one_class(run, row_of(labels, np.full(len(labels), answer), len(counts)))


@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL, WITH_GAP])
def test_other_networks_are_not(counts: list[int]) -> None:
    labels, run, random = labels_of(counts), facts_of(counts), np.random.default_rng(0)
    present = np.flatnonzero(counts)
    for _ in range(50):
        assert not gives_one_class(run, row_of(labels, random.permutation(labels), len(counts)))
        nearly = np.full(len(labels), present[0])
        nearly[random.integers(len(labels))] = present[1]
        assert not gives_one_class(run, row_of(labels, nearly, len(counts)))
    assert not gives_one_class(run, row_of(labels, labels, len(counts)))


def test_a_guess_with_the_same_accuracies_is_not() -> None:
    """With classes of equal size it may have accuracy and balanced accuracy of a network of one class."""
    labels = labels_of(EQUAL)
    predicted = (labels + 1) % 10
    predicted[np.arange(0, 280, 10)] = labels[np.arange(0, 280, 10)]
    guess, constant = row_of(labels, predicted, 10), row_of(labels, np.zeros(280, int), 10)
    for name in ("validation_accuracy", "validation_balanced_accuracy"):
        assert guess[name] == pytest.approx(constant[name])
    assert not gives_one_class(facts_of(EQUAL), guess)


@pytest.mark.parametrize(
    "missing", ["validation_accuracy", "validation_balanced_accuracy", "validation_macro_f1", "counts"]
)
def test_without_a_metric_or_the_numbers_nothing_is_told(missing: str) -> None:
    row = row_of(labels_of(EQUAL), np.zeros(280, int), 10)
    run = facts_of([] if missing == "counts" else EQUAL)
    assert gives_one_class(facts_of(EQUAL), row)
    assert not gives_one_class(run, row | ({} if missing == "counts" else {missing: None}))


def test_a_network_of_a_class_without_validation_images_is_told() -> None:
    """It gives no image its class, so its metrics do not tell how many classes it answers."""
    row = row_of(labels_of(WITH_GAP), np.ones(60, int), 4)
    assert wording.one_class_trial(facts_of(WITH_GAP), row) == "Warning: trial 7 gives no validation image its class."


def test_every_trial_of_a_front_is_told(tmp_path: Path) -> None:
    """A calibrated network of one class lies on the front of accuracy and calibration error, but is not its first trial."""
    folder = make_front_run(tmp_path / "run", ["validation_accuracy", {"minimize": "validation_calibration_error"}])
    last = min(reports.read(folder).rows("front"), key=lambda row: row["validation_calibration_error"])["trial"]
    share = 35 / 287
    figures = {"accuracy": share, "balanced_accuracy": 0.1, "macro_f1": 2 * share / (1 + share) / 10}
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    changes = {f"validation_{name}": value for name, value in figures.items()}
    lines = [line | (changes if line["trial"] == last else {}) for line in lines]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(folder)
    trials = best_first(run, run.rows("trials"))
    assert trials[0]["trial"] != last
    assert last in {row["trial"] for row in run.rows("front")}
    told = f"Warning: trial {last} gives every validation image the same class."
    printed = io.StringIO()
    show(run, Console(file=printed, width=200))
    assert told in printed.getvalue()
    assert told in " ".join(summary.sentences(run))


@pytest.mark.parametrize("one_class", [False, True])
def test_the_best_trial_of_a_search_is_told(tmp_path: Path, one_class: bool) -> None:
    folder = make_run(tmp_path / "run", "searched")
    best = best_first(reports.read(folder), reports.read(folder).trial_rows())[0]["trial"]
    share = 35 / 287
    figures = {"accuracy": share, "balanced_accuracy": 0.1, "macro_f1": 2 * share / (1 + share) / 10}
    changes = {f"validation_{name}": value for name, value in figures.items()} if one_class else {}
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    lines = [line | (changes if line["trial"] == best else {}) for line in lines]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(folder)
    told = f"Warning: trial {best} gives every validation image the same class."
    printed = [io.StringIO(), io.StringIO()]
    show(run, Console(file=printed[0], width=200))
    show_trial(run, Console(file=printed[1], width=200), best)
    texts = [
        " ".join(summary.sentences(run)),
        page_text(sections.overview(run).html),
        *(each.getvalue() for each in printed),
    ]
    assert [told in text for text in texts] == [one_class] * 4
