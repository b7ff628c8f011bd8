"""Optuna's samplers as we set them, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from search.forecast import ForecastSampler


def make_sampler(name: str, seed: int, number: int, rungs: Sequence[int]) -> BaseSampler:
    """The sampler that suggests trial `number`; `rungs` are the epochs at which trials are compared, the last epoch included.

    A fresh one for each trial: what it suggests is then a function of seed, number and the study alone, so that a resumed
    search goes on as the undisturbed one would have (one sampler seeded once would repeat its first draws instead).
    """
    return SAMPLERS[name](derive_seed(seed, number), rungs)


def derive_seed(*parts: int) -> int:
    """A well-mixed 31-bit seed from several small integers (numpy's SeedSequence)."""
    return int(np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(1)[0] >> 1)


def _tpe(seed: int, rungs: Sequence[int]) -> BaseSampler:
    # Optuna 5's defaults (multivariate, constant liar) were worse than random search under ASHA; see docs/decisions.md.
    return TPESampler(seed=seed, multivariate=False, constant_liar=False, n_startup_trials=10)


def _gp(seed: int, rungs: Sequence[int]) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=10)


def _random(seed: int, rungs: Sequence[int]) -> BaseSampler:
    return RandomSampler(seed=seed)


def _qmc(seed: int, rungs: Sequence[int]) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[[int, Sequence[int]], BaseSampler]] = {
    "forecast": ForecastSampler,
    "tpe": _tpe,
    "gp": _gp,
    "random": _random,
    "qmc": _qmc,
}
