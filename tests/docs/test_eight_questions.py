"""docs/eight-questions.md: each query runs and gives an answer, and the page of the report gives the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from tests.reports.test_cited_numbers import Page, opened
from winnow import reports, search
from winnow.reports.html.sections import sections_of
from winnow.reports.text import wording
from winnow.reports.text.advice import advice
from winnow.reports.text.winner_words import winner_sentence

TEXT = (REPOSITORY / "docs" / "eight-questions.md").read_text(encoding="utf-8")
QUERIES = {
    section.splitlines()[0]: re.findall(r"```sql\n(.*?)```", section, re.S) for section in TEXT.split("\n## ")[1:]
}
TRIAL = 0  # number 5 failed in its first epoch here
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retrained run whose test images have names."""
    folder = make_run(tmp_path_factory.mktemp("questions") / "r", trials=40, seed=1)
    for file in (folder / "predictions").glob("*.npz"):
        arrays = dict(np.load(file))
        np.savez(file, **arrays, name=np.array([f"images/{index}.png" for index in arrays["index"]]))
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return opened(reports.read(run))


@pytest.fixture(scope="module")
def figures(page: Page) -> dict[str, Any]:
    return {figure.id: figure.plot.data for section in sections_of(page.run) for figure in section.figures}


def answer(run: Path, number: int) -> Rows:
    """The rows of the query of a question."""
    (sql,) = next(queries for title, queries in QUERIES.items() if title.startswith(f"{number}."))
    found: Rows = search.query(run, sql.replace("trial = 5", f"trial = {TRIAL}")).to_dict("records")
    assert found
    return found


def test_there_are_eight_with_a_query_each() -> None:
    assert [title[:2] for title in QUERIES] == [f"{number}." for number in range(1, 9)]
    assert all(len(queries) == 1 for queries in QUERIES.values())
    rows = re.findall(r"^\| (\d)\. (.*?) \|", TEXT, re.MULTILINE)
    assert [f"{number}. {question}" for number, question in rows] == list(QUERIES)


def test_1_which_optimizer_is_best_at_equal_depth(run: Path, page: Page) -> None:
    heads = [head.text for each in page.cited("choices") for head in each.all("th")]
    shown = {
        (option, head): cell
        for _, option, *cells in page.cells("choices")
        for head, cell in zip(heads[2:], cells, strict=True)
    }
    for row in answer(run, 1):
        cell = shown[row["optimizer"], f"depth {row['depth']}"]
        assert cell.startswith(wording.percent(row["median"]))
        assert cell.endswith(f"({row['trials']})")
        assert row["trials"] == 1 or f"best {wording.percent(row['best'])} " in cell


def test_2_what_a_point_of_accuracy_costs(run: Path, page: Page, figures: dict[str, Any]) -> None:
    rows = answer(run, 2)
    line = figures["best-so-far"][-1]
    assert [row["best"] for row in rows] == list(dict.fromkeys(value for value in line.y if value is not None))
    epochs = sorted((row["time"], row["wall_seconds"]) for row in page.run.rows("epochs") if row["phase"] == "search")
    ends = [place for place, value in enumerate(line.y) if place and value != line.y[place - 1]]
    spent = np.cumsum([seconds for _, seconds in epochs]) / 3600
    assert [row["hours"] for row in rows] == pytest.approx([spent[place] for place in ends])


def test_3_which_images_are_wrong(run: Path, page: Page) -> None:
    wrong = {row["image_name"]: row for row in answer(run, 3)}
    shown = [item.text for each in page.cited("mistakes") for item in each.all("li")]
    assert len(shown) > 3
    for text in shown:
        row = wrong[re.search(r"images/\d+\.png$", text)[0]]
        assert text.startswith(f"{row['true_class']} predicted as ")
        assert f"wrong with {row['times_wrong']} of 3 seeds" in text


def test_4_how_the_winner_was_trained(run: Path, page: Page) -> None:
    (row,) = answer(run, 4)
    config = json.loads(row["config"])
    assert winner_sentence(config, row["num_parameters"]) in page.text("winner")
    assert yaml.safe_dump(config, sort_keys=False) in [each.text for each in page.tree.all("pre")]


def test_5_is_it_better_than_the_baseline_and_how_sure(run: Path, page: Page) -> None:
    first = answer(run, 5)[0]
    basis = f"over {first['num_seeds']} seeds and {first['test_objective_images']} test images"
    assert basis in page.text("winners")
    for row, cells in zip(answer(run, 5), page.cells("winners"), strict=False):
        ends = wording.difference_ends(page.run, row["objective_gain_low"], row["objective_gain_high"])
        assert cells[0] == f"{row['rank']} (trial {row['trial']})"
        assert cells[3] == f"{wording.difference_text(page.run, row['objective_gain'])} ({ends})"


def test_6_what_failed_trials_died_of(run: Path, page: Page) -> None:
    shown = [cells for cells in page.cells("failures") if cells[0] == "search"]
    rows = answer(run, 6)
    assert sum(row["trials"] for row in rows) == len(shown)
    for row in rows:
        of_row = [cells for cells in shown if int(cells[1]) in row["numbers"]]
        assert len(of_row) == row["trials"]
        assert all(row["message"] is None or row["message"] in cells[-1] for cells in of_row)


def test_7_how_a_trial_learned(run: Path, figures: dict[str, Any]) -> None:
    """The field in which its number is entered is tested in a browser (test_browser.py)."""
    shown = [
        (x, y)
        for trace in figures["learning-curves"]
        for x, y, trial in zip(trace.x, trace.y, trace.customdata or (), strict=False)
        if trial == TRIAL and x is not None
    ]
    assert shown == [(row["epoch"], row["validation_accuracy"]) for row in answer(run, 7)]


def test_8_what_should_be_searched_next(run: Path, page: Page, figures: dict[str, Any]) -> None:
    rows = [row for row in answer(run, 8) if row["importance"] == row["importance"]]  # without NaN
    bars = [bar for bar in figures["importance"] if bar.type == "bar"]
    shown = sorted((pair for bar in bars for pair in zip(bar.x, bar.y, strict=True)), reverse=True)
    assert [row["importance"] for row in rows] == [share for share, _ in shown]
    assert {row["parameter"] for row in rows} == {parameter for _, parameter in shown}
    (following,) = (each for each in page.tree.all("div") if each.attributes.get("class") == "next")
    assert advice(page.run)[0].command in following.text
