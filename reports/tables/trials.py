"""Creates the rows of the search: trials, epochs and rungs. It is plain Python, so `winnow show` needs neither Arrow nor the space."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from winnow.reports.schemas import TABLES
from winnow.reports.values import finite, time_of
from winnow.spaces.epoch_figures import QUALITY
from winnow.spaces.gpu_facts import GPU_FACTS
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.reports.run_data import RunRecords

_STATUS_OF_STATE = {
    "COMPLETE": TrialStatus.COMPLETED,
    "PRUNED": TrialStatus.STOPPED,
    "FAIL": TrialStatus.FAILED,
    "RUNNING": TrialStatus.RUNNING,
}

Row = dict[str, Any]


def trial_rows(run: RunRecords) -> list[Row]:
    """Return one row per trial, by number, without the columns of parameters and fitted estimates."""
    return run.once("trial_rows", lambda: _trial_rows(run))


def _trial_rows(run: RunRecords) -> list[Row]:
    by_trial, audited = search_epochs(run), audit_ends(run)
    return [
        _trial_row(run, trial, by_trial.get(trial.number, []), audited.get(trial.number)) for trial in run.study_trials
    ]


def search_epochs(run: RunRecords) -> dict[int, list[Row]]:
    """Return the lines of each trial's search phase by trial number, in the order of epochs."""
    return run.once("search_epochs", lambda: _epochs_of_phase(run, "search"))


def _epochs_of_phase(run: RunRecords, phase: str) -> dict[int, list[Row]]:
    by_trial: dict[int, list[Row]] = defaultdict(list)
    for line in run.epoch_lines:
        if line["phase"] == phase:
            by_trial[line["trial"]].append(line)
    return {number: sorted(lines, key=lambda line: line["epoch"]) for number, lines in by_trial.items()}


def audit_ends(run: RunRecords) -> dict[int, float | None]:
    """Return the final objective of each finished audited trial, by its number; None for a trial that diverged after its stop."""
    return run.once("audit_ends", lambda: _audit_ends(run))


def _audit_ends(run: RunRecords) -> dict[int, float | None]:
    searched = search_epochs(run)
    ends: dict[int, float | None] = {}
    for trial, lines in _epochs_of_phase(run, "audit").items():
        last = lines[-1]
        if last.get("diverged"):
            ends[trial] = None
        elif last.get("last"):
            # The objective belongs to the epoch whose weights were kept, which may lie before the stop.
            by_epoch = {line["epoch"]: line for line in [*searched.get(trial, []), *lines]}
            ends[trial] = finite(by_epoch[last["weights_epoch"]].get(run.objective))
    return ends


def _trial_row(run: RunRecords, trial: Trial, epochs: list[Row], audit_objective: float | None) -> Row:
    attributes = trial.user_attrs
    kept = _kept_epoch(epochs)
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
        "audit_objective": audit_objective,
        **{figure.name: finite(kept.get(figure.name)) for figure in reversed(QUALITY)},
        "started": time_of(started),
        "ended": time_of(ended),
        "wall_seconds": ended - started if started and ended else None,
        "train_seconds": _total(epochs, "wall_seconds"),
        "images_per_second": _total(epochs, "images_per_second") / len(epochs) if epochs else None,
        **{key: attributes.get(key) for key in ("num_parameters", "multiply_adds", "latency_ms")},
        "epoch_seconds": min((line["wall_seconds"] for line in epochs[:2] if line.get("wall_seconds")), default=None),
        "audited": bool(attributes.get("audited", False)),
        "worker_losses": attributes.get("worker_losses", 0),
        "micro_batches": attributes.get("micro_batches", 1),
        **where_trained(epochs),
        "error": attributes.get("error"),
        "config": None if config is None else json.dumps(config),
    }


def where_trained(epochs: list[Row]) -> Row:
    """Return the node, the device and facts about the GPU of the last epoch, with the peaks of memory over all epochs."""
    last = epochs[-1] if epochs else {}
    facts: Row = {fact.name: last.get(fact.name) for fact in GPU_FACTS if not fact.peak}
    for fact in GPU_FACTS:
        if fact.peak:
            facts[fact.name] = max(
                (line[fact.name] for line in epochs if line.get(fact.name) is not None), default=None
            )
    return {"node": last.get("node"), "device": last.get("device"), **facts}


def _kept_epoch(epochs: list[Row]) -> Row:
    """Return the line of the epoch whose weights the trial kept; the last one if that was not recorded."""
    if not epochs:
        return {}
    number = epochs[-1].get("weights_epoch")
    return next((line for line in epochs if line["epoch"] == number), epochs[-1])


def status_of(trial: Trial) -> str:
    """Return the status recorded by the search; if there is none, the status that corresponds to the state in the study."""
    return str(trial.user_attrs.get("status") or _STATUS_OF_STATE.get(trial.state.name, TrialStatus.RUNNING))


def _objective(trial: Trial) -> float | None:
    recorded = finite(trial.values[0]) if trial.values else None
    values = finite_values(trial)
    return recorded if recorded is not None or not values else values[max(values)]


def _best(trial: Trial, maximize: bool) -> tuple[int | None, float | None]:
    values = finite_values(trial)
    if not values:
        return None, None
    best = max(values.values()) if maximize else min(values.values())
    return min(epoch for epoch, value in values.items() if value == best), best


def finite_values(trial: Trial) -> dict[int, float]:
    """Return the finite objectives of a trial by epoch."""
    return {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}


def epochs_of_trial(run: RunRecords, number: int) -> list[Row]:
    """Return the rows of `epochs` of one trial in the search, in order.

    Args:
        run: Records of the run.
        number: Number of the trial.

    Returns:
        One row per epoch; empty for a trial without epochs.
    """
    return [_epoch_row(run, line) for line in search_epochs(run).get(number, [])]


def _epoch_row(run: RunRecords, line: Row) -> Row:
    as_kind: dict[str, Callable[[Any], Any]] = {"float": finite, "time": time_of}
    row = {c.name: as_kind.get(c.kind, lambda value: value)(line.get(c.name)) for c in TABLES["epochs"].columns}
    return row | {"run": run.name}


def rung_rows(run: RunRecords) -> list[Row]:
    """Return one row per rung, and one for the full training (`max_epochs`), whose `num_stopped` is 0."""
    ends = [*run.rungs]
    max_epochs = run.settings.get("max_epochs")
    if max_epochs is not None and int(max_epochs) not in ends:
        ends.append(int(max_epochs))
    by_trial = search_epochs(run)
    values = {trial.number: finite_values(trial) for trial in run.study_trials}
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


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
