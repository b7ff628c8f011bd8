"""Methods of the literature, as Syne Tune 0.13 implements them, driven in the simulated time of `search_efficiency.py`.

Syne Tune needs NumPy 1, so it lives in an environment of its own:

    uv venv syne
    uv pip install --python syne/bin/python "syne-tune[gpsearchers]==0.13" "pyarrow<22" onnxruntime optuna pydantic pyyaml threadpoolctl
    uv pip install --python syne/bin/python --no-deps --editable .
    syne/bin/python -m benchmarks.search_quality.search_efficiency --only PASHA --results benchmarks/results/search_quality_rivals.jsonl

There `search_efficiency.py` knows these contenders too. CPU of one search of 20 full trainings, median: 0.1 s (ASHA), 0.7 s (PASHA), 36 s (MOBSTER); DyHPO needs
15 s for 2 full trainings and more than a minute for 5.

Every method has Syne Tune's defaults, the middle of the space as the first config among them, but for the rungs, which are those of the contenders of ours: the first at `default_grace_epochs`, each
next one at three times the epochs. DyHPO compares after every second epoch, its own default. Conditions of a space cannot be said:
all its parameters are searched, and those that a config does not have are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA, MOBSTER, PASHA, DyHPO
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler

from benchmarks.search_quality.tasks import Drawn, Params, Task
from winnow.search.settings import default_grace_epochs

NUM_LOOKED_AT = 300
"""Random configs in which every parameter of a space with conditions has occurred."""


class SyneTune:
    """A scheduler of Syne Tune; trials that it pauses continue when it says so."""

    def __init__(self, task: Task, seed: int, make: Callable[..., TrialScheduler], **settings: Any) -> None:
        logging.disable(logging.WARNING)
        self.task = task
        self.scheduler = make(
            domains(task),
            metric="score",
            mode="max",
            resource_attr="epoch",
            max_t=task.epochs,
            random_seed=seed,
            **settings,
        )
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        suggestion = self.scheduler.suggest(len(self.trials))
        if suggestion is None:
            raise RuntimeError("Syne Tune has no config to suggest")
        if not suggestion.spawn_new_trial_id:
            return suggestion.checkpoint_trial_id, {}
        number = len(self.trials)
        self.trials[number] = Trial(number, suggestion.config, datetime.now())
        self.scheduler.on_trial_add(self.trials[number])
        return number, suggestion.config

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial, result = self.trials[number], {"score": value, "epoch": epoch}
        decision = self.scheduler.on_trial_result(trial, result)
        if epoch == self.task.epochs:
            self.scheduler.on_trial_complete(trial, result)
            return False
        if decision != SchedulerDecision.CONTINUE:
            self.scheduler.on_trial_remove(trial)
        return decision == SchedulerDecision.CONTINUE


def domains(task: Task) -> dict[str, Any]:
    """The space of a task in Syne Tune's words, all parameters on one level."""
    drawn = Drawn(np.random.default_rng(0))
    for _ in range(NUM_LOOKED_AT):
        task.suggest(drawn)
    return {name: _domain(distribution) for name, distribution in drawn.distributions.items()}


def _domain(distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choice(list(choices))
        case IntDistribution(low=low, high=high, log=log, step=1):
            return (lograndint if log else randint)(low, high)
        case IntDistribution(low=low, high=high, step=step):
            return choice(list(range(low, high + 1, step)))
        case FloatDistribution(low=low, high=high, log=log, step=None):
            return (loguniform if log else uniform)(low, high)
        case _:
            raise TypeError(f"{distribution} has no counterpart in Syne Tune")


def _with_our_rungs(make: Callable[..., TrialScheduler], **settings: Any) -> Callable[[Task, int], SyneTune]:
    return lambda task, seed: SyneTune(
        task, seed, make, grace_period=default_grace_epochs(task.epochs), reduction_factor=3, **settings
    )


RIVALS: dict[str, Callable[[Task, int], SyneTune]] = {
    "DyHPO": lambda task, seed: SyneTune(task, seed, DyHPO),
    "MOBSTER, promotion": _with_our_rungs(MOBSTER, type="promotion"),
    "MOBSTER, stopping": _with_our_rungs(MOBSTER, type="stopping"),
    "ASHA, promotion": _with_our_rungs(ASHA, type="promotion"),
    "PASHA": _with_our_rungs(PASHA),
}
