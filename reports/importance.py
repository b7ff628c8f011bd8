"""How much each parameter mattered: fANOVA (Hutter et al., 2014), over the trials in which the parameter was active.

Optuna's fANOVA wants every parameter in every trial. So parameters that exist in the same trials share a forest, fitted
to these trials alone. Parameters that only some of them have are inputs too, with a place of their own for "not active":
left out, what they cause would be laid to the others.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports.thinning import MAX_FITTED, drawn
from reports.trials import FAILED_STATUSES, trial_rows
from spaces.space import AtLeast

if TYPE_CHECKING:
    from reports.journal import Trial
    from reports.run import RunData
    from spaces.space import Parameter

MIN_TRIALS = 8
"""Fewer say nothing: a forest fits them by heart."""
MAX_DEPTH = 6
"""Of the trees. Deeper ones follow the noise of single trials, and unbounded ones take half a minute for 400 trials."""
INACTIVE = "not active"


def importance_rows(run: RunData) -> list[dict[str, Any]]:
    """One row per parameter of the space, the most important first, those without a figure last."""
    targets = _targets(run)
    trials = [trial for trial in run.study_trials if trial.number in targets]
    trials = [trials[i] for i in drawn(len(trials), MAX_FITTED)]
    found = _importances(trials, targets)
    rows = [_row(run, parameter, trials, found) for parameter in run.space.parameters()]
    return sorted(rows, key=lambda row: (-(row["importance"] if row["importance"] is not None else -1.0), row["path"]))


def _targets(run: RunData) -> dict[int, float]:
    """The last objective of each trial that did not fail. A stopped trial counts: that it was worse is what it tells."""
    rows = [row for row in trial_rows(run) if row["status"] not in FAILED_STATUSES and row["in_space"]]
    return {row["trial"]: row["objective"] for row in rows if row["objective"] is not None}


def _importances(trials: Sequence[Trial], targets: dict[int, float]) -> dict[str, float]:
    active: dict[str, list[int]] = defaultdict(list)
    for i, trial in enumerate(trials):
        for name in trial.params:
            active[name].append(i)
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, where in active.items():
        groups[tuple(where)].append(name)
    found: dict[str, float] = {}
    for indices, names in groups.items():
        if len(indices) >= MIN_TRIALS:
            importances = _fanova([trials[i] for i in indices], targets)
            found |= {name: float(importances[name]) for name in names}
    return found


def _fanova(trials: Sequence[Trial], targets: dict[int, float]) -> dict[str, float]:
    """Each parameter's own share of the variance among `trials`, in [0, 1]; what is left to 1 is interaction."""
    names = sorted({name for trial in trials for name in trial.params})
    values = [targets[trial.number] for trial in trials]
    if max(values) == min(values):
        return dict.fromkeys(names, 0.0)
    inputs = {name: _input([_domain(trial, name) for trial in trials]) for name in names}
    domains = {name: domain for name, (domain, _) in inputs.items()}
    given = []
    for trial, value in zip(trials, values, strict=True):
        params = {name: inputs[name][1](trial.params.get(name, INACTIVE)) for name in names}
        given.append(create_trial(params=params, distributions=domains, value=value))
    evaluator = FanovaImportanceEvaluator(n_trees=32, max_depth=MAX_DEPTH, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of `normalize`, since 3.0
        study = cast(Study, _Completed(given))
        return get_param_importances(study, evaluator=evaluator, params=names, normalize=False)


class _Completed:
    """What fANOVA asks of a study. A real one would copy each trial, which takes half as long as the forests."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self._trials = trials

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._trials

    def _is_multi_objective(self) -> bool:
        return False


def _domain(trial: Trial, name: str) -> BaseDistribution | None:
    text = trial.distributions.get(name)
    return None if text is None else _parsed(text)


@cache
def _parsed(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _input(given: Sequence[BaseDistribution | None]) -> tuple[BaseDistribution, Callable[[Any], Any]]:
    """The domain of one input of the forest, and how a value enters it.

    A logarithmic domain enters by its logarithm: fANOVA averages uniformly over a domain, and on a learning rate as such
    the smallest decade would weigh next to nothing. Trials without the parameter share a stretch below the domain, as long
    as they are many; an option of its own where it is categorical.
    """
    known = [domain for domain in given if domain is not None]
    numeric = [domain for domain in known if isinstance(domain, FloatDistribution | IntDistribution)]
    if len(numeric) < len(known):
        choices = [choice for domain in known for choice in getattr(domain, "choices", ())]
        options = [repr(choice) for choice in choices] + [repr(INACTIVE)] * (len(known) < len(given))
        return CategoricalDistribution(list(dict.fromkeys(options))), repr
    half = 0.5 if any(isinstance(domain, IntDistribution) for domain in numeric) else 0.0
    scale = math.log if any(domain.log for domain in numeric) else float
    low, high = scale(min(d.low for d in numeric) - half), scale(max(d.high for d in numeric) + half)
    below = (high - low) * (len(given) - len(known)) / len(known)
    return FloatDistribution(low - below, high), lambda value: low - below / 2 if value is INACTIVE else scale(value)


def _row(run: RunData, parameter: Parameter, trials: Sequence[Trial], found: dict[str, float]) -> dict[str, Any]:
    num_trials = sum(parameter.study_name in trial.params for trial in trials)
    importance = found.get(parameter.study_name)
    return {
        "run": run.name,
        "parameter": parameter.study_name,
        "path": parameter.path,
        "condition": condition_text(parameter),
        "num_trials": num_trials,
        "importance": importance,
        "note": None if importance is not None else f"{num_trials} trials, at least {MIN_TRIALS} are needed",
    }


def condition_text(parameter: Parameter) -> str | None:
    """When the parameter exists, as `optimizer = sgd and model.depth >= 3`; None: always."""
    parts = [
        f"{name} >= {value.count}" if isinstance(value, AtLeast) else f"{name} = {value}"
        for name, value in parameter.conditions
    ]
    return " and ".join(parts) or None
