"""`winnow show` and `winnow compare`: what they print, choose and refuse; the events of --json."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from rich.console import Console

from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.html import search_sections
from winnow.reports.tables import filters as conditions
from winnow.reports.text import compare
from winnow.reports.text import wording as words
from winnow.reports.text.config_words import describe
from winnow.search.cli.main import main
from winnow.search.views.follow import follow, in_use
from winnow.spaces.errors import InputError

COLUMNS = ("trial", "optimizer.name", "model.stages.0.filters", "model.dropout", "flag")
ROWS = [
    dict(zip(COLUMNS, values, strict=True))
    for values in [(0, "sgd", 16, 0.0, True), (1, "adam", 32, 0.5, False), (2, "adam", None, None, True), (3, "a or b", 64, 0.1, False)]
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def winnow(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: Any, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert end.value.code == code, captured.err
        return captured.err if code == 2 else captured.out.replace("\u00a0", " ")

    return call


@pytest.mark.parametrize("place", ["the run", "a folder"])
def test_what_a_model_printed_is_named_where_workers_write_it(run, winnow, tmp_path, monkeypatch, place):
    monkeypatch.setenv("COLUMNS", "400")
    copy = stored_in(run, tmp_path, None if place == "the run" else str(tmp_path / "elsewhere"))
    row = next(row for row in reports.read(copy).retrain_rows() if not row["baseline"])
    checkpoints = (copy if place == "the run" else tmp_path / "elsewhere") / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    assert ".log" not in winnow("show", copy, "--trial", row["trial"])
    for name in (f"trial-{row['trial']:05d}.log", f"retraining-t{row['trial']}-s{row['seed']}.log"):
        (checkpoints / name).touch()
        assert f"printed           {checkpoints / name}\n" in winnow("show", copy, "--trial", row["trial"])


def test_the_place_of_prints_in_an_object_store_is_named_unseen(run, winnow, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    copy = stored_in(run, tmp_path, "s3://bucket/r?region=x")
    place = "s3://bucket/r/checkpoints/trial-00000.log?region=x (if anything was printed)"
    assert place in winnow("show", copy, "--trial", "0")


def stored_in(run: Path, folder: Path, storage: str | None) -> Path:
    """A copy of a run whose workers wrote to this storage."""
    copy = Path(shutil.copytree(run, folder / "r"))
    study = yaml.safe_load((copy / "study.yaml").read_text())
    (copy / "study.yaml").write_text(yaml.safe_dump(study | {"storage": storage}))
    return copy


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "trials"),
    [
        ("optimizer.name == 'sgd'", [0]),
        ('optimizer.name != "sgd"', [1, 2, 3]),
        ("optimizer.name == 'a or b'", [3]),
        ("model.stages.0.filters >= 32", [1, 3]),
        ("16 < model.stages.0.filters <= 64 and not flag", [1, 3]),
        ("optimizer.name == 'adam' or model.dropout == 0", [0, 1, 2]),
        ("optimizer.name in ['sgd', 'a or b']", [0, 3]),
        ("`optimizer.name` not in ('sgd',) and (flag or trial > 2)", [2, 3]),
        ("model.dropout == null", [2]),
        ("model.dropout is not None", [0, 1, 3]),
        ("model.dropout > -1", [0, 1, 3]),
        ("'dam' in optimizer.name", [1, 2]),
        ("flag", [0, 2]),
    ],
)
def test_conditions(condition, trials):
    assert [row["trial"] for row in conditions.where(ROWS, COLUMNS, condition)] == trials


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("optimizer.nam == 'sgd'", "did you mean optimizer.name"),
        ("optimizer.name == sgd", "no column 'sgd'"),
        ("optimizer.name = 'sgd'", "cannot be parsed"),
        ("trial ==", "cannot be parsed"),
        ("", "cannot be parsed"),
        ("trial", "neither true nor false"),
        ("trial < 'a'", "cannot be compared"),
        ("trial + 1 == 2", "is neither a column nor a value"),
        ("__import__('os').system('true')", "no column '__import__'"),
        ("().__class__", "is neither a column nor a value"),
        ("[x for x in [1]]", "no column"),
        ("trial.__class__ == 1", "no column 'trial.__class__'"),
        ("'a'.upper() == 'A'", "is neither a column nor a value"),
        ("flag and (lambda: 1)", "no column 'lambda'"),
        ("f'{trial}' == '0'", "no column 'f'"),
        ("column_0 == 1", "no column 'column_0'"),
        ("(" * 500 + "trial" + ")" * 500, "cannot be parsed"),
    ],
)
def test_nothing_else_is_a_condition(condition, words):
    with pytest.raises(InputError, match=r"--where") as caught:
        conditions.where(ROWS, COLUMNS, condition)
    assert words in str(caught.value)


def test_sort_puts_nulls_last():
    assert [row["trial"] for row in conditions.sort(ROWS, COLUMNS, "model.dropout")] == [0, 3, 1, 2]
    assert [row["trial"] for row in conditions.sort(ROWS, COLUMNS, "-model.dropout")] == [1, 3, 0, 2]
    with pytest.raises(InputError, match=r"did you mean model\.dropout\?$"):
        conditions.sort(ROWS, COLUMNS, "model.dropuot")


# --- show ------------------------------------------------------------------------------------------------------------


def test_the_table_is_one_line_a_trial_at_80_columns(run, winnow):
    text = winnow("show", run)
    assert max(map(len, text[: text.index("\nreport ")].splitlines()[3:])) <= 80
    table = text[text.index("by validation accuracy") :].splitlines()[4:14]
    best = json.loads(next(r for r in reports.select(run, sort="-objective") if r["status"] == "completed")["config"])
    assert describe(best)[:20] in table[0]
    assert all(line.split()[0].isdigit() and "cnn" in line for line in table)


def test_choose_and_order(run, winnow):
    text = winnow("show", run, "--where", "optimizer.name == 'sgd'", "--sort", "-optimizer.lr", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    rates = [row["optimizer.lr"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    expected = [row for row in reports.read(run).trials.to_pylist() if row["optimizer.name"] == "sgd"]
    assert sorted(row["trial"] for row in rows) == [row["trial"] for row in expected]
    table = winnow("show", run, "--where", "optimizer.name == 'sgd'", "--top", "2")
    assert f"First 2 of {len(rows)} trials" in table
    assert "No trial matches" in winnow("show", run, "--where", "trial > 999")


def test_the_columns_that_choose_are_shown(run, winnow):
    """A column that sorts is printed; trials that failed do not lead an order by a cost, unless they are asked for."""
    lines = [line.split() for line in winnow("show", run, "--sort", "num_parameters", "--top", "99").splitlines()]
    assert ["trial", "status", "accuracy", "epochs", "num_parameters", "config"] in lines
    rows = reports.select(run, sort="num_parameters")
    sizes = [row["num_parameters"] for row in rows if row["status"] in ("completed", "stopped")]
    assert sizes == sorted(sizes)
    assert [row["status"] for row in rows[len(sizes) :]] == ["out_of_memory", "diverged", "failed", "skipped"]
    assert rows[0]["trial"] == int(next(line[0] for line in lines if line and line[0].isdigit() and "cnn" in line))
    failed = reports.select(run, "status in ['failed', 'out_of_memory']", "-num_parameters")
    assert [row["status"] for row in failed] == ["failed", "out_of_memory"]
    condition = "optimizer.lr > 0.01 and optimizer.name == 'sgd' and model.dropout > 0.1"
    wide = winnow("show", run, "--where", condition, "--sort", "-started")
    assert max(map(len, wide.splitlines())) <= 80
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", wide)


def test_failed_trials_are_shown_with_their_errors_and_whole_configs(run, winnow):
    text = winnow("show", run, "--where", "status in ['diverged', 'failed', 'out_of_memory']")
    assert "failed trial 17: RuntimeError: <b>worker</b> died & was not replaced" in text
    assert "out of memory trial 9: CUDA out of memory" in text
    assert "…" not in text
    (config,) = (row["config"] for row in reports.select(run, "trial == 17"))
    assert all(word in text.split() for word in describe(json.loads(config)).split())


def test_one_trial_shows_everything(run, winnow):
    facts = json.loads(winnow("show", run, "--trial", "9", "--json"))
    assert facts["status"] == "out_of_memory"
    text = winnow("show", run, "--trial", "17")
    assert "<b>worker</b> died" in text
    assert "weight_decay" in text
    winner = reports.winners_table(run)[0]["trial"]
    text = winnow("show", run, "--trial", winner)
    assert text.count("retrained, seed") == 3
    assert "0 go" in text
    assert "no such trial" in winnow("show", run, "--trial", "99", code=2)
    assert "--follow" in winnow("show", run, "--trial", "1", "--follow", code=2)


def test_one_trial_names_what_was_printed(run, winnow):
    winner = reports.winners_table(run)[0]["trial"]
    seed = next(line["seed"] for line in reports.read_tables(run).retrain_rows() if line["trial"] == winner)
    names = (f"trial-{winner:05d}.log", f"retraining-t{winner}-s{seed}.log")
    assert "printed" not in winnow("show", run, "--trial", winner)
    for name in names:
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / name).touch()
    try:
        words = "".join(winnow("show", run, "--trial", winner).split())
    finally:
        for name in names:
            (run / "checkpoints" / name).unlink()
    assert all(f"checkpoints/{name}" in words for name in names)


def test_one_trial_shows_the_objective_first(tmp_path, winnow):
    """The objective, of the search and of the test images, comes before the accuracy."""
    losses = make_run(tmp_path / "losses", objective="validation_loss")
    winner = reports.winners_table(losses)[0]
    text = winnow("show", losses, "--trial", winner["trial"])
    searched = reports.read(losses).trial_rows()[winner["trial"]]
    assert f"objective         validation loss {searched['objective']:.4g}" in text
    line = next(line for line in reports.read(losses).retrain_rows() if line["trial"] == winner["trial"])
    assert (
        f"seed {line['seed']}: test loss {line['test_loss']:.4g}, test accuracy {100 * line['test_accuracy']:.2f} %"
        in text
    )

    folder = make_run(tmp_path / "scores")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["settings"]["objective"] = "validation_macro_f1"
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    for name, key in (("epochs", "validation_macro_f1"), ("retrain", "test_macro_f1")):
        file = folder / f"{name}.jsonl"
        lines = [json.loads(line) | {key: 0.4321} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = winnow("show", folder, "--trial", winner["trial"])
    assert text.count("test macro F1 43.21 %, test accuracy 97") == 3
    assert text.index("F1   ") < text.index("val loss")
    row = next(line for line in text.splitlines() if line.strip().startswith("2 "))
    assert row.split()[1] == "43.21"
    assert all(len(line) <= 80 for line in text.splitlines()), "nothing is wrapped"
    assert "…" not in text
    assert "accuracy 97" not in winnow("show", folder, "--trial", "1")


@pytest.mark.parametrize("objective", ["validation_accuracy", "validation_loss"])
def test_no_number_of_the_winners_is_cut_off_at_80_columns(tmp_path, winnow, objective):
    folder = make_run(tmp_path / "one", objective=objective)
    text = winnow("show", folder)
    table = text[text.index("Retrained, tested once") :]
    for row in reports.winners_table(folder):
        cell = words.objective_interval(reports.read(folder), row).replace("\u00a0", " ")
        assert cell in table
    lines = table[: table.index("95 %: interval")].splitlines()
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_the_image_of_a_mistake_is_never_cut_off(tmp_path, winnow):
    folder = make_run(tmp_path / "one")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = [f"a rather long name of the class {digit}" for digit in range(10)]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    text = winnow("show", folder, "--mistakes", "--top", "5")
    assert len(re.findall(r"test image \d+ *$", text, re.MULTILINE)) == 5
    assert max(map(len, text.splitlines())) <= 80


def test_follow_ends_with_the_driver(run):
    """It draws at least once, again only when something changed, and stops when the lock stays free."""
    console = Console(file=io.StringIO(), width=80)
    lock = FileLock(run / ".lock")
    lock.acquire()
    drawn = iter(["first", "first", "second", "second", "third"])

    def show(paper: Console) -> None:
        text = next(drawn)
        if text == "second" and lock.is_locked:
            lock.release()
        paper.print(text)

    assert in_use(run)
    follow(run, console, show, seconds=0.0)
    assert not in_use(run)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split() == ["first", "second", "third"]


# --- compare ---------------------------------------------------------------------------------------------------------


def test_runs_of_one_protocol_are_compared(run, tmp_path, winnow):
    other = make_run(tmp_path / "other", seed=3)
    first, second = compare.comparison([reports.read(run), reports.read(other)])
    assert first["difference"] is None
    assert second["difference"] == pytest.approx(second["test_accuracy"] - first["test_accuracy"])
    assert second["difference_low"] < second["difference"] < second["difference_high"]
    text = winnow("compare", run, other)
    assert f"other - one: {100 * second['difference']:+.2f} points" in text
    assert "The seeds differ" in text


def test_runs_of_two_protocols_are_not(run, tmp_path, winnow):
    other = make_run(tmp_path / "other")
    study = yaml.safe_load((other / "study.yaml").read_text())
    study["data"]["fingerprint"] = "f" * 16
    study["settings"]["max_epochs"] = 7
    (other / "study.yaml").write_text(yaml.safe_dump(study))
    text = winnow("compare", run, other, code=1)
    assert "cannot be compared" in text
    assert "data fingerprint" in text
    told = json.loads(winnow("compare", run, other, "--json", code=1))
    assert [row["key"] for row in told["protocol_differences"]] == ["data fingerprint", "epochs"]
    assert told["protocol_differences"][1]["values"] == [20, 7]


def with_costs(folder: Path, costs: list[str], seed: int = 0) -> Path:
    """A run that also minimized costs; each network takes 50 multiply-adds per parameter."""
    make_run(folder, "searched", seed=seed)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["settings"]["objectives"] = ["validation_accuracy", *({"minimize": cost} for cost in costs)]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


def test_fronts_of_the_same_objectives_are_compared_by_hypervolume(run, tmp_path, winnow):
    folders = [with_costs(tmp_path / name, ["parameters"], seed) for name, seed in (("a", 0), ("b", 3))]
    runs = [reports.read(folder) for folder in folders]
    rows = [row for one in runs for row in one.trial_rows() if row["status"] == "completed"]
    worst = (min(row["objective"] for row in rows), max(row["num_parameters"] for row in rows))
    best = (max(row["objective"] for row in rows), min(row["num_parameters"] for row in rows))

    def share(one: reports.RunData) -> float:
        """The area below the steps of the front without the baseline, trial 0: strips from the most accurate network on."""
        area, size = 0.0, worst[1]
        points = [
            (row["objective"], row["num_parameters"])
            for row in one.trial_rows()
            if row["status"] == "completed" and row["trial"]
        ]
        for objective, parameters in sorted(points, key=lambda point: (-point[0], point[1])):
            if parameters < size:
                area += (objective - worst[0]) * math.log(size / parameters)
                size = parameters
        return area / ((best[0] - worst[0]) * math.log(worst[1] / best[1]))

    shares = [row["dominated_share"] for row in compare.comparison(runs)]
    assert shares == pytest.approx([share(one) for one in runs])
    assert all(0 < each <= 1 for each in shares)
    text = " ".join(winnow("compare", *folders).split())
    assert f"Hypervolume of the fronts: a {100 * shares[0]:.2f} % and b {100 * shares[1]:.2f} %" in text
    assert f"are validation accuracy {100 * worst[0]:.2f} % and {worst[1]:,} parameters" in text
    assert "Hypervolume" not in winnow("compare", run, run)


def test_fronts_that_cannot_be_compared(run, tmp_path, winnow):
    sizes, speeds, again = (
        with_costs(tmp_path / name, [cost])
        for name, cost in (("a", "parameters"), ("b", "epoch_seconds"), ("c", "epoch_seconds"))
    )
    for first, second in ((sizes, speeds), (sizes, run)):
        assert "the runs have different objectives" in " ".join(winnow("compare", first, second).split())
    file = again / "epochs.jsonl"
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "a GPU"'))
    text = " ".join(winnow("compare", speeds, again).split())
    assert "seconds of an epoch was measured on different devices" in text
    assert [row["dominated_share"] for row in compare.comparison([reports.read(speeds), reports.read(again)])] == [
        None,
        None,
    ]


def test_compare_without_a_winner_or_a_second_run(run, tmp_path, winnow):
    searched = make_run(tmp_path / "searched", "searched")
    assert "because winner 1 of searched was not retrained yet" in " ".join(winnow("compare", run, searched).split())
    assert "needs at least two runs" in winnow("compare", run, code=2)
    assert "no run here" in winnow("compare", run, tmp_path / "absent", code=2)


def test_tables_of_trials_say_that_their_values_are_of_different_epochs(run, winnow):
    about = "The value of a trial that did not complete is from fewer epochs."
    ranked = f"Completed trials come first. {about}"
    assert ranked in " ".join(winnow("show", run).split())
    assert ranked in page_text(search_sections.search(reports.read(run)).html)
    by_number = " ".join(winnow("show", run, "--sort", "trial").split())
    assert about in by_number
    assert "come first" not in by_number
    assert about not in " ".join(winnow("show", run, "--where", "status == 'completed'").split())
