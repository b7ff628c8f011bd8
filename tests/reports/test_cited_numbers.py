"""Every number of the page, in sentences and tables too, shows the query that gives it; the tables are asked and the page is read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from tests.helpers.by_metric import run_by
from tests.helpers.html import CONSTANTS
from tests.helpers.make_run import NUM_TEST, make_run
from tests.reports.test_audit import run as audited  # noqa: F401
from tests.reports.test_next_step import STATES
from tests.reports.test_query_order import changing
from tests.search.study.test_repeats import searched, space_of
from winnow import reports
from winnow.reports.figures.memory import weight_lines
from winnow.reports.html.page import page
from winnow.reports.html.search_sections import MAX_TRIALS
from winnow.reports.html.sections import sections_of
from winnow.reports.schemas import arrow_schema
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.candidates import best_first
from winnow.reports.tables.parquet import write_tables
from winnow.reports.tables.query import query
from winnow.reports.text import wording
from winnow.reports.text.compare import show_comparison
from winnow.reports.text.earlier_tests import earlier_tests_text, no_winner_text
from winnow.reports.text.queries import queries
from winnow.reports.text.terminal import show
from winnow.reports.text.winner_words import winner_sentence

duckdb = pytest.importorskip("duckdb", reason="the extra `query` is not installed")

Row = dict[str, Any]
VOID = ("img", "br", "line", "rect", "meta", "link")


@dataclass
class Element:
    """An HTML element with its attributes and contents."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    contents: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(each if isinstance(each, str) else each.text for each in self.contents)

    def all(self, tag: str = "") -> Iterator[Element]:
        for each in self.contents:
            if isinstance(each, Element):
                if tag in ("", each.tag):
                    yield each
                yield from each.all(tag)


class Reader(HTMLParser):
    """Reads HTML into a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs))
        self.open[-1].contents.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].contents.append(data)


@dataclass
class Page:
    """The page of a run, from its header to its footer."""

    run: reports.RunData
    tree: Element

    def cited(self, name: str) -> list[Element]:
        """The elements that cite a query. A caption of a figure stands for the figure."""
        found = [each for each in self.tree.all() if each.attributes.get("data-query") == name]
        figures = [
            each
            for each in self.tree.all("figure")
            if any(caption.attributes.get("data-query") == name for caption in each.all("figcaption"))
        ]
        return found + figures

    def text(self, name: str) -> str:
        return " ".join(each.text for each in self.cited(name))

    def cells(self, name: str) -> list[list[str]]:
        """The rows of the tables that cite a query, without heads and lines below."""
        tables = {id(table): table for each in self.cited(name) for table in each.all("table")}
        rows = ([cell.text for cell in row.all("td")] for table in tables.values() for row in table.all("tr"))
        return [row for row in rows if len(row) > 1]


def opened(run: reports.RunData) -> Page:
    html = page(run)
    reader = Reader()
    reader.feed(html[html.index("<header>") : html.index("</footer>") + len("</footer>")])
    return Page(run, reader.open[0])


@pytest.fixture(scope="module", params=["validation_accuracy", "validation_loss"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = make_run(tmp_path_factory.mktemp("runs") / request.param, objective=request.param)
    write_tables(reports.read(folder), folder / "report")
    return opened(reports.read(folder))


def rows_of(run: reports.RunData, name: str) -> list[Row]:
    return query(run, queries(run)[name]).to_pylist()


def uncited(element: Element, in_section: str = "") -> Iterator[str]:
    """Texts with numbers that no query is cited for. Commands, code, notes of damaged files and the glossary need none."""
    section = element.attributes.get("id") if element.tag == "section" else in_section
    classes = (element.attributes.get("class") or "").split()
    captions = element.tag == "figure" and [
        each for each in element.all("figcaption") if "data-query" in each.attributes
    ]
    if "data-query" in element.attributes or captions or section == "glossary" or "notes" in classes:
        return
    if element.tag in ("pre", "h1", "h2", "h3", "th", "nav", "summary"):
        return
    for each in element.contents:
        if isinstance(each, Element):
            yield from uncited(each, section or "")
        elif re.search(r"\d", CONSTANTS.sub("", each)):
            yield each


def test_the_cost_stands_before_the_next_step(whole: Page) -> None:
    """In one line, so that the first screen says what the result cost."""
    (section,) = (each for each in whole.tree.all("section") if each.attributes.get("id") == "summary")
    order = list(section.all())
    (next_step,) = (place for place, each in enumerate(order) if each.attributes.get("class") == "next")
    costs = [place for place, each in enumerate(order) if each.attributes.get("data-query") in COSTS]
    assert len(costs) == len(COSTS)
    assert max(costs) < next_step


COSTS = ("cost", "retraining-cost")
STAGES = ("empty", "first_epoch", "searching", "searched", "retrained")


@pytest.mark.parametrize("stage", [*STAGES, *STATES])
def test_no_number_stands_without_its_query(tmp_path: Path, stage: Any) -> None:
    folder = tmp_path / "run"
    made = opened(reports.read(make_run(folder, stage) if stage in STAGES else STATES[stage][0](folder)))
    assert list(uncited(made.tree)) == []
    cited = {each.attributes["data-query"] for each in made.tree.all() if "data-query" in each.attributes}
    assert cited <= queries(made.run).keys() | {""}


# --- what the page shows of each query ----------------------------------------------------------------------------------

Check = Callable[[Page, list[Row]], None]


def headline(made: Page, rows: list[Row]) -> None:
    (row,) = rows
    text, run = made.text("headline"), made.run
    assert wording.objective_text(run, row["test_objective"]) in text
    assert wording.ends_text(run, row["test_objective_low"], row["test_objective_high"]) in text
    assert f"mean of {row['num_objective_seeds']} seeds" in text
    assert f"{row['num_test_images']} " in text
    images = row["test_objective_images"]
    assert f"over {row['num_seeds']} seeds " + ("alone" if images is None else f"and {images} test images") in text


def yardsticks(made: Page, rows: list[Row]) -> None:
    (row,) = rows
    first = "guessing" if made.run.maximize else "accuracy"
    shown = [each.text for each in made.tree.all("dd")]
    values = [wording.percent(row[first]), wording.percent(row["largest_class"])]
    assert shown[:3] == [*values, wording.objective_text(made.run, row["baseline"])]


def winner(made: Page, rows: list[Row]) -> None:
    (row,) = rows
    assert winner_sentence(json.loads(row["config"]), row["num_parameters"], row["num_epochs"]) in made.text("winner")


def settings(made: Page, rows: list[Row]) -> None:
    facts = {row["key"]: row["value"] for row in rows}
    text = made.text("settings")
    assert f"{int(facts['num_train']):,} training images" in text
    assert f"{facts['num_classes']} classes" in text
    assert f"up to {facts['max_epochs']} epochs" in text
    assert wording.listed([str(rung) for rung in json.loads(facts["rungs"])]) in text


def tiles(made: Page, rows: list[Row]) -> None:
    text = made.text("tiles")
    assert all(f"{row['trials']} {STATUS_WORDS[row['status']]}" in text for row in rows)
    assert f"{sum(row['trials'] for row in rows)} trials" in text


def best_config(made: Page, rows: list[Row]) -> None:
    (row,) = rows
    value = wording.objective_text(made.run, row["objective"])
    expected = f"best completed trial is trial {row['trial']} with a {wording.objective_name(made.run)} of {value}."
    assert expected in made.text("best-config")


def best_trials(made: Page, rows: list[Row]) -> None:
    run = made.run
    shown = [(cells[0], cells[2], cells[4], cells[6]) for cells in made.cells("best-trials")]
    keys = ("objective", "num_epochs", "num_parameters")
    assert shown == [
        (str(row["trial"]), wording.objective_text(run, row[keys[0]]), str(row[keys[1]]), wording.count(row[keys[2]]))
        for row in rows
    ]


def seeds(num: int, num_all: int) -> str:
    return f"{num}" if num == num_all else f"{num} of {num_all}"


def winners(made: Page, rows: list[Row]) -> None:
    run = made.run
    assert wording.basis(run, rows[0]) in made.text("winners")
    expected = [
        [
            wording.objective_interval(run, row),
            seeds(row["num_objective_seeds"], row["num_seeds"] + row["num_failed"]),
            wording.objective_text(run, row["search_objective"]),
            wording.difference_text(run, row["objective_gap"]),
            wording.count(row["num_parameters"]),
            wording.duration(row["wall_seconds"]),
        ]
        for row in rows
    ]
    assert [[cells[1], cells[2], *cells[4:]] for cells in made.cells("winners")] == expected
    for cells, row in zip(made.cells("winners"), rows, strict=True):
        low, high = row["objective_gain_low"], row["objective_gain_high"]
        ends = "" if low is None else f" ({wording.difference_ends(run, low, high)})"
        assert cells[3] == wording.difference_text(run, row["objective_gain"]) + ends


def metrics(made: Page, rows: list[Row]) -> None:
    shown = [(cells[1], cells[-1]) for cells in made.cells("metrics")]
    assert shown == [(wording.percent(row["test_accuracy"]), wording.number(row["test_loss"])) for row in rows]


def largest_class(made: Page, rows: list[Row]) -> None:
    texts = [each.text for each in made.cited("largest-class")]
    assert texts
    assert all(wording.percent(rows[0]["largest_class"]) in text for text in texts)


def largest_class_validation(made: Page, rows: list[Row]) -> None:
    share = wording.percent(rows[0]["largest_class"])
    assert share in wording.largest_class_text(made.run, "validation")
    if made.run.objective == "validation_accuracy":
        assert share in made.text("largest-class-validation")


def ensemble(made: Page, rows: list[Row]) -> None:
    (row,), text = rows, made.text("ensemble")
    low, high = (100 * row[f"test_accuracy_{end}"] for end in ("low", "high"))
    assert f"all {row['num_networks']} networks of {row['num_winners']} winners" in text
    assert f"{100 * row['test_accuracy']:.2f}\xa0% (95 % interval {low:.2f} to {high:.2f}" in text
    assert f"{row['cost']:.1f} times" in text


def cost(made: Page, rows: list[Row]) -> None:
    (row,), text = rows, made.text("cost")
    full = row["trials"] * made.run.settings["max_epochs"]
    assert f"{row['epochs']} epochs ({100 * row['epochs'] / full:.0f} % of {row['trials']} full trainings)" in text
    assert f"{wording.duration(row['train_seconds'])} of training in {wording.duration(row['wall_seconds'])}" in text
    assert not row["gpu_hours"]


def retrains(made: Page, rows: list[Row]) -> None:
    """One seed of the third winner diverged."""
    third = [row for row in rows if row["rank"] == 3]
    diverged = sum(row["status"] == "diverged" for row in third)
    expected = f"{diverged} of the {len(third)} retrainings of winner 3 has no {wording.tested_name(made.run)}"
    assert f"{expected} ({diverged} diverged)" in made.text("retrains")


def retraining_cost(made: Page, rows: list[Row]) -> None:
    expected = f"{rows[0]['trainings']} trainings and {wording.duration(rows[0]['seconds'])}"
    assert expected in made.text("retraining-cost")


def data(made: Page, rows: list[Row]) -> None:
    counts: dict[str, list[str]] = {}
    for split in ("train", "validation"):
        for row in rows:
            if row["split"] == split:
                counts.setdefault(row["class_name"], []).append(str(row["num_images"]))
    assert made.cells("data") == [[name, *numbers] for name, numbers in counts.items()]


def data_summary(made: Page, rows: list[Row]) -> None:
    assert all(line in made.text("data-summary") for line in json.loads(rows[0]["value"]))


def failures(made: Page, rows: list[Row]) -> None:
    shown = [(cells[1], cells[3]) for cells in made.cells("failures")]
    assert shown == [("baseline" if row["trial"] is None else str(row["trial"]), str(row["epoch"])) for row in rows]


def failure_classes(made: Page, rows: list[Row]) -> None:
    shown = {cells[0]: cells[1] for cells in made.cells("failure-classes")}
    assert shown == {STATUS_WORDS.get(name, name): str(num) for name, num in rows[0].items()}


def environment(made: Page, rows: list[Row]) -> None:
    shown = made.cells("environment")
    assert shown == [[row["section"], row["key"], row["value"] or "unknown"] for row in rows]


def mistakes(made: Page, rows: list[Row]) -> None:
    shown = [item.text for each in made.cited("mistakes") for item in each.all("li")]
    assert len(shown) == min(24, len(rows))
    for text, row in zip(shown, rows, strict=False):
        assert f"confidence {row['confidence']:.0%}, {row['probability_true']:.0%} for {row['true_class']}" in text
        assert f"wrong with {row['num_wrong']} of {row['num_seeds']} seeds" in text
        assert (row["image_name"] or f"image {row['index']}") in text


def made_at(made: Page, rows: list[Row]) -> None:
    assert {row["key"]: row["value"] for row in rows}["created"][:16].replace("T", " ") in made.text("made")


def first_test(made: Page, rows: list[Row]) -> None:
    assert f"{rows[0]['first_test']:%Y-%m-%d %H:%M}" in made.text("first-test")


def choices(made: Page, rows: list[Row]) -> None:
    """Each cell of the table: the median, the best and the number of the completed trials with an option and a depth."""
    depths = [head.text for each in made.cited("choices") for head in each.all("th")][2:]
    shown: dict[tuple[str, ...], str] = {}
    path = ""
    for first, option, *cells in made.cells("choices"):
        path = first or path
        for depth, cell in zip(depths, cells, strict=True):
            if cell != "-":
                shown[path, option, depth] = cell
    expected: dict[tuple[str, ...], str] = {}
    for row in rows:
        median, best = (wording.objective_text(made.run, row[key]) for key in ("median", "best"))
        cell = f"{median}, best {best} ({row['trials']})" if row["trials"] > 1 else f"{median} (1)"
        expected[row["choice"], row["option"], f"depth {row['depth']}"] = cell
    assert shown == expected
    assert {"optimizer.name", "schedule.name"} <= {path for path, *_ in shown}


def ranks(made: Page, rows: list[Row]) -> None:
    best = best_first(made.run, made.run.rows("trials"))
    assert [row["trial"] for row in rows[: len(best)]] == [row["trial"] for row in best]
    assert len(rows) == len(made.run.rows("trials"))


CHECKS: dict[str, Check] = {
    "headline": headline,
    "yardsticks": yardsticks,
    "winner": winner,
    "settings": settings,
    "tiles": tiles,
    "best-config": best_config,
    "best-trials": best_trials,
    "winners": winners,
    "metrics": metrics,
    "largest-class": largest_class,
    "largest-class-validation": largest_class_validation,
    "ensemble": ensemble,
    "cost": cost,
    "retraining-cost": retraining_cost,
    "data": data,
    "data-summary": data_summary,
    "failures": failures,
    "failure-classes": failure_classes,
    "environment": environment,
    "mistakes": mistakes,
    "made": made_at,
    "first-test": first_test,
    "ranks": ranks,
    "retrains": retrains,
    "choices": choices,
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_page_shows_what_the_query_gives(whole: Page, name: str) -> None:
    CHECKS[name](whole, rows_of(whole.run, name))


@pytest.mark.parametrize("name", CHECKS)
def test_a_query_with_other_numbers_would_be_noticed(whole: Page, name: str) -> None:
    rows = rows_of(whole.run, name)
    changed = [
        {key: value + 1 if isinstance(value, int | float) else value for key, value in row.items()} for row in rows
    ]
    for wrong in ([], changed) if changed != rows else ([],):
        with pytest.raises((AssertionError, ValueError, LookupError)):
            CHECKS[name](whole, wrong)


def test_every_query_of_the_page_is_checked(whole: Page) -> None:
    cited = {each.attributes["data-query"] for each in whole.tree.all() if each.attributes.get("data-query")}
    figures = {figure.id for section in sections_of(whole.run) for figure in section.figures}
    assert cited - figures - {"classes"} <= CHECKS.keys(), "figures and `classes`: test_cited_queries.py"


# --- pages of other runs ------------------------------------------------------------------------------------------------


def test_choices_that_are_left_out_are_counted(whole: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "left out" not in whole.text("choices")
    num = len({cells[0] for cells in whole.cells("choices")} - {""})
    assert num > 2
    monkeypatch.setattr("winnow.reports.text.choices.MAX_CHOICES", 2)
    made = opened(whole.run)
    assert len({cells[0] for cells in made.cells("choices")} - {""}) == 2
    assert f" {wording.plural(num - 2, 'further choice')} left out." in made.text("choices")


@pytest.mark.parametrize("objective", ["validation_loss", "validation_auroc"])
def test_the_headline_of_a_metric_whose_interval_covers_the_images(tmp_path: Path, objective: str) -> None:
    run = run_by(tmp_path / "run", objective)
    (row,) = rows_of(run, "headline")
    assert row["test_objective_images"] == row["num_test_images"] == NUM_TEST
    headline(opened(run), [row])


def test_the_audit_of_the_stops(audited: reports.RunData) -> None:  # noqa: F811
    made, rows = opened(audited), rows_of(audited, "audit")
    shown = [(cells[1], cells[2], cells[4]) for cells in made.cells("audit")]
    expected = [(row["num_stopped"], row["num_audited"], row["num_missed_best"]) for row in rows]
    assert shown == [(str(stopped), str(audit), wording.number(missed)) for stopped, audit, missed in expected]
    assert list(uncited(made.tree)) == []
    total = rows[-1]
    assert f"{total['num_wrong']} of these {total['num_audited']} stops" in made.text("audit")
    assert total["num_waiting"] - total["num_audited"] <= 0, "the page speaks of no waiting trials"


def test_the_trials_that_have_not_ended_and_the_best_so_far(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "going", "searching"))
    made, rows = opened(run), rows_of(run, "expected-ends")
    assert 0 < len(rows) <= MAX_TRIALS
    shown = [(cells[0], cells[3]) for cells in made.cells("expected-ends")]
    assert shown == [(str(row["trial"]), wording.objective_text(run, row["expected_end"])) for row in rows]
    (best,) = rows_of(run, "best-config")
    assert made.text("headline") == ""
    assert made.text("best-config").startswith(wording.objective_text(run, best["objective"]))
    sentence = winner_sentence(json.loads(best["config"]), best["num_parameters"], [best["num_epochs"]])
    assert sentence in made.text("best-config")
    (largest,) = rows_of(run, "largest-class")
    assert wording.percent(largest["largest_class"]) in made.text("largest-class")


def test_the_repeats_of_the_best_config_so_far(tmp_path: Path) -> None:
    folder, _ = searched(tmp_path, space_of())
    made = opened(reports.read(folder.path))
    (row,) = rows_of(made.run, "best-config")
    text = made.text("best-config")
    value = wording.objective_text(made.run, row["objective"])
    assert (row["num_repeats"], row["num_incomplete_repeats"]) == (3, 0)
    assert (
        f"The search ranks the config of trial {row['trial']} first, with a validation accuracy of {value} (mean of 3 repeats)."
        in text
    )
    assert text.startswith(
        f"{value}validation accuracy of the config that the search ranks first (mean of 3 repeats); "
    )
    assert winner_sentence(json.loads(row["config"]), row["num_parameters"], [row["num_epochs"]]) in text
    assert list(uncited(made.tree)) == []
    assert not changing(made.run.table, ["trials"], {"best-config": queries(made.run)["best-config"]})


def test_a_retraining_that_has_not_finished(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "cut")
    lines = (folder / "retrain.jsonl").read_text().splitlines(keepends=True)
    (folder / "retrain.jsonl").write_text("".join(lines[:4]))
    run = reports.read(folder)
    done = [row for row in rows_of(run, "retrains") if not row["baseline"]]
    assert f"{len(done)} of 9 trainings of the winners are done" in opened(run).text("retrains")


def test_the_repeats_of_a_config_in_the_search_are_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    for line in lines:
        if line["rank"] == 2:
            line["repeats"] = [line["trial"], 0]
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_tables(reports.read(folder), folder / "report")
    made = opened(reports.read(folder))
    rows = rows_of(made.run, "winners")
    assert [row["num_repeats"] for row in rows] == [1, 2, 1, 1]
    told = "The search ranked each config by the mean of its completed repeats: 1 of winner 1, 2 of winner 2, 1 of winner 3."
    assert told in made.text("winners")
    assert made.cells("winners")[1][4].endswith(" (mean of 2 repeats)")
    accuracies = [row["validation_accuracy"] for row in made.run.trial_rows()]
    first, second = rows[:2]
    searched = made.run.winner_rows()
    assert searched[0]["search_accuracy"] == accuracies[first["trial"]]
    assert searched[1]["search_accuracy"] == pytest.approx((accuracies[second["trial"]] + accuracies[0]) / 2)
    output = io.StringIO()
    show(made.run, Console(file=output, width=200))
    assert told in " ".join(output.getvalue().split())


def test_the_epochs_that_the_validation_images_chose(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"keep_validation": True, "epochs": line["seed"] - 90, "weights_epoch": line["seed"] - 95}
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_tables(reports.read(folder), folder / "report")
    made = opened(reports.read(folder))
    assert rows_of(made.run, "winners")[0]["weights_epochs"] == [6, 7, 8]
    assert "(epochs 6 to 8)" in made.text("winners")
    winner(made, rows_of(made.run, "winner"))
    assert "trained for 11 to 13 of 18 epochs" in made.text("winner")
    assert list(uncited(made.tree)) == []


def test_earlier_tests_and_the_first_of_all(tmp_path: Path) -> None:
    """They are no longer among the retrainings, but the test images were used."""
    folder = make_run(tmp_path / "again")
    lines = [json.loads(line) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    earlier = [line | {"time": line["time"] - 86_400} for line in lines if line["rank"] == 3]
    moved_twice = [*earlier, *earlier, lines[0]]  # an interrupted move is repeated
    (folder / "retrain.earlier.jsonl").write_text("".join(json.dumps(line) + "\n" for line in moved_twice))
    write_tables(reports.read(folder), folder / "report")
    made = opened(reports.read(folder))
    (row,) = rows_of(made.run, "earlier-tests")
    assert row == {"shown": 11, "earlier": 2}
    told = f"Besides the {row['shown']} trainings shown here, {row['earlier']} earlier trainings of other configs"
    assert made.text("earlier-tests").count(told) == 2, "in the summary and beside the winners"
    (row,) = rows_of(made.run, "first-test")
    assert row["first_earlier_test"][:16].replace("T", " ") in made.text("first-test")
    assert list(uncited(made.tree)) == []
    alone = reports.read(folder / "report")
    assert earlier_tests_text(alone) == earlier_tests_text(made.run) != ""
    output = io.StringIO()
    show(made.run, Console(file=output, width=200))
    assert told in " ".join(output.getvalue().split())
    output = io.StringIO()
    fresh = reports.read(make_run(tmp_path / "fresh"))
    show_comparison([fresh, made.run], Console(file=output, width=200))
    assert f"again: {told}" in " ".join(output.getvalue().split())
    assert "fresh: Besides" not in output.getvalue()
    assert earlier_tests_text(fresh) == ""


def test_earlier_tests_are_told_while_no_training_of_a_new_protocol_has_ended(tmp_path: Path) -> None:
    """A change of the protocol moves all lines before the first new training ends."""
    folder = make_run(tmp_path / "again")
    (folder / "retrain.jsonl").rename(folder / "retrain.earlier.jsonl")
    (folder / "retrain.jsonl").touch()
    run = reports.read(folder)
    made = opened(run)
    output = io.StringIO()
    show(run, Console(file=output, width=200))
    shown = " ".join(output.getvalue().split())
    by_section = {each.attributes["id"]: " ".join(each.text.split()) for each in made.tree.all("section")}
    untested = "No current winner was retrained under the current protocol yet, so none has a test accuracy."
    earlier = "11 earlier trainings of other configs or under another protocol were tested on the test images."
    for text in (by_section["summary"], by_section["winners"], shown):
        assert untested in text
        assert text.count(earlier) == 1
        assert "Besides" not in text
    assert "; not yet retrained or tested under the current protocol" in by_section["summary"]
    assert rows_of(run, "earlier-tests") == [{"shown": 0, "earlier": 11}]
    assert list(uncited(made.tree)) == []
    fresh = reports.read(make_run(tmp_path / "fresh", "searched"))
    assert no_winner_text(fresh) == "No winner was retrained yet, so none has a test accuracy."


def test_mistakes_of_several_seeds_come_first(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    for file in (folder / "predictions").glob("*.npz"):
        arrays = dict(np.load(file))
        arrays["predicted"][0] = (arrays["true"][0] + 1) % 10
        arrays["confidence"][0] = 0.3
        arrays["gallery_index"] = np.append(arrays["gallery_index"], 0)
        arrays["gallery_images"] = np.append(arrays["gallery_images"], arrays["gallery_images"][:1], axis=0)
        np.savez(file, **arrays)
    run = reports.read(folder)
    rows = rows_of(run, "mistakes")
    assert (rows[0]["index"], rows[0]["num_wrong"]) == (0, 3)
    mistakes(opened(run), rows)
    assert not changing(run.table, ["predictions"], {"mistakes": queries(run)["mistakes"]})


def test_only_mistakes_with_an_image_are_cited(tmp_path: Path) -> None:
    """Each training keeps the images of 24 mistakes; here each has 200, of which 100 are shared by all seeds."""
    folder = make_run(tmp_path / "run")
    for seed, file in enumerate(sorted((folder / "predictions").glob("*.npz"))):
        arrays = dict(np.load(file))
        wrong = np.r_[0:100, 100 + 20 * (seed % 3) : 200 + 20 * (seed % 3)]
        arrays["predicted"] = arrays["true"].copy()
        arrays["predicted"][wrong] = (arrays["true"][wrong] + 1) % 10
        arrays["confidence"] = np.random.default_rng(seed).uniform(0.5, 1, len(arrays["true"])).astype(np.float32)
        kept = wrong[np.argsort(-arrays["confidence"][wrong])][:24]
        arrays["gallery_index"] = kept
        arrays["gallery_images"] = np.zeros((24, 8, 8, 1), np.uint8)
        np.savez(file, **arrays)
    run = reports.read(folder)
    rows, made = rows_of(run, "mistakes"), opened(run)
    mistakes(made, rows)
    num_wrong = len({row["index"] for row in run.predictions.to_pylist() if row["rank"] == 1 and not row["correct"]})
    assert 24 < len(rows) < num_wrong
    assert f"--mistakes --top {num_wrong}" in made.text("mistakes")


@dataclass
class WithTable:
    """The tables of a run, one of them replaced."""

    source: Any
    name: str
    replaced: pa.Table

    def table(self, name: str) -> pa.Table:
        return self.replaced if name == self.name else self.source.table(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def test_earlier_runs(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "learning", "searched"))
    facts = {"run": "learning", "data": "digits", "family": "cnn", "machine": "x", "winnow_version": "0.2.0"}
    weights = [("a", 0, 0.5, 0.75), ("b", 0, 0.25, 0.25), ("a", 1, 0.7, 0.2), ("b", 1, 0.2, 0.8), ("a", 2, 0.1, None), ("b", 2, 0.3, None)]  # fmt: skip
    lines = [
        {**facts, "earlier_run": name, "num_trials": 7, "trial": trial, "weight": weight, "share": share}
        for name, trial, weight, share in weights
    ]
    table = pa.Table.from_pylist(lines, schema=arrow_schema("memory", {}, {}))
    run = replace(run, study={**run.study, "earlier_runs": ["a", "b"]}, source=WithTable(run.source, "memory", table))
    made, rows = opened(run), rows_of(run, "memory")
    assert [(row["earlier_run"], row["suggested"]) for row in rows] == [("a", [0]), ("b", [1])]
    shown = [(cells[0], cells[5], cells[6]) for cells in made.cells("memory")]
    assert shown == [(row["earlier_run"], str(row["num_trials"]), f"{row['mean_weight']:.2f}") for row in rows]
    assert f"of {rows[0]['trials']} trials" in made.text("memory")
    assert list(uncited(made.tree)) == []
    drawn = {
        (name, trial): weight
        for name, (trials, values) in weight_lines(run).items()
        for trial, weight in zip(trials, values, strict=True)
    }
    assert drawn == {(row["earlier_run"], row["trial"]): row["weight"] for row in rows_of(run, "memory-weights")}


def test_a_page_without_a_figure_has_no_plotting_library(tmp_path: Path, whole: Page) -> None:
    empty = page(reports.read(make_run(tmp_path / "empty", "empty")))
    assert "plotly.js v" not in empty
    assert len(empty) < 100_000
    assert page(whole.run).count("plotly.js v") == 1
