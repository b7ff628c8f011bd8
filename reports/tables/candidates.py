"""Ranks the trials, and finds those that retraining may choose from, as `winnow.search.study.completed` does from the study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import is_ranked
from winnow.spaces.shapes import recorded_shape
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData, RunFacts

Row = dict[str, Any]


def best_first(run: RunFacts, rows: list[Row]) -> list[Row]:
    """Rank the trials that have an objective and did not fail: completed trials first, then by objective.

    Completed trials come first because the objective of a stopped trial is from fewer epochs.
    Trials outside the current space are left out.

    Args:
        run: The run, which says whether larger values are better.
        rows: Rows of `trials`.

    Returns:
        The ranked rows, from best to worst.
    """
    inside = [row for row in rows if row["in_space"]]
    known = filter(is_ranked, inside)
    sign = -1 if run.maximize else 1
    return sorted(
        known, key=lambda row: (row["status"] != TrialStatus.COMPLETED, sign * row["objective"], row["trial"])
    )


def incumbent(run: RunData, trials: list[Row]) -> Row | None:
    """Return the trial whose config is the best so far; None if no trial is ranked.

    Args:
        run: The run.
        trials: Rows of the table `trials`.

    Returns:
        The first of `best_first`. If the search repeats configs, it is the first of `candidates`, which retraining takes first, with
        the further keys `repeats` (the numbers of the completed trials with its config), `num_repeats` (how many these are) and
        `num_incomplete_repeats` (how many others began); without candidates it is the first of `best_first`, too.
    """
    ranked = candidates(run, trials, run.winner_rows()) if _num_repeats(run) > 1 else []
    if not ranked:
        return next(iter(best_first(run, trials)), None)
    number = ranked[0]["trial"]
    repeats = [row["trial"] for row in completed_inside(same_config(run, trials, number))]
    num_others = num_incomplete_repeats(run, trials, number)
    return ranked[0] | {"repeats": repeats, "num_repeats": len(repeats), "num_incomplete_repeats": num_others}


def same_config(run: RunFacts, trials: list[Row], number: int) -> list[Row]:
    """Return the trials with the config of one trial, including itself; it is the only one unless the search repeats configs.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        number: Number of the trial.
    """
    from winnow.spaces.winners import by_config

    known = [row for row in trials if row["config"]] if _num_repeats(run) > 1 else []
    for group in by_config(_configs(known), _num_repeats(run), recorded_shape(run.study)):
        rows = [known[index] for index in group]
        if any(row["trial"] == number for row in rows):
            return rows
    return [row for row in trials if row["trial"] == number]


def num_incomplete_repeats(run: RunFacts, trials: list[Row], number: int) -> int:
    """Return how many trials inside the current space with the config of one trial began but did not complete.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        number: Number of the trial.
    """
    left_out = (TrialStatus.COMPLETED, TrialStatus.SKIPPED, TrialStatus.INFEASIBLE)
    return sum(row["in_space"] and row["status"] not in left_out for row in same_config(run, trials, number))


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

    If the search repeats configs, one trial stands for all completed repeats of its config, with the means of its objectives.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        winners: Rows of the table `winners`. They name the trials that stand for their repeats. If they include the baseline, they
            name its trial, and the space need not be read.
    """
    rows = _by_config(run, _without_baseline(run, completed_inside(trials), winners), winners)
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


def _by_config(run: RunFacts, rows: list[Row], winners: list[Row]) -> list[Row]:
    if _num_repeats(run) == 1:
        return rows
    from winnow.spaces.winners import by_config, mean_of_repeats, representative

    retrained = {row["trial"] for row in winners}
    indices = by_config(_configs(rows), _num_repeats(run), recorded_shape(run.study))
    groups = [[rows[index] for index in group] for group in indices]
    return [
        group[representative([row["trial"] for row in group], retrained)]
        | {name: mean_of_repeats([row[name] for row in group]) for name in ("objective", *run.further)}
        for group in groups
    ]


def _configs(rows: list[Row]) -> list[dict[str, Any]]:
    return [json.loads(row["config"]) for row in rows]


def _num_repeats(run: RunFacts) -> int:
    return int((run.study.get("settings") or {}).get("repeats", 1))


def has_candidates(run: RunFacts, trials: list[Row]) -> bool:
    """Return whether any trial may be retrained as a winner. The space is read only if a single config completed: it may be the baseline.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
    """
    from winnow.spaces.identity import same_training

    configs = (json.loads(row["config"]) for row in completed_inside(trials))
    first, shape = next(configs, None), recorded_shape(run.study)
    if first is not None and any(not same_training(config, first, shape) for config in configs):
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
    shape = recorded_shape(run.study)
    wins = {config: may_win(json.loads(config), baseline, shape) for config in {row["config"] for row in rows}}
    return [row for row in rows if wins[row["config"]]]
