"""How much each parameter mattered: fANOVA (Hutter et al., 2014), over the trials in which the parameter was active.

Optuna's fANOVA wants every parameter in every trial. Parameters that exist in the same trials share a forest: its inputs
are all parameters that were active in each of these trials, so a branch is explained with the common parameters beside it.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from reports.trials import FAILED_STATUSES, trial_rows
from spaces.space import AtLeast

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from reports.run import RunData
    from spaces.space import Parameter

MIN_TRIALS = 8
"""Fewer say nothing: a forest fits them by heart."""


def importance_rows(run: RunData) -> list[dict[str, Any]]:
    """One row per parameter of the space, the most important first, those without a figure last."""
    targets = _targets(run)
    trials = [trial for trial in run.study_trials if trial.number in targets]
    found = _importances(trials, targets)
    rows = [_row(run, parameter, trials, found) for parameter in run.space.parameters()]
    return sorted(rows, key=lambda row: (-(row["importance"] if row["importance"] is not None else -1.0), row["path"]))


def _targets(run: RunData) -> dict[int, float]:
    """The last objective of each trial that did not fail. A stopped trial counts: that it was worse is what it tells."""
    rows = [row for row in trial_rows(run) if row["status"] not in FAILED_STATUSES]
    return {row["trial"]: row["objective"] for row in rows if row["objective"] is not None}


def _importances(trials: Sequence[FrozenTrial], targets: dict[int, float]) -> dict[str, float]:
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
            shared = [name for name, where in active.items() if set(indices) <= set(where)]
            importances = _fanova([trials[i] for i in indices], shared, targets)
            found |= {name: importances[name] for name in names if name in importances}
    return found


def _fanova(trials: Sequence[FrozenTrial], names: list[str], targets: dict[int, float]) -> dict[str, float]:
    """Each parameter's own share of the variance, in [0, 1]; what is left to 1 is interaction."""
    values = [targets[trial.number] for trial in trials]
    if max(values) == min(values):
        return dict.fromkeys(names, 0.0)
    scales = {name: _scale([trial.distributions[name] for trial in trials]) for name in names}
    domains = {name: domain for name, (domain, _) in scales.items()}
    with _quiet():
        study = optuna.create_study()
        for trial, value in zip(trials, values, strict=True):
            params = {name: scales[name][1](trial.params[name]) for name in names}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=domains, value=value))
        evaluator = FanovaImportanceEvaluator(seed=0)
        return get_param_importances(study, evaluator=evaluator, params=names, normalize=False)


def _scale(given: Sequence[BaseDistribution]) -> tuple[BaseDistribution, Callable[[Any], Any]]:
    """One domain that holds all the given ones, and how a value enters it: a logarithmic domain by its logarithm.

    fANOVA averages uniformly over a domain; on a learning rate as such, the smallest decade would weigh next to nothing.
    """
    numeric = [d for d in given if isinstance(d, FloatDistribution | IntDistribution)]
    if len(numeric) < len(given):
        choices = [choice for d in given if isinstance(d, CategoricalDistribution) for choice in d.choices]
        return CategoricalDistribution(list(dict.fromkeys(map(repr, choices)))), repr
    half = 0.5 if any(isinstance(d, IntDistribution) for d in numeric) else 0.0
    low, high = min(d.low for d in numeric) - half, max(d.high for d in numeric) + half
    if any(d.log for d in numeric):
        return FloatDistribution(math.log(low), math.log(high)), math.log
    return FloatDistribution(low, high), float


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces each study it makes, and warns of `normalize`, which has been experimental since 3.0."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _row(run: RunData, parameter: Parameter, trials: Sequence[FrozenTrial], found: dict[str, float]) -> dict[str, Any]:
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
