"""Rows of the search: trials, epochs, rungs. Plain Python, so that `winnow show` needs neither Arrow nor the space."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from winnow.reports import rows as plain
from winnow.reports.schemas import TABLES
from winnow.spaces.epoch_figures import QUALITY
from winnow.spaces.trial_status import FAILURES, TrialStatus

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.reports.reading.run import RunData

STATUSES = tuple(status.value for status in TrialStatus)
FAILED_STATUSES = tuple(status.value for status in FAILURES)
_STATUS_OF_STATE = {
    "COMPLETE": TrialStatus.COMPLETED,
    "PRUNED": TrialStatus.STOPPED,
    "FAIL": TrialStatus.FAILED,
    "RUNNING": TrialStatus.RUNNING,
}

Row = dict[str, Any]


def trial_rows(run: RunData) -> list[Row]:
    """One row per trial, by number, without the parameter columns and the end of an audit."""
    return run.once("trial_rows", lambda: _stored_trial_rows(run) if run.stored else _trial_rows(run))


def _stored_trial_rows(run: RunData) -> list[Row]:
    own = [column.name for column in TABLES["trials"].columns if column.name != "audit_objective"]
    return plain.rows(run.trials.select(own))


def _trial_rows(run: RunData) -> list[Row]:
    by_trial = search_epochs(run)
    return [_trial_row(run, trial, by_trial.get(trial.number, [])) for trial in run.study_trials]


def search_epochs(run: RunData) -> dict[int, list[Row]]:
    """The epochs of each trial of the search, in order."""
    return run.once("search_epochs", lambda: _search_epochs(run))


def _search_epochs(run: RunData) -> dict[int, list[Row]]:
    by_trial: dict[int, list[Row]] = defaultdict(list)
    for line in run.epoch_lines:
        if line["phase"] == "search":
            by_trial[line["trial"]].append(line)
    return {number: sorted(lines, key=lambda line: line["epoch"]) for number, lines in by_trial.items()}


def _trial_row(run: RunData, trial: Trial, epochs: list[Row]) -> Row:
    attributes = trial.user_attrs
    last = epochs[-1] if epochs else {}
    best_epoch, best = _best(trial, run.maximize)
    ran = status_of(trial) != "skipped"
    started = attributes.get("started") or (_timestamp(trial.datetime_start) if ran else None)
    ended = attributes.get("ended") or (_timestamp(trial.datetime_complete) if ran else None)
    config = attributes.get("config")
    return {
        "run": run.name,
        "trial": trial.number,
        "status": status_of(trial),
        "source": attributes.get("source"),
        "reason": attributes.get("reason"),
        "in_space": trial.number not in run.outside,
        "objective": _objective(trial),
        "best_objective": best,
        "best_epoch": best_epoch,
        "num_epochs": len(epochs),
        "rung": max((line["rung"] for line in epochs if line.get("rung") is not None), default=None),
        **{figure.name: finite(last.get(figure.name)) for figure in QUALITY},
        "started": time_of(started),
        "ended": time_of(ended),
        "wall_seconds": ended - started if started and ended else None,
        "train_seconds": _total(epochs, "wall_seconds"),
        "images_per_second": _total(epochs, "images_per_second") / len(epochs) if epochs else None,
        "num_parameters": attributes.get("num_parameters"),
        "audited": bool(attributes.get("audited", False)),
        "worker_losses": attributes.get("worker_losses", 0),
        "micro_batches": attributes.get("micro_batches", 1),
        "error": attributes.get("error"),
        "config": None if config is None else json.dumps(config),
    }


def status_of(trial: Trial) -> str:
    """The status that the search recorded, else the one that the study's state amounts to."""
    return str(trial.user_attrs.get("status") or _STATUS_OF_STATE.get(trial.state.name, TrialStatus.RUNNING))


def _objective(trial: Trial) -> float | None:
    told = finite(trial.values[0]) if trial.values else None
    values = _finite_values(trial)
    return told if told is not None or not values else values[max(values)]


def _best(trial: Trial, maximize: bool) -> tuple[int | None, float | None]:
    values = _finite_values(trial)
    if not values:
        return None, None
    best = max(values.values()) if maximize else min(values.values())
    return min(epoch for epoch, value in values.items() if value == best), best


def _finite_values(trial: Trial) -> dict[int, float]:
    return {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}


def epochs_of_trial(run: RunData, number: int) -> list[Row]:
    """The rows of `epochs` of one trial of the search, in order."""
    if run.stored:
        import pyarrow.compute as pc

        return plain.rows(run.epochs.filter((pc.field("trial") == number) & (pc.field("phase") == "search")))
    return [_epoch_row(run, line) for line in search_epochs(run).get(number, [])]


def _epoch_row(run: RunData, line: Row) -> Row:
    as_kind: dict[str, Callable[[Any], Any]] = {"float": finite, "time": time_of}
    row = {c.name: as_kind.get(c.kind, lambda value: value)(line.get(c.name)) for c in TABLES["epochs"].columns}
    return row | {"run": run.name}


def rung_rows(run: RunData) -> list[Row]:
    """One row per rung, and one for the full training (`max_epochs`), whose `num_stopped` is 0."""
    ends = [*run.rungs]
    max_epochs = run.settings.get("max_epochs")
    if max_epochs is not None and int(max_epochs) not in ends:
        ends.append(int(max_epochs))
    by_trial = search_epochs(run)
    values = {trial.number: _finite_values(trial) for trial in run.study_trials}
    rows, before = [], 0
    for rung, end in enumerate(ends):
        spent = [line for lines in by_trial.values() for line in lines if before < line["epoch"] <= end]
        reached = [line for line in spent if line["epoch"] == end]
        objectives = [values[line["trial"]][end] for line in reached if end in values.get(line["trial"], {})]
        rows.append(
            {
                "run": run.name,
                "rung": rung,
                "epoch": end,
                "num_reached": len(reached),
                "num_stopped": sum(line.get("decision") == "stop" for line in reached),
                "best_objective": (max if run.maximize else min)(objectives) if objectives else None,
                "median_objective": median(objectives) if objectives else None,
                "epochs_spent": len(spent),
                "train_seconds": _total(spent, "wall_seconds"),
            }
        )
        before = end
    return rows


def _total(lines: Iterable[Row], key: str) -> float:
    return math.fsum(finite(line.get(key)) or 0.0 for line in lines)


def finite(value: Any) -> float | None:
    """The number as a float; None where it is none, or not finite."""
    if type(value) is float:  # nearly always, and asked millions of times
        return value if math.isfinite(value) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def time_of(seconds: float | None) -> datetime | None:
    """Unix seconds as a time in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
