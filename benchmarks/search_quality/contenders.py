"""The searchers that `search_efficiency.py` compares, each driven one event at a time in simulated time.

A contender has `ask() -> (trial number, its parameters)`, which may also be a trial that was paused before, and
`report(number, epoch, value) -> bool`, True if the trial continues. A trial ends by itself after its last epoch.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import Trial, TrialState

from benchmarks.search_quality.tasks import Params, Task, draw
from winnow.search.samplers.draft import Draft
from winnow.search.samplers.forecast import ForecastSampler
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.registry import PausingSampler, SamplerContext, make_sampler
from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import default_grace_epochs, rung_epochs
from winnow.search.study.checkpoint_quota import MOST_PAUSED
from winnow.spaces.space import Space

REDUCTION_FACTOR = 3.0


class Contender(Protocol):
    def ask(self) -> tuple[int, Params]: ...

    def report(self, number: int, epoch: int, value: float) -> bool: ...


class _Names:
    """The part of a space that the sampler `qmc` reads: the names of its parameters."""

    def __init__(self, task: Task) -> None:
        self._names = list(draw(task.suggest, np.random.default_rng(0)))

    def parameters(self) -> list[Any]:
        return [types.SimpleNamespace(study_name=name) for name in self._names]


class Stopping:
    """A sampler of ours with successive halving that stops trials: what the ledger does, without its folder."""

    def __init__(self, task: Task, seed: int, sampler: str, reduction_factor: float | None = REDUCTION_FACTOR) -> None:
        self.task = task
        self.seed = seed
        self.sampler = sampler
        self.study = _new_study()
        self.storage = self.study._storage
        grace = default_grace_epochs(task.epochs)
        self.asha = Asha(grace, reduction_factor, task.epochs, "maximize") if reduction_factor else None
        self.num_trials = 0

    def ask(self) -> tuple[int, Params]:
        number = self.num_trials
        draft = Draft(self.study, self.sampler_of(number), number)
        self.task.suggest(draft)
        self.storage.create_new_trial(self.study._study_id, template_trial=draft.to_trial({}))
        self.num_trials += 1
        return number, draft.params

    def sampler_of(self, number: int) -> BaseSampler:
        space = cast(Space, _Names(self.task))
        return make_sampler(
            self.sampler, SamplerContext(self.seed, number, _rungs(self.task), space, num_drafts=number)
        )

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        going_on = self.asha is None or self.asha.judge(number, epoch, value)
        if epoch == self.task.epochs:
            self.study.tell(number, value)
        elif not going_on:
            self.study.tell(number, state=TrialState.PRUNED)
        return going_on


class Forecasting:
    """Trials paused at every rung; the sampler's forecast says which config a free worker takes."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.seed = seed
        self.study = _new_study()
        self.storage = self.study._storage
        self.rule = Pausing(default_grace_epochs(task.epochs), REDUCTION_FACTOR, task.epochs, "maximize")
        self.paused: set[int] = set()
        self.num_trials = 0

    def ask(self) -> tuple[int, Params]:
        number = self.num_trials
        sampler = self.sampler_of(number)
        shown = recent(self.study, "forecast")
        resumed = cast(PausingSampler, sampler).resume(shown, self.paused, self.rule)
        if resumed is not None:
            self.paused.discard(resumed)
            return resumed, {}
        draft = Draft(shown, sampler, number)
        self.task.suggest(draft)
        self.storage.create_new_trial(self.study._study_id, template_trial=draft.to_trial({}))
        self.num_trials += 1
        return number, draft.params

    def sampler_of(self, number: int) -> BaseSampler:
        return ForecastSampler(derive_seed(Stream.SAMPLER, self.seed, number), _rungs(self.task))

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        going_on = self.rule.judge(number, epoch, value)
        if epoch == self.task.epochs:
            self.study.tell(number, value)
        elif not going_on:
            self.paused.add(number)
            if len(self.paused) > MOST_PAUSED:
                self._end_worst()
        return going_on

    def _end_worst(self) -> None:
        """Stop the paused trial that is worst at its last rung, as the ledger's quota does."""
        shares = self.rule.shares_better(self.paused)
        worst = max(shares, key=lambda trial: (shares[trial], -trial))
        self.paused.discard(worst)
        self.study.tell(worst, state=TrialState.PRUNED)


class OneRung:
    """Random configs for one rung, of which the best are trained to their end, each with half of the epochs."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.rng = np.random.default_rng(seed)
        self.grace = default_grace_epochs(task.epochs)
        self.waiting: dict[int, float] = {}
        self.num_trials = self.num_finished = 0

    def ask(self) -> tuple[int, Params]:
        to_finish = self.task.epochs - self.grace
        if self.waiting and self.num_trials * self.grace >= (self.num_finished + 1) * to_finish:
            number = max(self.waiting, key=lambda trial: self.waiting[trial])
            del self.waiting[number]
            self.num_finished += 1
            return number, {}
        self.num_trials += 1
        return self.num_trials - 1, draw(self.task.suggest, self.rng)

    def report(self, number: int, epoch: int, value: float) -> bool:
        if epoch == self.grace:
            self.waiting[number] = value
        return epoch != self.grace


class StockRay:
    """`OptunaSearch` and `ASHAScheduler` with their defaults (`max_t` = the epochs), as Tune 2.60 wires them.

    The scheduler is Ray's own. `OptunaSearch` is imitated: an epoch is reported when the trial continues, the last value of
    every trial is recorded as COMPLETE, stopped or not.
    """

    def __init__(self, task: Task, seed: int) -> None:
        from ray.tune.schedulers import ASHAScheduler

        self.task = task
        self.study = _new_study(TPESampler(seed=seed))
        self.scheduler = ASHAScheduler(metric="accuracy", mode="max", max_t=task.epochs)
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        trial = self.study.ask()
        self.task.suggest(trial)
        self.trials[trial.number] = trial
        self.scheduler.on_trial_add(None, _ray_trial(trial.number))
        return trial.number, trial.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "accuracy": value}
        if self.scheduler.on_trial_result(None, _ray_trial(number), result) == "CONTINUE":
            self.trials[number].report(value, epoch)
            return True
        self.scheduler.on_trial_complete(None, _ray_trial(number), result)
        self.study.tell(number, value)
        return False


class OptunaHyperband:
    """Optuna's TPE and HyperbandPruner as its documentation puts them together."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        pruner = HyperbandPruner(min_resource=1, max_resource=task.epochs, reduction_factor=3)
        self.study = _new_study(TPESampler(seed=seed), pruner)
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        trial = self.study.ask()
        self.task.suggest(trial)
        self.trials[trial.number] = trial
        return trial.number, trial.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.trials[number]
        trial.report(value, epoch)
        if epoch == self.task.epochs:
            self.study.tell(trial, value)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


def _rungs(task: Task) -> list[int]:
    return [*rung_epochs(default_grace_epochs(task.epochs), REDUCTION_FACTOR, task.epochs), task.epochs]


def _new_study(
    sampler: optuna.samplers.BaseSampler | None = None, pruner: HyperbandPruner | None = None
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    return optuna.create_study(direction="maximize", study_name="winnow", sampler=sampler, pruner=pruner)


def _ray_trial(number: int) -> Any:
    return types.SimpleNamespace(trial_id=str(number))


CONTENDERS: dict[str, Callable[[Task, int], Contender]] = {
    "random": lambda task, seed: Stopping(task, seed, "random", reduction_factor=None),
    "random + ASHA": lambda task, seed: Stopping(task, seed, "random"),
    "one rung": OneRung,
    "stock Ray": StockRay,
    "Optuna Hyperband": OptunaHyperband,
    "TPE + ASHA": lambda task, seed: Stopping(task, seed, "tpe"),
    "GP + ASHA": lambda task, seed: Stopping(task, seed, "gp"),
    "QMC + ASHA": lambda task, seed: Stopping(task, seed, "qmc"),
    "forecast": Forecasting,
}
