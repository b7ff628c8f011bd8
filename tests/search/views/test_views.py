"""The views: JSON events, plain lines, the live view, and which of them is chosen."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from rich.console import Console

from winnow.reports.tables.expected_end import ExpectedEnds
from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Settings
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.trials import Event
from winnow.search.views import system_usage
from winnow.search.views.choose import make_view
from winnow.search.views.json_view import JsonView
from winnow.search.views.live import LiveView, usage_line
from winnow.search.views.plain import PlainView
from winnow.search.views.system_usage import GpuUse, Use, gpus, measure
from winnow.search.views.view import View

CONFIG = json.loads('{"model": {"name": "mlp", "hidden": [8]}, "optimizer": {"name": "adam", "lr": 0.01}, "schedule": {"name": "constant"}, "batch_size": 8, "epochs": 3}')  # fmt: skip


class _Ledger:
    """What the views read of a ledger: of five trials one is completed, one runs and one starts."""

    settings = Settings(trials=5, max_epochs=3, time_budget_seconds=600.0)
    folder = RunFolder(Path("runs/mine"))
    scheduler = Asha(1, 3.0, 3, "maximize")
    counts = {"completed": 1, "diverged": 1}
    num_ended = 2
    best = (2, 0.75)
    best_config = CONFIG
    best_trials: ClassVar[list[int]] = [2]
    started_trials = (0, 2)
    curves: ClassVar[dict[int, list[float]]] = {}


def test_json_is_one_event_a_line():
    console = Console(file=io.StringIO(), width=40)
    view = make_view(console, quiet=True, as_json=True)
    assert isinstance(view, JsonView)
    view.step("reading [the] data")
    view.on_event(Event("started", 3, {**CONFIG, "train": {"scales": [math.inf]}}))
    view.on_event(Event("epoch", 3, CONFIG, record={"epoch": 1, "train_loss": float("nan"), "lr": 0.1}, value=0.5))
    view.on_event(Event("ended", 3, CONFIG, record={"error": "x" * 300}, status="failed"))
    assert isinstance(console.file, io.StringIO)
    events = [json.loads(line) for line in console.file.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["message", "started", "epoch", "ended"]
    assert events[0]["text"] == "reading [the] data"
    assert events[1]["config"] == {**CONFIG, "train": {"scales": [None]}}
    assert (events[2]["trial"], events[2]["train_loss"], events[2]["lr"]) == (3, None, 0.1)
    assert (events[3]["status"], events[3]["error"]) == ("failed", "x" * 300)


@pytest.mark.parametrize(
    ("quiet", "lines"),
    [(True, ["lost"]), (False, ["step", "run", "[1/2, about 0:00 left] progress", "[2/2] end", "lost"])],
)
def test_quiet_says_only_what_went_wrong(quiet, lines):
    console = Console(file=io.StringIO())
    view = make_view(console, quiet)
    assert type(view) is (View if quiet else PlainView)
    view.step("step")
    view.announce("run")
    view.progress(0, 2)
    view.progress(1, 2, "progress")
    view.progress(2, 2, "end")
    view.message("lost")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == lines


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
    assert "0.7500 validation accuracy, trial 2 " in text
    assert "│       mlp 8 adam 0.01 constant batch 8 " in text
    assert "trial 3 diverged: loss became [nan]" in text
    machine = " ".join(text.replace("│", "").split())
    assert "CPU 93% memory 5.1 of 23 GB GPU 0 87%, 10.1 of 80 GB GPU 1 1.0 of 20 GB" in machine
    rows = {line.split()[2]: line for line in text.splitlines() if line.startswith("│ trial ")}
    assert rows["0"].split()[3:6] == ["3/3", "▁█", "0.7000"]
    assert "waiting" in rows["1"]
    assert "epoch 3 ████████████████████████ 1 completed" in text


def test_the_name_of_a_run_is_no_markup_in_the_live_view():
    view = live_view(80)
    view.ledger.folder = RunFolder(Path("runs/[red]mine[1]"))
    assert "winnow [red]mine[1]" in drawn(view)


def test_the_live_view_shows_the_mean_of_repeats():
    view = live_view(100)
    view.ledger.settings = view.ledger.settings.model_copy(update={"repeats": 3})
    view.ledger.best_trials = [2, 4]
    assert "0.7500 validation accuracy, mean of 2 repeats, trial 2 " in drawn(view)


def test_the_live_view_says_where_running_trials_will_end():
    view = LiveView(Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None))
    ledger = _Ledger()
    ledger.settings = ledger.settings.model_copy(update={"max_epochs": 9})
    ledger.curves = {7: [0.3, 0.5], 8: [0.5, 0.6, 0.65, 0.7, 0.72, 0.74, 0.75, 0.76, 0.76]}
    view.watch(ledger)
    for number in (0, 1, 7):
        view.on_event(Event("started", number, CONFIG))
    view.on_event(Event("epoch", 0, CONFIG, record={"epoch": 1}, value=0.5))
    view.on_event(Event("epoch", 1, CONFIG, record={"epoch": 2}, value=0.5))  # its first epoch is not known
    view.on_event(Event("epoch", 7, CONFIG, record={"epoch": 3}, value=0.6))
    rows = {line.split()[2]: line for line in drawn(view).splitlines() if line.startswith("│ trial ")}
    curves = [[0.3, 0.5, 0.6], ledger.curves[8], [0.5]]
    end = ExpectedEnds(curves, 9, "validation_accuracy", maximize=True).of(curves[0])
    assert f"0.6000 {end.low:.3f} to {end.high:.3f} " in rows["7"]
    assert " to " not in rows["0"] + rows["1"]


def test_the_live_view_names_the_config_of_the_best_trial_of_an_earlier_start():
    view = LiveView(Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None))
    view.watch(_Ledger())
    text = drawn(view)
    assert "0.7500 validation accuracy, trial 2 " in text
    assert "│       mlp 8 adam 0.01 constant batch 8 " in text


def test_the_live_view_shows_how_far_retraining_is():
    view = LiveView(Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None))
    view.progress(0, 4)
    assert "0 of 4, 0:00" in drawn(view)
    view._work_started -= 60
    view.progress(1, 4, "winner 1: done")
    text = drawn(view)
    assert "1 of 4, 1:00, about 3:00 left" in text
    assert "winner 1: done" in text


def test_the_live_view_guesses_the_time_that_is_left():
    view = live_view(100)
    ledger = view.ledger
    assert ledger is not None
    assert view._seconds_left(ledger, 60.0) is None, "two trials say too little"
    view._ended_before = -2
    assert view._seconds_left(ledger, 60.0) == 45.0, "four took 60 s, three are to come"
    assert view._seconds_left(ledger, 590.0) == 10.0, "not beyond the budget"


def test_the_use_of_this_machine_is_measured():
    assert usage_line(Use()) == []
    use = measure()
    assert use.used_mb is not None
    assert use.total_mb is not None
    assert 0 < use.used_mb < use.total_mb
    assert use.cpu is not None
    assert 0 <= use.cpu <= 1


class _FakeNvml:
    """Two GPUs, of which the second is divided by MIG and does not say how busy it is."""

    class NVMLError(Exception):
        pass

    def __init__(self, installed: bool) -> None:
        self.installed = installed

    def nvmlInit(self) -> None:
        if not self.installed:
            raise self.NVMLError

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=1024 * 2**20, total=20480 * 2**20)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle == 1:
            raise self.NVMLError
        return SimpleNamespace(gpu=87)


def test_gpus_are_asked_of_the_driver(monkeypatch):
    monkeypatch.setattr(system_usage, "pynvml", _FakeNvml(installed=False))
    assert gpus() == ()
    monkeypatch.setattr(system_usage, "pynvml", _FakeNvml(installed=True))
    assert gpus() == (GpuUse(0, 0.87, 1024.0, 20480.0), GpuUse(1, None, 1024.0, 20480.0))


@pytest.mark.parametrize(("environment", "view"), [({}, LiveView), ({"CI": "true"}, PlainView), ({"CI": "0"}, LiveView), ({"TERM": "dumb"}, PlainView)])  # fmt: skip
def test_plain_lines_where_nobody_watches(environment, view, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert type(make_view(Console(file=io.StringIO(), force_terminal=True), quiet=False)) is view
    assert type(make_view(Console(file=io.StringIO()), quiet=False)) is PlainView
