"""`winnow show` and `winnow compare`: what they print, choose and refuse; the events of --json."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from rich.console import Console

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.tables import filters as conditions
from winnow.reports.text import compare
from winnow.reports.text import wording as words
from winnow.search.cli.main import main
from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Settings
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.trials import Event
from winnow.search.views.follow import follow, in_use
from winnow.search.views.live import LiveView, usage_line
from winnow.search.views.plain import JsonView, PlainView, View, make_view
from winnow.search.views.system_usage import GpuUse, Use, cpu_times, gpus, memory_mb
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
        ("optimizer.name = 'sgd'", "not understood"),
        ("trial ==", "not understood"),
        ("", "not understood"),
        ("trial", "neither true nor false"),
        ("trial < 'a'", "cannot be compared"),
        ("trial + 1 == 2", "is no column and no value"),
        ("__import__('os').system('true')", "no column '__import__'"),
        ("().__class__", "is no column and no value"),
        ("[x for x in [1]]", "no column"),
        ("trial.__class__ == 1", "no column 'trial.__class__'"),
        ("'a'.upper() == 'A'", "is no column and no value"),
        ("flag and (lambda: 1)", "no column 'lambda'"),
        ("f'{trial}' == '0'", "no column 'f'"),
        ("column_0 == 1", "no column 'column_0'"),
        ("(" * 500 + "trial" + ")" * 500, "not understood"),
    ],
)
def test_nothing_else_is_a_condition(condition, words):
    with pytest.raises(InputError, match=r"--where") as caught:
        conditions.where(ROWS, COLUMNS, condition)
    assert words in str(caught.value)


def test_sort_puts_nulls_last():
    assert [row["trial"] for row in conditions.sort(ROWS, COLUMNS, "model.dropout")] == [0, 3, 1, 2]
    assert [row["trial"] for row in conditions.sort(ROWS, COLUMNS, "-model.dropout")] == [1, 3, 0, 2]
    with pytest.raises(InputError, match=r"did you mean model\.dropout"):
        conditions.sort(ROWS, COLUMNS, "model.dropuot")


# --- show ------------------------------------------------------------------------------------------------------------


def test_the_table_is_one_line_a_trial_at_80_columns(run, winnow):
    text = winnow("show", run)
    assert max(map(len, text.splitlines()[3:-3])) <= 80
    table = text[text.index("by validation accuracy") :].splitlines()[4:14]
    best = json.loads(next(r for r in reports.select(run, sort="-objective") if r["status"] == "completed")["config"])
    assert words.describe(best)[:20] in table[0]
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
    assert "No trial is so" in winnow("show", run, "--where", "trial > 999")


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


def test_compare_without_a_winner_or_a_second_run(run, tmp_path, winnow):
    searched = make_run(tmp_path / "searched", "searched")
    assert "as no winner of searched was tested" in winnow("compare", run, searched)
    assert "two runs or more" in winnow("compare", run, code=2)
    assert "no run here" in winnow("compare", run, tmp_path / "absent", code=2)


# --- events ----------------------------------------------------------------------------------------------------------

CONFIG = json.loads('{"model": {"name": "mlp", "hidden": [8]}, "optimizer": {"name": "adam", "lr": 0.01}, "schedule": {"name": "constant"}, "batch_size": 8, "epochs": 3}')  # fmt: skip


class _Ledger:
    """What the views read of a ledger: of five trials one is completed, one runs and one starts."""

    settings = Settings(trials=5, max_epochs=3, time_budget_seconds=600.0)
    folder = RunFolder(Path("runs/mine"))
    asha = Asha(1, 3.0, 3, "maximize")
    counts = {"completed": 1, "diverged": 1}
    num_ended = 2
    best = (2, 0.75)
    started_trials = (0, 2)


def test_json_is_one_event_a_line():
    console = Console(file=io.StringIO(), width=40)
    view = make_view(console, quiet=True, as_json=True)
    assert isinstance(view, JsonView)
    view.step("reading [the] data")
    view.on_event(Event("started", 3, CONFIG))
    view.on_event(Event("epoch", 3, CONFIG, record={"epoch": 1, "train_loss": float("nan"), "lr": 0.1}, value=0.5))
    view.on_event(Event("ended", 3, CONFIG, record={"error": "x" * 300}, status="failed"))
    assert isinstance(console.file, io.StringIO)
    events = [json.loads(line) for line in console.file.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["message", "started", "epoch", "ended"]
    assert events[0]["text"] == "reading [the] data"
    assert events[1]["config"] == CONFIG
    assert (events[2]["trial"], events[2]["train_loss"], events[2]["lr"]) == (3, None, 0.1)
    assert (events[3]["status"], events[3]["error"]) == ("failed", "x" * 300)


@pytest.mark.parametrize(("quiet", "lines"), [(True, ["lost"]), (False, ["step", "progress", "lost"])])
def test_quiet_says_only_what_went_wrong(quiet, lines):
    console = Console(file=io.StringIO())
    view = make_view(console, quiet)
    assert type(view) is (View if quiet else PlainView)
    view.step("step")
    view.progress("progress")
    view.message("lost")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split() == lines


def test_a_plain_line_says_how_far_a_trial_came():
    console = Console(file=io.StringIO(), width=40)
    view = PlainView(console)
    view.watch(_Ledger())
    for number, value in enumerate((0.5, 0.6, 0.75, float("nan"))):
        view.on_event(Event("epoch", number, CONFIG, record={"epoch": 1}, value=value))
    view.on_event(Event("ended", 1, CONFIG, status="stopped"))
    view.on_event(Event("ended", 2, CONFIG, status="completed", value=0.75))
    view.on_event(Event("ended", 3, CONFIG, status="diverged", record={"error": "trace\nloss became [nan]"}))
    view.on_event(Event("ended", 4, CONFIG, status="failed"))
    assert isinstance(console.file, io.StringIO)
    assert [line.partition(": mlp")[0] for line in console.file.getvalue().splitlines()] == [
        "[2/5] trial 1 stopped after epoch 1 validation_accuracy 0.6000",
        "[2/5] trial 2 completed validation_accuracy 0.7500 (best so far)",
        "[2/5] trial 3 diverged after epoch 1 validation_accuracy nan",
        "loss became [nan]",
        "[2/5] trial 4 failed",
    ]


def live_view(width: int) -> LiveView:
    """After the events of four trials: one runs, one starts, one was completed, one diverged."""
    view = LiveView(Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None))
    view.watch(_Ledger())
    for number in range(4):
        view.on_event(Event("started", number, CONFIG))
    for epoch, value in enumerate([0.5, 0.7, float("nan")], start=1):
        view.on_event(Event("epoch", 0, CONFIG, record={"epoch": epoch}, value=value))
    view.on_event(Event("ended", 2, CONFIG, status="completed", value=0.75))
    view.on_event(Event("ended", 3, CONFIG, status="diverged", record={"error": "trace\nloss became [nan]"}))
    view._watch.latest = Use(
        0.93, 5222.4, 23552.0, (GpuUse(0, 0.87, 10321.0, 81559.0), GpuUse(1, None, 1024.0, 20480.0))
    )
    return view


def drawn(view: LiveView) -> str:
    view.console.print(view.render())
    assert isinstance(view.console.file, io.StringIO)
    return view.console.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_the_live_view_says_how_far_it_is(width):
    text = drawn(live_view(width))
    assert all(len(line) == width for line in text.splitlines())
    assert "winnow mine" in text
    assert "2 of 5 trials, 0:00" in text
    assert "9:59 of 10:00 left" in text or "10:00 of 10:00 left" in text
    assert "1 completed  1 diverged  1 running  1 starting" in text
    assert "0.7500 validation accuracy, trial 2: mlp 8 adam" in text
    assert "trial 3 diverged: loss became [nan]" in text
    machine = " ".join(text.replace("│", "").split())
    assert "CPU 93% memory 5.1 of 23 GB GPU 0 87%, 10.1 of 80 GB GPU 1 1.0 of 20 GB" in machine
    rows = {line.split()[2]: line for line in text.splitlines() if line.startswith("│ trial ")}
    assert rows["0"].split()[3:6] == ["3/3", "▁█", "0.7000"]
    assert "waiting" in rows["1"]
    assert "epoch 3 ████████████████████████ 1 reached (the whole training)" in text


def test_the_live_view_guesses_the_time_that_is_left():
    view = live_view(100)
    ledger = view.ledger
    assert ledger is not None
    assert view._seconds_left(ledger, 60.0) is None, "two trials say too little"
    view._ended_before = -2
    assert view._seconds_left(ledger, 60.0) == 45.0, "four took 60 s, three are to come"
    assert view._seconds_left(ledger, 590.0) == 10.0, "not beyond the budget"


def test_a_view_without_proc_and_nvidia_smi_leaves_them_out(tmp_path):
    assert usage_line(Use()) == []
    assert gpus(str(tmp_path / "no-nvidia-smi")) == ()
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, 87, 10321, 81559'\necho '1, [N/A], 100, 20480'\necho 'No devices were found'\n")
    smi.chmod(0o755)
    assert gpus(str(smi)) == (GpuUse(0, 0.87, 10321.0, 81559.0), GpuUse(1, None, 100.0, 20480.0))
    if Path("/proc/stat").exists():
        busy, ticks = cpu_times() or (0, 0)
        assert 0 < busy < ticks
        used, total = memory_mb()
        assert used is not None
        assert total is not None
        assert 0 < used < total


@pytest.mark.parametrize(("environment", "view"), [({}, LiveView), ({"CI": "true"}, PlainView), ({"CI": "0"}, LiveView), ({"TERM": "dumb"}, PlainView)])  # fmt: skip
def test_plain_lines_where_nobody_watches(environment, view, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert type(make_view(Console(file=io.StringIO(), force_terminal=True), quiet=False)) is view
    assert type(make_view(Console(file=io.StringIO()), quiet=False)) is PlainView
