"""Implements `--learn-from RUN...`: earlier runs, possibly on other data, show which parameters are good.

A warm start treats the trials of one run with the same data and protocol as trials of this search. Earlier runs only rank their own
trials, so their data, epochs and objective may differ; the first results of this search decide how much they count. The trials that
are used are copied into the new run, so that the old runs may be moved or deleted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from winnow.search.samplers.encoding import any_open
from winnow.search.storage.json_lines import json_line, read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.space_changes import Recorder
from winnow.spaces.epoch_figures import kept_values
from winnow.spaces.errors import InputError
from winnow.spaces.known_parts import known_parts
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData
    from winnow.search.samplers.memory_model import Recollection

RANKED = (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED)
"""Statuses of trials whose end depends on their config rather than on the machine."""
EARLIER_KEYS = {"run": (str,), "trials": (list,)}
"""Types of the values that a line of `earlier_runs.jsonl` has."""
MOST_TRIALS = 200
"""Largest number of trials that are used from one run; the newest ones are used."""


@dataclass(frozen=True)
class EarlierRuns:
    """The lines for `earlier_runs.jsonl`, one per run, and what study.yaml says about each run."""

    lines: tuple[str, ...]
    facts: list[dict[str, Any]]
    left_out: tuple[str, ...] = ()
    """The runs of given folders that cannot be used, each with the reason."""


def learn_from(runs: Sequence[str], space: Space) -> EarlierRuns:
    """Collect the trials of earlier runs whose parameters agree with those of a space.

    Args:
        runs: Run folders, their names under `runs/`, report folders, or folders of runs. Runs of older versions are read too.
        space: The space to search.

    Returns:
        The trials and facts to record in the new run.

    Raises:
        InputError: A run does not exist or is given twice by itself, none of its trials has finished, it shares no parameter with the
            space, or none of its trials lies in the space. In a folder of runs this holds for each of them. A run that is given by itself
            and lies in a given folder is used once.
    """
    from winnow.reports import read

    lines: list[dict[str, Any]] = []
    left_out: list[str] = []
    by_itself: set[Path] = set()
    for named in runs:
        places = _places_of(named)
        unusable = []
        for name, path in places.items():
            if name == named and path in by_itself:
                raise InputError(f"--learn-from {name}: this run is given twice")
            by_itself |= {path} if name == named else set()
            if any(line["path"] == str(path) for line in lines):
                continue  # it also lies in a folder that is given
            try:
                lines.append(_line(name, path, read(path), space))
            except InputError as error:
                if name == named:
                    raise
                unusable.append(f"{name}: {str(error).removeprefix(f'--learn-from {name}: ')}")
        if len(unusable) == len(places):
            raise InputError(f"--learn-from {named}: no run in this folder can be used; {'; '.join(unusable)}")
        left_out += unusable
    for line in lines:
        same_name = [each for each in lines if each["run"] == line["run"]]
        if len(same_name) > 1:
            for number, each in enumerate(same_name, start=1):
                each["run"] += f" ({number})"
    facts = [{key: value for key, value in line.items() if key != "trials"} for line in lines]
    return EarlierRuns(tuple(json_line(line).rstrip("\n") for line in lines), facts, tuple(left_out))


def recollect(
    folder: RunFolder, space: Space, allows: Callable[[Mapping[str, Any]], bool] | None = None
) -> Recollection | None:
    """Model the earlier runs that were copied into a run, as far as they overlap with its current space.

    Args:
        folder: The run.
        space: Its current space.
        allows: Whether a config with these parameters may be within the limits of the search. Default: there are no limits.

    Returns:
        The model; None if no trial of an earlier run lies in the space, or if the parameters that they share have only one value.
    """
    runs = {line["run"]: _trials(line["trials"], space) for line in read_json_lines(folder.earlier_runs, EARLIER_KEYS)}
    known = {name: trials for name, trials in runs.items() if trials}
    if not any(any_open(trials) for trials in known.values()):
        return None
    from winnow.search.samplers.memory_model import Recollection

    return Recollection(known, allows)


def _places_of(named: str) -> dict[str, Path]:
    """Return the folder of a run by its name, or those of all runs in a folder by their paths."""
    for place in (Path(named), Path("runs") / named):
        if (folder := _run_at(place)) is not None:
            return {named: folder}
        children = sorted(place.iterdir()) if place.is_dir() else []
        if runs := {str(child): folder for child in children if (folder := _run_at(child)) is not None}:
            return runs
    raise InputError(
        f"--learn-from {named}: no run here, nor a folder of runs (a run is a folder with a study.yaml, or a report folder with its "
        "trials.parquet)"
    )


def _run_at(place: Path) -> Path | None:
    for folder in (place, place / "report"):
        if (folder / "study.yaml").is_file() or (folder / "trials.parquet").is_file():
            return folder.resolve()
    return None


def _line(named: str, path: Path, run: RunData, space: Space) -> dict[str, Any]:
    ranked = _ranked(run)
    if not ranked:
        raise InputError(
            f"--learn-from {named}: none of its {len(run.trial_rows())} trials has finished an epoch and ended"
        )
    agreeing, taken = agreement(ranked, space)
    if not agreeing:
        raise InputError(
            f"--learn-from {named}: no parameter of this space has the same name, kind and range in its {len(ranked)} trials"
        )
    if not taken:
        raise InputError(
            f"--learn-from {named}: none of its {len(ranked)} trials lies in this space with all parameters that agree, which are "
            + ", ".join(sorted(agreeing))
        )
    data = run.study.get("data") or {}
    return {
        "run": run.name,
        "path": str(path),
        "created": run.study.get("created"),
        "winnow_version": run.study.get("winnow_version"),
        "data": data.get("name"),
        "data_fingerprint": data.get("fingerprint"),
        "family": sorted({str(trial["config"].get("model", {}).get("name")) for trial in ranked}),
        "machine": _machine(run),
        "objective": run.objective,
        "trials_ended": len(ranked),
        "trials_taken_over": len(taken),
        "agreeing": [p.study_name for p in space.parameters() if p.study_name in agreeing],
        "left_out": [p.study_name for p in space.parameters() if p.study_name not in agreeing],
        "trials": [trial for trial, _ in taken],
    }


def _ranked(run: RunData) -> list[dict[str, Any]]:
    """Return the newest ended trials of a run, with the values of their kept weights by epoch. Higher values are better."""
    sign = 1.0 if run.maximize else -1.0
    ended = [row for row in run.trial_rows() if row["status"] in RANKED and row["config"] and row["num_epochs"]]
    trials = []
    for row in ended[-MOST_TRIALS:]:
        config, values = json.loads(row["config"]), {}
        if row["status"] != TrialStatus.DIVERGED:
            kept = kept_values(config.get("weights", "last"), run.objective, run.epochs_of_trial(row["trial"]))
            values = {epoch: sign * value for epoch, value in kept.items()}
        completed = row["status"] == TrialStatus.COMPLETED
        trials.append({"trial": row["trial"], "config": config, "values": values, "completed": completed})
    return trials if any(trial["values"] for trial in trials) else []


def _machine(run: RunData) -> str | None:
    """Return the names of the trials' devices and of the processor; None if neither is known."""
    devices = Counter(row["device"] for row in run.trial_rows() if row["device"])
    hardware = run.study.get("hardware") or {}
    parts = [*devices, hardware.get("processor")]
    return ", ".join(str(part) for part in parts if part) or None


def _trials(lines: Sequence[dict[str, Any]], space: Space) -> list[FrozenTrial]:
    """Return the trials of an earlier run that lie in the space, with the parameters that the run and the space share."""
    domains = {parameter.study_name: parameter.domain for parameter in space.parameters()}
    trials = []
    for line, params in agreement(lines, space)[1]:
        recorder = Recorder(params)
        for name in params:
            domains[name].suggest(recorder, name)
        values = {int(epoch): value for epoch, value in line["values"].items()}
        completed = bool(values and line.get("completed"))  # unknown in runs that learned before this was recorded
        trials.append(
            create_trial(
                state=TrialState.COMPLETE if completed else TrialState.PRUNED,
                value=values[max(values)] if completed else None,
                params=recorder.params,
                distributions=recorder.distributions,
                intermediate_values=values,
            )
        )
    return trials


def agreement(
    trials: Sequence[dict[str, Any]], space: Space
) -> tuple[set[str], list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Find the parameters and trials of an earlier run that can be used in a space.

    Args:
        trials: Trials of one run, each with its `config`.
        space: The space to search.

    Returns:
        The study names of the agreeing parameters (those for which at least one trial has a value of the space), and (trial, its
        values of these parameters) for each trial whose values of these parameters all lie in the space.
    """
    known = known_parts(space, [trial["config"] for trial in trials])
    agreeing = {name for params in known for name, value in params.items() if value is not None}
    inside = []
    for trial, params in zip(trials, known, strict=True):
        values = {name: value for name, value in params.items() if name in agreeing}
        if values and None not in values.values():
            inside.append((trial, values))
    return agreeing, inside
