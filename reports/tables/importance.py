"""Creates the rows of importance, by fANOVA (Hutter et al., 2014) over the trials in which the parameter was active.

Optuna's fANOVA requires every parameter in every trial. Parameters that exist in the same trials therefore share a forest that is
fitted only to these trials. Parameters that only some of these trials have are inputs too, with a separate value for "not active":
without them, their effect would be attributed to the others.

The class `_Fanova` is private to Optuna. The public `FanovaImportanceEvaluator` gives equal values (a test compares them), but
it evaluates every input of every forest: 3.6 s instead of 1.4 s of CPU time for a run of 1,000 trials with 22 parameters,
whose whole report takes 7 s (Optuna 5.0, one core, 2026-11-28).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.distributions import (
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.importance._fanova._fanova import _Fanova

from winnow.reports.reading.journal import State
from winnow.reports.statuses import UNRANKED_STATUSES
from winnow.reports.subsample import MAX_FITTED, drawn
from winnow.reports.tables.end_values import LEAST_GAIN, end_values, without_bad_outliers
from winnow.reports.tables.trials import finite_values, trial_rows
from winnow.spaces.epoch_figures import continued, is_share
from winnow.spaces.space import AtLeast

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.reports.run_data import RunRecords
    from winnow.spaces.space import Parameter

MIN_TRIALS = 8
"""Minimum number of trials. With fewer trials, the forest overfits and the importance is meaningless."""
MAX_DEPTH = 6
"""Depth of the trees. Deeper trees fit the noise of single trials, and unbounded ones take half a minute for 400 trials."""
INACTIVE = "not active"

Array = np.ndarray


def importance_rows(run: RunRecords) -> list[dict[str, Any]]:
    """Return one row per parameter of the space, starting with the most important; those without an importance come last."""
    targets = _targets(run)
    trials = _ranked_trials(run, targets)
    trials = [trials[i] for i in drawn(len(trials), MAX_FITTED)]
    estimates = ends_of_trials(run)
    values = "last" if estimates is None else "estimated end"
    importances = importances_of(trials, targets if estimates is None else estimates, run.maximize)
    rows = [_row(run, parameter, trials, importances, values) for parameter in run.space.parameters()]
    return sorted(rows, key=lambda row: (-(row["importance"] if row["importance"] is not None else -1.0), row["path"]))


def ends_of_trials(run: RunRecords) -> dict[int, float] | None:
    """Estimate the final objective of each trial that did not fail, by number; None if the last objectives are the better measure.

    An estimate beyond what the objective can be, such as an accuracy above 1, is set to that limit. The regression is fitted to at most
    `MAX_FITTED` trials, evenly spaced.
    """
    return run.once("ends_of_trials", lambda: _ends_of_trials(run))


def _ends_of_trials(run: RunRecords) -> dict[int, float] | None:
    trials = _ranked_trials(run, _targets(run))
    rungs = [*run.rungs, int(run.settings.get("max_epochs") or 0)]
    observed = {t.number: continued(finite_values(t), rungs, t.state == State.COMPLETE) for t in trials}
    ends = estimated_ends(trials, observed, rungs, run.maximize, drawn(len(trials), MAX_FITTED))
    least = 0.0 if is_share(run.objective) or run.objective == "validation_loss" else -math.inf
    most = 1.0 if is_share(run.objective) else math.inf
    return None if ends is None else {number: min(max(end, least), most) for number, end in ends.items()}


def _ranked_trials(run: RunRecords, targets: Mapping[int, float]) -> list[Trial]:
    return [trial for trial in run.study_trials if trial.number in targets]


def _targets(run: RunRecords) -> dict[int, float]:
    """Return the last objective of each trial that did not fail. Stopped trials count: they show which values are worse."""
    rows = [row for row in trial_rows(run) if row["status"] not in UNRANKED_STATUSES and row["in_space"]]
    return {row["trial"]: row["objective"] for row in rows if row["objective"] is not None}


def estimated_ends(
    trials: Sequence[Trial],
    observed: Mapping[int, Mapping[int, float]],
    rungs: Sequence[int],
    maximize: bool,
    fitted: Sequence[int] | None = None,
    least_gain: float = LEAST_GAIN,
) -> dict[int, float] | None:
    """Estimate the final objective of each trial, by number; None if its last objective is the better measure.

    Args:
        trials: The trials.
        observed: The finite objectives of each trial by epoch, by the trial's number.
        rungs: Epochs at which trials are judged, and the epochs of a full training.
        maximize: Whether a larger objective is better.
        fitted: Positions in `trials` of the trials to which the estimate is fitted. Default: all trials.
        least_gain: As for `end_values`.
    """
    names = sorted({name for trial in trials for name in trial.params})
    rungs = sorted(set(rungs) - {0})
    if len(trials) < MIN_TRIALS or not names:
        return None
    columns = []
    for name in names:
        values, bounds = _input(trials, name)
        low, high = bounds[:, 0], bounds[:, 1]
        columns.append((values - low) / np.where(high > low, high - low, 1.0))
    seen = [observed[trial.number] for trial in trials]
    ends = end_values(np.hstack(columns), seen, rungs, maximize, fitted, least_gain)
    return None if ends is None else {trial.number: float(end) for trial, end in zip(trials, ends, strict=True)}


class Importance(NamedTuple):
    """The share of the variance that a parameter explains alone, in [0, 1], and its standard deviation over the trees."""

    share: float
    deviation: float


def importances_of(trials: Sequence[Trial], targets: Mapping[int, float], maximize: bool) -> dict[str, Importance]:
    """Return the importance of each parameter that at least `MIN_TRIALS` trials have, by its name in the study.

    Args:
        trials: The trials.
        targets: The value to explain, by number of the trial. Bad outliers count as in `without_bad_outliers`.
        maximize: Whether a larger value is better.
    """
    values = without_bad_outliers(np.array([targets[trial.number] for trial in trials]), maximize)
    limited = {trial.number: value for trial, value in zip(trials, values.tolist(), strict=True)}
    active: dict[str, list[int]] = defaultdict(list)
    for i, trial in enumerate(trials):
        for name in trial.params:
            active[name].append(i)
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, where in active.items():
        groups[tuple(where)].append(name)
    importances: dict[str, Importance] = {}
    for indices, names in groups.items():
        if len(indices) >= MIN_TRIALS:
            importances |= _fanova([trials[k] for k in indices], names, limited)
    return importances


def _fanova(trials: Sequence[Trial], names: Sequence[str], targets: dict[int, float]) -> dict[str, Importance]:
    """Return the share of the variance among `trials` that each of `names` explains alone; the rest is interaction."""
    values = np.array([targets[trial.number] for trial in trials])
    inputs = {name: _input(trials, name) for name in sorted({name for trial in trials for name in trial.params})}
    inputs = {name: (columns, bounds) for name, (columns, bounds) in inputs.items() if np.ptp(columns)}
    importances = dict.fromkeys(names, Importance(0.0, 0.0))
    if np.ptp(values) and inputs:
        forest = _Fanova(n_trees=32, max_depth=MAX_DEPTH, min_samples_split=2, min_samples_leaf=1, seed=0)
        bounds = np.concatenate([bounds for _, bounds in inputs.values()])
        ends = np.cumsum([len(bounds) for _, bounds in inputs.values()])
        places = np.split(np.arange(len(bounds)), ends[:-1])
        forest.fit(np.hstack([columns for columns, _ in inputs.values()]), values, bounds, places)
        importances |= {
            name: Importance(*forest.get_importance(k)) for k, name in enumerate(inputs) if name in importances
        }
    return importances


def _input(trials: Sequence[Trial], name: str) -> tuple[Array, Array]:
    """Return (columns [trials, columns], bounds [columns, 2]) of one input of the forest.

    The logarithm is used for a logarithmic domain: fANOVA averages uniformly over a domain, and on a linear scale the smallest
    decades of a learning rate would have almost no weight. Trials without the parameter get an interval below the domain, whose
    length is proportional to their number; for a categorical parameter they get a separate option.
    """
    values = [trial.params.get(name, INACTIVE) for trial in trials]
    texts = {trial.distributions[name] for trial in trials if name in trial.distributions}
    domains = [json_to_distribution(text) for text in texts]
    numeric = [domain for domain in domains if isinstance(domain, FloatDistribution | IntDistribution)]
    if len(numeric) < len(domains):
        chosen = [repr(value) for value in values]
        choices = [repr(choice) for domain in domains for choice in getattr(domain, "choices", ())]
        options = sorted({*choices, *chosen})
        where = {option: place for place, option in enumerate(options)}
        return np.eye(len(options))[[where[option] for option in chosen]], np.tile([0.0, 1.0], (len(options), 1))
    half = 0.5 if any(isinstance(domain, IntDistribution) for domain in numeric) else 0.0
    lowest, highest = min(d.low for d in numeric) - half, max(d.high for d in numeric) + half
    scale = math.log if any(domain.log for domain in numeric) and lowest > 0 else float
    low, high = scale(lowest), scale(highest)
    num_inactive = sum(value is INACTIVE for value in values)
    below = (high - low) * num_inactive / (len(values) - num_inactive)
    column = [low - below / 2 if value is INACTIVE else scale(value) for value in values]
    return np.array(column)[:, None], np.array([[low - below, high]])


def _row(
    run: RunRecords,
    parameter: Parameter,
    trials: Sequence[Trial],
    importances: dict[str, Importance],
    values: str,
) -> dict[str, Any]:
    num_trials = sum(parameter.study_name in trial.params for trial in trials)
    importance = importances.get(parameter.study_name)
    return {
        "run": run.name,
        "parameter": parameter.study_name,
        "path": parameter.path,
        "condition": condition_text(parameter),
        "num_trials": num_trials,
        "values": values,
        "importance": None if importance is None else importance.share,
        "importance_std": None if importance is None else importance.deviation,
        "note": None if importance is not None else f"{num_trials} trials; at least {MIN_TRIALS} are needed",
    }


def condition_text(parameter: Parameter) -> str | None:
    """Return the condition under which the parameter exists, such as `optimizer = sgd and model.depth >= 3`; None if it always does."""
    parts = [
        f"{name} >= {value.count}" if isinstance(value, AtLeast) else f"{name} = {value}"
        for name, value in parameter.conditions
    ]
    return " and ".join(parts) or None
