"""Every figure and number of the report cites a query; each is run on the tables and gives what the page shows."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.fronts import make_front_run
from tests.helpers.make_run import make_run
from tests.reports.test_cited_numbers import opened, uncited
from tests.search.cli.test_cli import winnow  # noqa: F401
from winnow import reports
from winnow.reports.figures.front import front_info
from winnow.reports.html import sections
from winnow.reports.html.page import page
from winnow.reports.html.search_sections import MAX_TRIALS
from winnow.reports.statuses import STATUS_WORDS, is_ranked
from winnow.reports.tables.candidates import best_first
from winnow.reports.tables.parquet import write_tables
from winnow.reports.tables.query import query
from winnow.reports.text import wording
from winnow.reports.text.queries import SCORED, queries
from winnow.reports.visible import plotly_text
from winnow.spaces.errors import InputError

duckdb = pytest.importorskip("duckdb", reason="the extra `query` is not installed")

Row = dict[str, Any]


@pytest.fixture(scope="module", params=["validation_accuracy", "validation_loss"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    folder = make_run(tmp_path_factory.mktemp("runs") / request.param, objective=request.param)
    write_tables(reports.read(folder), folder / "report")
    return reports.read(folder)


@pytest.fixture(scope="module")
def figures(run: reports.RunData) -> dict[str, Any]:
    """The data and the layout of every figure, as the page has them."""
    made = sections.sections_of(run)
    return {figure.id: json.loads(figure.plot.to_json()) for section in made for figure in section.figures}


def rows(run: reports.RunData, name: str) -> list[Row]:
    return query(run, queries(run)[name]).to_pylist()


def counted(points: Iterable[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """Points with numbers of nine digits, so that sums in another order are equal."""
    return Counter(tuple(float(f"{x:.9g}") if isinstance(x, int | float) else x for x in point) for point in points)


def dots(traces: list[dict[str, Any]]) -> Iterable[tuple[Any, ...]]:
    for trace in traces:
        if trace.get("customdata"):
            points = zip(trace["x"], trace["y"], trace["customdata"], strict=True)
            yield from (point for point in points if point[0] is not None)


def as_shown(value: Any) -> Any:
    """A value of a parameter as figures write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return plotly_text(value) if isinstance(value, str) else value


# --- what a figure shows of its query ------------------------------------------------------------------------------------

Check = Callable[[reports.RunData, Any, list[Row]], None]
"""Compares a figure with the rows of its query."""


def dots_of(*names: str) -> Check:
    """A check of the dots of a figure, by the columns of its query: x, y and the trial of each dot."""

    def check(run: reports.RunData, figure: Any, found: list[Row]) -> None:
        columns = [name.format(objective=run.objective) for name in names]
        assert counted(dots(figure["data"])) == counted(tuple(row[column] for column in columns) for row in found)

    return check


def best_so_far(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    *points, line = figure["data"]
    assert line["y"] == [row["best_so_far"] for row in found]
    assert counted((y, trial) for _, y, trial in dots(points)) == counted(
        (row[run.objective], row["trial"]) for row in found if row[run.objective] is not None
    )
    by_time, by_epochs, by_hours = (
        button["args"][0]["x"][-1] for button in figure["layout"]["updatemenus"][0]["buttons"]
    )
    assert by_epochs == list(range(1, len(found) + 1))
    assert [x / by_hours[-1] for x in by_hours] == pytest.approx(
        [r["cpu_hours"] / found[-1]["cpu_hours"] for r in found]
    )
    assert {row["gpu_hours"] for row in found} == {0}
    seconds = [(row["time"] - found[0]["time"]).total_seconds() for row in found]
    passed = [(x - by_time[0]) / (by_time[-1] - by_time[0]) for x in by_time]
    assert passed == pytest.approx([second / seconds[-1] for second in seconds], abs=1e-6)


def parallel_coordinates(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    *parameters, objective = figure["data"][0]["dimensions"]
    assert objective["values"] == [row["objective"] for row in found]
    assert len(parameters) > 2
    for axis in parameters:
        ticks = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
        for place, row in zip(axis["values"], found, strict=True):
            value = as_shown(row[axis["label"]])
            if value is None or isinstance(value, str):
                assert ticks[place] == (value or "-")
            else:
                assert place in (pytest.approx(value), pytest.approx(math.log10(value)) if value > 0 else None)


def importance(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    bars, texts = figure["data"][::2], figure["data"][1::2]
    shown = [
        (name, share, std, text.strip())
        for bar, beside in zip(bars, texts, strict=True)
        for name, share, std, text in zip(bar["y"], bar["x"], bar["error_x"]["array"], beside["text"], strict=True)
    ]
    assert sorted(shown) == sorted(
        (row["parameter"], row["importance"], row["importance_std"] or 0.0, f"n={row['num_trials']}") for row in found
    )


def budget(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    shown = {
        (int(stretch.split()[-1]), bar["name"], y)
        for bar in figure["data"]
        for stretch, y in zip(bar["x"], bar["y"], strict=True)
        if y
    }
    assert shown == {(row["epoch"], STATUS_WORDS[row["status"]], row["epochs_trained"]) for row in found}
    above = {int(each["x"].split()[-1]): each["text"] for each in figure["layout"]["annotations"]}
    assert above == {row["epoch"]: wording.plural(row["num_reached"], "trial") for row in found}


def winners(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    means, seeds, search = figure["data"]
    assert means["x"] == [row["test_objective"] for row in found]
    for row, label, above, below in zip(
        found, means["y"], means["error_x"]["array"], means["error_x"]["arrayminus"], strict=True
    ):
        assert row["test_objective"] + above == pytest.approx(row["test_objective_high"])
        assert row["test_objective"] - below == pytest.approx(row["test_objective_low"])
        of_row = [x for x, y in zip(seeds["x"], seeds["y"], strict=True) if y == label]
        assert of_row == row["of_seeds"]
        searched = [x for x, y in zip(search["x"], search["y"], strict=True) if y == label]
        assert searched == ([] if row["search_objective"] is None else [row["search_objective"]])


def confusion(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    shown = {
        (true, predicted): int(trace["text"][i][j])
        for trace in figure["data"]
        for i, true in enumerate(trace["y"])
        for j, predicted in enumerate(trace["x"])
        if trace["text"][i][j] not in ("", "0")
    }
    assert shown == {(row["true_class"], row["predicted_class"]): row["images"] for row in found}


def per_class(run: reports.RunData, figure: Any, found: list[Row]) -> None:
    (classes, *_) = figure["data"]
    accuracy = {row["true_class"]: (pytest.approx(row["accuracy"]), row["images"]) for row in found}
    pairs = zip(classes["x"], classes["customdata"], strict=True)
    assert dict(zip(classes["y"], pairs, strict=True)) == accuracy


CHECKS: dict[str, Check] = {
    "learning-curves": dots_of("epoch", "{objective}", "trial"),
    "size": dots_of("num_parameters", "objective", "trial"),
    "speed": dots_of("seconds_per_epoch", "objective", "trial"),
    "best-so-far": best_so_far,
    "budget": budget,
    "importance": importance,
    "parallel": parallel_coordinates,
    "winners": winners,
    "confusion": confusion,
    "per-class": per_class,
}
"""The check of each figure besides the slices. Those of other runs are below: fronts, and the weights of earlier runs."""


@pytest.mark.parametrize("name", CHECKS)
def test_a_figure_shows_what_its_query_gives(run: reports.RunData, figures: dict[str, Any], name: str) -> None:
    CHECKS[name](run, figures[name], rows(run, name))


@pytest.mark.parametrize("name", CHECKS)
def test_a_query_with_other_numbers_would_be_noticed(run: reports.RunData, figures: dict[str, Any], name: str) -> None:
    found = rows(run, name)
    changed = [{key: value + 1 if isinstance(value, int | float) else value for key, value in r.items()} for r in found]
    for wrong in ([], changed):
        with pytest.raises((AssertionError, ValueError, LookupError)):
            CHECKS[name](run, figures[name], wrong)


def test_every_figure_is_compared_with_its_query(figures: dict[str, Any]) -> None:
    assert {name for name in figures if not name.startswith("slice-")} == CHECKS.keys()


def test_every_figure_cites_a_query(run: reports.RunData, figures: dict[str, Any]) -> None:
    html = page(run)
    cited = set(re.findall(r'data-query="([^"]+)"', html))
    assert cited >= figures.keys() | {"headline", "tiles", "best-trials", "failures", "metrics", "classes"}
    assert cited <= queries(run).keys()


def test_slices(run: reports.RunData, figures: dict[str, Any]) -> None:
    names = [name for name in figures if name.startswith("slice-")]
    assert len(names) > 5
    for name in names:
        found = rows(run, name)
        path = list(found[0])[2]
        assert counted(dots(figures[name]["data"])) == counted(
            (as_shown(row[path]), row["objective"], row["trial"]) for row in found
        ), name


# --- tables and numbers ---------------------------------------------------------------------------------------------------


def test_the_headline_is_the_first_winner(run: reports.RunData) -> None:
    first = rows(run, "winners")[0]
    assert rows(run, "headline")[0]["test_objective"] == first["test_objective"]
    headline = sections._headline(run)
    assert headline is not None
    assert headline[0] == wording.objective_text(run, first["test_objective"])


def test_tables_of_the_page(run: reports.RunData) -> None:
    counts = Counter(row["status"] for row in run.rows("trials"))
    assert {row["status"]: row["trials"] for row in rows(run, "tiles")} == counts
    best = best_first(run, run.rows("trials"))[:MAX_TRIALS]
    assert [row["trial"] for row in rows(run, "best-trials")] == [row["trial"] for row in best]
    assert [row["trial"] for row in rows(run, "failures")] == [row["trial"] for row in run.rows("failures")]


def test_metrics_and_classes_in_numbers(run: reports.RunData) -> None:
    (winner, *_) = [row for row in run.rows("winners") if row["rank"] == 1]
    found = rows(run, "metrics")[0]
    assert all(found[key] == winner[key] for key in ("test_accuracy", "test_loss", "test_macro_f1"))
    shown = sections._class_table(run)
    assert shown is not None
    assert [line[0] for line in shown.rows] == [row["class_name"] for row in rows(run, "classes")]
    assert [line[4] for line in shown.rows] == [wording.percent(row["f1"]) for row in rows(run, "classes")]


def test_fronts_earlier_runs_and_audits_cite_queries(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["settings"] |= {"objectives": ["validation_accuracy", {"minimize": "parameters"}]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    run = reports.read(folder)
    info = front_info(run, "num_parameters")
    found = rows(run, "front-num_parameters")
    assert [(row["num_parameters"], row["objective"]) for row in found] == list(
        zip(info.further, info.objective, strict=True)
    )
    assert {row["trial"] for row in found if row["rank"] is not None} == {info.trials[place] for place in info.front}
    assert rows(run, "memory-weights") == rows(run, "audit") == []
    assert 'data-query="front-num_parameters"' in page(run)
    made = opened(run)
    assert list(uncited(made.tree)) == []
    shown = [(cells[0], cells[1], cells[3], cells[4]) for cells in made.cells("front")]
    ranked = sorted((row for row in found if row["rank"] is not None), key=lambda row: row["rank"])
    assert shown == [
        (str(row["rank"]), str(row["trial"]), wording.figure_text("num_parameters", row["num_parameters"]), wording.percent(row["test_accuracy"]))
        for row in ranked
    ]  # fmt: skip


def test_fronts_of_metrics_cite_queries(tmp_path: Path) -> None:
    error = "validation_calibration_error"
    objectives = ["validation_accuracy", {"minimize": error}, {"minimize": "parameters"}]
    run = reports.read(make_front_run(tmp_path / "one", objectives, stage="retrained"))
    info = front_info(run, error)
    found = rows(run, f"front-{error}")
    assert [(row[error], row["objective"]) for row in found] == list(zip(info.further, info.objective, strict=True))
    members = [row for row in found if row["rank"] is not None]
    assert {row["trial"] for row in members} == {info.trials[place] for place in info.front}
    tested = {(row["test_calibration_error"], row["test_accuracy"], row["trial"]) for row in members}
    assert {each for each in tested if each[0] is not None} == set(info.tested)
    table = run.rows("front")
    columns = ("rank", "trial", "objective", error, "num_parameters", "test_accuracy", "test_calibration_error")
    assert rows(run, "front") == [{name: row[name] for name in columns} for row in table]


def test_the_same_query_in_duckdb_beside_the_files(run: reports.RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path / "report")
    for name, sql in queries(run).items():
        assert duckdb.sql(sql).to_arrow_table().num_rows == len(rows(run, name)), name


def test_the_command_prints_a_table_json_or_csv(tmp_path: Path, winnow) -> None:  # noqa: F811
    make_run(tmp_path / "runs" / "a", "searched", trials=6)
    sql = "select status, count(*) as n from trials where status = 'skipped' group by status"
    assert winnow("query", "a", sql).stdout.split()[-2:] == ["skipped", "1"]
    assert json.loads(winnow("query", "a", sql, "--json").stdout) == {"status": "skipped", "n": 1}
    assert winnow("query", "a", sql, "--csv").stdout.replace('"', "") == "status,n\nskipped,1\n"
    refused = winnow("query", "a", "select nothing from trials")
    assert refused.returncode == 2
    assert "nothing" in refused.stderr
    assert "the tables are trials, epochs" in refused.stderr


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("copy trials to 'out.csv'", "`copy`"),
        ("attach 'out.db'", "`attach`"),
        ("install httpfs", "`load`"),
        ("pragma database_list", "`pragma`"),
        ("set threads = 1", "`set`"),
        ("create table kept as select 1", "`create`"),
        ("drop view trials", "`drop`"),
        ("select 1; drop view trials", "2 statements"),
        ("-- a remark", "none"),
        ("select * from read_csv('secret.txt')", "secret.txt"),
        ("select * from read_text('secret.txt')", "secret.txt"),
        ("select * from glob('*')", "no other file"),
        ("select * from 'secret.txt'", "secret.txt"),
        ("select * from run", "run"),
    ],
)
def test_only_the_tables_of_the_run_can_be_read(
    run: reports.RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=re.escape(reason)) as error:
        query(run, sql)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"], "nothing is written"


@pytest.mark.parametrize(
    "sql",
    ["FROM Trials", "with t as (from trials) from t", "describe trials", "show tables", "pivot trials on status using count(*)", "select 1 -- ;\n;"],
)  # fmt: skip
def test_every_way_to_read_is_allowed(run: reports.RunData, sql: str) -> None:
    assert query(run, sql).num_rows > 0


def test_a_long_result_is_cut_in_the_terminal_only(tmp_path: Path, winnow) -> None:  # noqa: F811
    make_run(tmp_path / "runs" / "a", "empty")
    printed = winnow("query", "a", "select i from range(2000) r(i)")
    assert len(printed.stdout.split()) < 1010
    assert "the first 1,000 of 2,000 rows; --csv or --json writes all" in printed.stderr
    for option in ("--csv", "--json"):
        written = winnow("query", "a", "select i from range(2000) r(i)", option)
        assert len(written.stdout.splitlines()) == 2000 + (option == "--csv")
        assert not written.stderr


def test_without_duckdb_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch, run: reports.RunData) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(InputError, match=r"pip install 'winnow-search\[query\]'"):
        query(run, "select 1")


def test_trials_beyond_a_limit_are_no_ranked_trials(tmp_path: Path) -> None:
    """A limit on the time of an epoch ends a trial after epochs that have values, so it has an objective."""
    folder = make_run(tmp_path / "run", "searched")
    journal = folder / "study.journal"
    stopped = [row["trial"] for row in reports.read(folder).trial_rows() if row["status"] == "stopped"]
    before = journal.read_text()
    journal.write_text(before.replace('"status":"stopped"', '"status":"infeasible"'))
    assert journal.read_text() != before
    run = reports.read(folder)
    write_tables(run, folder / "report")
    assert {row["status"] for row in run.trial_rows() if row["trial"] in stopped} == {"infeasible"}
    assert any(row["objective"] is not None for row in run.trial_rows() if row["trial"] in stopped)
    found = query(run, f"select trial from 'trials.parquet' where {SCORED}").to_pylist()
    assert {row["trial"] for row in found} == {row["trial"] for row in run.trial_rows() if is_ranked(row)}
    assert not {row["trial"] for row in found} & set(stopped)


def test_the_test_images_were_not_used_by_retrainings_that_failed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if not key.startswith("test_")} for line in lines]
    failed = [line | {"status": "failed", "error": "a bug", "predictions": None} for line in kept]
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in failed))
    run = reports.read(folder)
    write_tables(run, folder / "report")
    assert "first used" not in page(run)
    assert rows(run, "first-test")[0]["first_test"] is None
    assert "first used" in page(reports.read(make_run(tmp_path / "tested")))
