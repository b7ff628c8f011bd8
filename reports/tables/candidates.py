"""Finds the trials that retraining may choose from, as `winnow.search.study.completed` does from the study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts

Row = dict[str, Any]


def completed_inside(trials: list[Row]) -> list[Row]:
    """Return the completed trials inside the current space that have an objective, including the baseline, by number.

    Args:
        trials: Rows of the table `trials`.
    """
    return [
        row
        for row in trials
        if row["status"] == TrialStatus.COMPLETED and row["in_space"] and row["objective"] is not None
    ]


def candidates(run: RunFacts, trials: list[Row], winners: list[Row]) -> list[Row]:
    """Return the trials that may be retrained as winners, from best to worst. With several objectives, they are the Pareto front.

    If the search repeats configs, one trial stands for all repeats of its config, with the means of its objectives.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        winners: Rows of the table `winners`. If they include the baseline, they name its trial, and the space need not be read.
    """
    rows = _by_config(run, _without_baseline(run, completed_inside(trials), winners))
    sign = -1 if run.maximize else 1
    rows.sort(key=lambda row: (sign * row["objective"], row["trial"]))
    if not run.further:
        return rows
    from winnow.spaces.fronts import front

    return [rows[index] for index in front([objectives_of(run, row) for row in rows], run.ranked_by)]


def objectives_of(run: RunFacts, row: Row) -> list[float | None]:
    """Return the values of all objectives of a trial, in the order of `RunFacts.ranked_by`.

    Args:
        run: The run.
        row: A row of the table `trials` or `front`.
    """
    return [row["objective"], *(row[name] for name in run.further)]


def _by_config(run: RunFacts, rows: list[Row]) -> list[Row]:
    num_repeats = (run.study.get("settings") or {}).get("repeats", 1)
    if num_repeats == 1:
        return rows
    from winnow.spaces.winners import by_config, mean_of_repeats

    groups = by_config([json.loads(row["config"]) for row in rows], num_repeats)
    return [
        rows[group[0]]
        | {name: mean_of_repeats([rows[index][name] for index in group]) for name in ("objective", *run.further)}
        for group in groups
    ]


def has_candidates(run: RunFacts, trials: list[Row]) -> bool:
    """Return whether any trial may be retrained as a winner. The space is read only if a single config completed: it may be the baseline.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
    """
    from winnow.spaces.identity import identity

    completed: set[str] = set()
    for row in completed_inside(trials):
        completed.add(identity(json.loads(row["config"])))
        if len(completed) > 1:
            return True
    return bool(candidates(run, trials, []))


def _without_baseline(run: RunFacts, rows: list[Row], winners: list[Row]) -> list[Row]:
    space = run.study["space"]
    if not rows or not (space.get("baseline") or space.get("start_from")):
        return rows
    from winnow.spaces.winners import baseline_config, may_win

    known = next((row for row in winners if row["baseline"]), None)
    if known is not None and not run.space_changed:
        baseline = json.loads(next((row["config"] for row in rows if row["trial"] == known["trial"]), known["config"]))
    else:
        baseline = baseline_config(run.space)
    # With `--repeats` several trials have the same config, and may have that of the baseline.
    wins = {config: may_win(json.loads(config), baseline) for config in {row["config"] for row in rows}}
    return [row for row in rows if wins[row["config"]]]
