"""The searchers that `search_efficiency.py` compares, each driven one event at a time in simulated time.

A contender has `ask() -> (trial number, its parameters)`, which may also be a trial that was paused before, and
`report(number, epoch, value) -> bool`, True if the trial goes on. A trial ends by itself after its last epoch.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any, Protocol, cast

import optuna
from lcbench import EPOCHS, SPACE
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import Trial, TrialState

from winnow.search.samplers.draft import Draft
from winnow.search.samplers.forecast import ForecastSampler
from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import default_grace_epochs, rung_epochs
from winnow.spaces.space import Space

Params = dict[str, Any]

RUNGS = [*rung_epochs(default_grace_epochs(EPOCHS), 3.0, EPOCHS), EPOCHS]
REFERENCE = "winnow"  # the others are compared with it


class Contender(Protocol):
    def ask(self) -> tuple[int, Params]: ...

    def report(self, number: int, epoch: int, value: float) -> bool: ...


class _Names:
    """All that the sampler `qmc` asks of a space: what its parameters are called."""

    def parameters(self) -> list[Any]:
        return [types.SimpleNamespace(study_name=name) for name in SPACE]


_NAMES = cast(Space, _Names())


class Winnow:
    """What `winnow.search.study.ledger.Ledger` does with the sampler, the study and ASHA, without its folder."""

    def __init__(
        self, seed: int, sampler: str, reduction_factor: float | None = 3.0, grace_epochs: int | None = None
    ) -> None:
        self.seed = seed
        self.sampler = sampler
        self.study = _new_study()
        self.storage = self.study._storage
        grace = grace_epochs or default_grace_epochs(EPOCHS)
        self.asha = Asha(grace, reduction_factor, EPOCHS, "maximize") if reduction_factor else None
        self.num_trials = 0

    def ask(self) -> tuple[int, Params]:
        number = self.num_trials
        draft = Draft(self.study, self._make_sampler(number), number)
        suggest_all(draft)
        self.storage.create_new_trial(self.study._study_id, template_trial=draft.to_trial({}))
        self.num_trials += 1
        return number, draft.params

    def _make_sampler(self, number: int) -> BaseSampler:
        return make_sampler(self.sampler, SamplerContext(self.seed, number, RUNGS, _NAMES, num_drafts=number))

    def report(self, number: int, epoch: int, value: float) -> bool:
        self.storage.set_trial_intermediate_value(
            self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number), epoch, value
        )
        going_on = self.asha is None or self.asha.judge(number, epoch, value)
        if epoch == EPOCHS:
            self.study.tell(number, value)
        elif not going_on:
            self.study.tell(number, state=TrialState.PRUNED)
        return going_on


class WinnowForecast:
    """Trials paused at every rung; the sampler's forecast says which config a free worker takes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.study = _new_study()
        self.storage = self.study._storage
        self.rule = Pausing(default_grace_epochs(EPOCHS), 3.0, EPOCHS, "maximize")
        self.paused: set[int] = set()
        self.num_trials = 0

    def ask(self) -> tuple[int, Params]:
        number = self.num_trials
        sampler = ForecastSampler(derive_seed(Stream.SAMPLER, self.seed, number), RUNGS)
        resumed = sampler.resume(self.study, self.paused, self.rule)
        if resumed is not None:
            self.paused.discard(resumed)
            return resumed, {}
        draft = Draft(self.study, sampler, number)
        suggest_all(draft)
        self.storage.create_new_trial(self.study._study_id, template_trial=draft.to_trial({}))
        self.num_trials += 1
        return number, draft.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        going_on = self.rule.judge(number, epoch, value)
        if epoch == EPOCHS:
            self.study.tell(number, value)
        elif not going_on:
            self.paused.add(number)
        return going_on


class StockRay:
    """`OptunaSearch` and `ASHAScheduler` with their defaults (`max_t` = the epochs), as Tune 2.60 wires them.

    The scheduler is Ray's own. `OptunaSearch` is retold: an epoch is reported when the trial goes on, the last value of
    every trial is told as COMPLETE, stopped or not.
    """

    def __init__(self, seed: int) -> None:
        from ray.tune.schedulers import ASHAScheduler

        self.study = _new_study(TPESampler(seed=seed))
        self.scheduler = ASHAScheduler(metric="accuracy", mode="max", max_t=EPOCHS)
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        trial = self.study.ask(fixed_distributions=SPACE)
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

    def __init__(self, seed: int) -> None:
        pruner = HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
        self.study = _new_study(TPESampler(seed=seed), pruner)
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        trial = self.study.ask(fixed_distributions=SPACE)
        self.trials[trial.number] = trial
        return trial.number, trial.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial = self.trials[number]
        trial.report(value, epoch)
        if epoch == EPOCHS:
            self.study.tell(trial, value)
            return False
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return False
        return True


def suggest_all(trial: Any) -> None:
    for name, domain in SPACE.items():
        if isinstance(domain, optuna.distributions.IntDistribution):
            trial.suggest_int(name, domain.low, domain.high, log=domain.log)
        elif isinstance(domain, optuna.distributions.FloatDistribution):
            trial.suggest_float(name, domain.low, domain.high, log=domain.log)


def _new_study(
    sampler: optuna.samplers.BaseSampler | None = None, pruner: HyperbandPruner | None = None
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    return optuna.create_study(direction="maximize", study_name="winnow", sampler=sampler, pruner=pruner)


def _ray_trial(number: int) -> Any:
    return types.SimpleNamespace(trial_id=str(number))


CONTENDERS: dict[str, Callable[[int], Contender]] = {
    "random": lambda seed: Winnow(seed, "random", reduction_factor=None),
    "random + ASHA": lambda seed: Winnow(seed, "random"),
    "stock Ray": StockRay,
    "Optuna Hyperband": OptunaHyperband,
    "TPE + ASHA": lambda seed: Winnow(seed, "tpe"),
    "GP": lambda seed: Winnow(seed, "gp", reduction_factor=None),
    "GP + ASHA": lambda seed: Winnow(seed, "gp"),
    "QMC + ASHA": lambda seed: Winnow(seed, "qmc"),
    "forecast + ASHA": lambda seed: Winnow(seed, "forecast"),
    "winnow": WinnowForecast,
}
