"""The conditions that hold in every history, whatever happened in it."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from benchmarks.reliability.disasters.training import fate_of, figures_of, key_of
from winnow.reports.durable import LOCK
from winnow.reports.open_run import read
from winnow.reports.run_data import RunData, RunRecords
from winnow.reports.tables.candidates import best_first
from winnow.reports.tables.from_folder import FromFolder
from winnow.reports.text.next_step import next_step
from winnow.search.settings import Settings
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder, checkpoint_name
from winnow.search.study.trials import Event
from winnow.search.training.checkpoint import load
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

CLOCKED = ("wall_seconds", "images_per_second")


class Acknowledged:
    """The epochs, ends of trials and retrainings that the views were shown."""

    def __init__(self) -> None:
        self.epochs: set[tuple[str, int, int]] = set()
        self.ends: dict[int, str] = {}
        self.retrained: set[tuple[int, int]] = set()

    def note(self, event: Event) -> None:
        if event.kind == "epoch":
            self.epochs.add((event.record["phase"], event.number, event.record["epoch"]))
        elif event.kind == "ended" and event.status is not None:
            self.ends[event.number] = event.status

    def note_retraining(self, text: str) -> None:
        """Note a line about a finished retraining, such as `winner 1 (trial 3), seed 7: completed`."""
        if told := re.search(r"\(trial (\d+)\), seed (\d+): ", text):
            self.retrained.add((int(told[1]), int(told[2])))


def records_of(run: RunData) -> RunRecords:
    """The records of a run that was read from its folder."""
    assert isinstance(run.source, FromFolder)
    return run.source.records


def study_rows(run: RunData) -> list[Any]:
    """The facts that the study records about its trials, without times."""
    return [
        (t.number, t.state.name, t.values, t.params, t.intermediate_values, t.user_attrs.get("status"))
        for t in records_of(run).study_trials
    ]


def with_status(run: RunData, status: str) -> set[int]:
    """The trials that ended with a status."""
    return {trial.number for trial in records_of(run).study_trials if trial.user_attrs.get("status") == status}


def check_readable(folder: RunFolder) -> tuple[RunData | None, list[str]]:
    """Check after a start, however it ended, that a report can be made of the folder.

    Returns:
        The run, None if there is none or it cannot be read; and what is wrong, in words.
    """
    if not folder.study.exists():
        return None, []
    try:
        run = read(folder.path)
        _ = run.trial_rows(), run.winner_rows()
    except InputError as error:
        return None, [f"a report is refused: {error}"]
    except Exception as error:
        return None, [f"a report fails: {type(error).__name__}: {error}"]
    return run, []


def check_advice(run: RunData, over: tuple[str, ...]) -> list[str]:
    """Check that a report does not advise what is over, which would lead in a circle.

    Args:
        run: The run.
        over: Commands that have done all they can.
    """
    step = next_step(run)
    advised = "" if step is None else step.command
    return [
        f"{command} is over, but the report advises: {advised}" for command in over if f"winnow {command} " in advised
    ]


def report_files(folder: RunFolder) -> dict[str, bytes]:
    """The content of each file of the report, by its name; half-written ones have a hidden name."""
    return {file.name: file.read_bytes() for file in folder.report.glob("*")} if folder.report.exists() else {}


def check_report(before: dict[str, bytes], during: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Check that a report that was interrupted has only whole files, and that the next one leaves nothing half-written.

    Args:
        before: `report_files` of the report before.
        during: Those after the interruption.
        after: Those of the next report, which nothing interrupted.
    """
    half = [name for name in after if name.startswith(".")]
    wrong = [f"report/{name} is left over" for name in half]
    for name, content in during.items():
        if not name.startswith(".") and content not in (before.get(name), after.get(name)):
            wrong.append(f"report/{name} is neither the old file nor the new one")
    return wrong + [f"report/{name} is gone" for name in before.keys() - after.keys() if not name.startswith(".")]


def check_swept(folder: RunFolder, run: RunData) -> list[str]:
    """Check what remains once the search and the retraining are over.

    Nothing hidden but the lock may lie in the run or beside it, since that is what killed processes were writing, and no checkpoint
    of a training that has ended.

    Args:
        folder: The run.
        run: The same, as a report reads it.
    """
    runs = folder.path.parent
    left = [entry.relative_to(runs) for entry in runs.rglob(".*") if entry.name != LOCK]
    left += [entry.relative_to(runs) for entry in folder.checkpoints.glob("retraining-*.pt")]
    # An audit that failed is tried again by the next start of the search, from its checkpoint.
    audited = {trial.number for trial in records_of(run).study_trials if trial.user_attrs.get("audited")}
    kept = {checkpoint_name(number) for number in audited}
    left += [entry.relative_to(runs) for entry in folder.checkpoints.glob("trial-*.pt") if entry.name not in kept]
    return [f"{path} is left over" for path in left]


def check_end(folder: RunFolder, run: RunData, acknowledged: Acknowledged, hung: set[int]) -> list[str]:
    """The finished run against the truth.

    Args:
        folder: The run, searched and retrained.
        run: The same, as a report reads it.
        acknowledged: Progress that the search reported to its user.
        hung: Trials that hung at some time.

    Returns:
        What is wrong, in words.
    """
    trials, settings = records_of(run).study_trials, Settings.from_dict(run.study["settings"])
    lines = list(read_json_lines(folder.epochs))
    wrong = [*_check_lines(lines, acknowledged), *_check_trials(run, lines, settings)]
    if killed := with_status(run, "timed_out") - hung:
        wrong.append(f"trials {killed} timed out, and did not hang")
    for number, status in acknowledged.ends.items():
        if trials[number].user_attrs.get("status") != status:
            wrong.append(f"trial {number} ended as {status}, and later as something else")
    return [*wrong, *_check_retraining(folder, settings, lines, acknowledged)]


def _check_lines(lines: list[dict[str, Any]], acknowledged: Acknowledged) -> list[str]:
    searched = [line for line in lines if line["phase"] in ("search", "audit")]
    count = Counter((line["phase"], line["trial"], line["epoch"]) for line in searched)
    wrong = [f"epoch {key} is recorded {number} times" for key, number in count.items() if number > 1]
    wrong += [f"epoch {key} was recorded, and is lost" for key in sorted(acknowledged.epochs - count.keys())]
    times = [line["time"] for line in searched]
    if times != sorted(times):
        wrong.append("the times of the epochs go back")
    return wrong


def _check_trials(run: RunData, lines: list[dict[str, Any]], settings: Settings) -> list[str]:
    wrong, trials = [], records_of(run).study_trials
    if [trial.number for trial in trials] != list(range(settings.num_trials)):
        wrong.append(f"{settings.num_trials} trials were asked for, there are {[t.number for t in trials]}")
    for trial in trials:
        wrong += [f"trial {trial.number}: {problem}" for problem in _check_trial(trial, lines)]
    completed = [trial for trial in trials if trial.user_attrs.get("status") == "completed"]
    best = max(completed, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)
    shown = [row["trial"] for row in best_first(run, run.trial_rows()) if row["status"] == "completed"]
    if best is not None and shown[:1] != [best.number]:
        wrong.append(f"the incumbent is trial {best.number}, but {shown[:1]} is shown")
    return wrong


def _check_trial(trial: Any, lines: list[dict[str, Any]]) -> list[str]:
    config, attrs = trial.user_attrs["config"], trial.user_attrs
    key, seed, epochs = key_of(config), attrs["seed"], config["epochs"]
    fate, status = fate_of(key, seed, epochs), attrs.get("status")
    wrong = []
    last = 0
    for phase in ("search", "audit"):
        for line in (line for line in lines if line["trial"] == trial.number and line["phase"] == phase):
            last += 1
            if line["epoch"] != last:
                wrong.append(f"epoch {line['epoch']} is recorded where {last} is due")
            truth = figures_of(key, seed, line["epoch"], epochs)
            wrong += _check_figures(line, truth)
            value = truth["validation_accuracy"]
            if phase == "search" and not math.isnan(value) and trial.intermediate_values.get(line["epoch"]) != value:
                wrong.append(f"epoch {line['epoch']}: the study does not have its value")
    searched = [line["epoch"] for line in lines if line["trial"] == trial.number and line["phase"] == "search"]
    if status == "completed" and (len(searched) != epochs or fate.status not in ("completed", "out_of_memory")):
        wrong.append(f"completed after {len(searched)} of {epochs} epochs, although it is {fate}")
    if status == "completed" and trial.value != figures_of(key, seed, epochs, epochs)["validation_accuracy"]:
        wrong.append(f"its value is {trial.value}, which is not that of its last epoch")
    if status in ("diverged", "failed", "out_of_memory") and fate.status != status:
        wrong.append(f"ended as {status}, although it is {fate}")
    if status not in ("completed", "stopped", "diverged", "failed", "out_of_memory", "timed_out"):
        wrong.append(f"ended as {status}")
    extra = set(trial.intermediate_values) - set(searched)
    return [*wrong, *([f"the study has epochs {extra} without a line"] if extra else [])]


def _check_figures(line: dict[str, Any], truth: dict[str, Any]) -> list[str]:
    """Compare the line of an epoch with the truth, but for what a clock decides."""
    wrong = []
    for name, value in truth.items():
        expected = None if isinstance(value, float) and math.isnan(value) else value
        if name in line and name not in CLOCKED and line[name] != expected:
            wrong.append(f"epoch {line['epoch']}: {name} is {line[name]} instead of {expected}")
    return wrong


def _check_curve(retrained: dict[str, Any], epochs: list[dict[str, Any]]) -> list[str]:
    """Compare the recorded epochs of a completed retraining with the truth.

    A line may stand there twice, since a driver that was killed within a curve writes all of it again; readers drop the copies.
    """
    name = f"retraining {(retrained['trial'], retrained['seed'])}"
    config = Config.model_validate(retrained["config"]).model_dump(mode="json")
    due = config.get("stop_after") or config["epochs"]
    numbers = {line["epoch"] for line in epochs}
    wrong = [] if numbers == set(range(1, due + 1)) else [f"{name} has the epochs {sorted(numbers)} of {due}"]
    for line in epochs:
        truth = figures_of(key_of(config), retrained["seed"], line["epoch"], due)
        wrong += [f"{name}: {problem}" for problem in _check_figures(line, truth)]
    return wrong


def _check_retraining(
    folder: RunFolder, settings: Settings, epochs: list[dict[str, Any]], acknowledged: Acknowledged
) -> list[str]:
    lines = list(read_json_lines(folder.retrained))
    curves: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for line in epochs:
        if line["phase"] == "retrain":
            curves.setdefault((line["trial"], line["seed"]), []).append(line)
    count = Counter((line["trial"], line["seed"]) for line in lines)
    wrong = [f"retraining {key} is recorded {number} times" for key, number in count.items() if number > 1]
    if any(number % settings.retrain.seeds for number in Counter(line["trial"] for line in lines).values()):
        wrong.append(f"retrainings are missing: {sorted(count)}")
    wrong += [f"retraining {key} was told, and is lost" for key in sorted(acknowledged.retrained - count.keys())]
    for line in lines:
        error = line.get("error") or ""
        if line["status"] == "failed" and "a bug of its own" not in error:
            wrong.append(f"a retraining failed although it has no bug: {error}")
        if line["status"] != "completed":
            continue
        wrong += _check_curve(line, curves.get((line["trial"], line["seed"]), []))
        try:
            load(folder.path / line["weights"])
            whole = (folder.path / line["predictions"]).read_bytes() == b"predictions " * 20
        except Exception as error:
            wrong.append(f"{line['weights']}: {type(error).__name__}: {error}")
        else:
            if not whole:
                wrong.append(f"{line['predictions']} is not whole")
    return wrong
