"""Optuna's own samplers, set up as Winnow uses them."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from winnow.search.samplers.registry import SamplerContext


def make_tpe(context: SamplerContext) -> BaseSampler:
    # Optuna 5's defaults (multivariate, constant liar) were worse than random search under ASHA: docs/decisions/0014-asha-settings.md.
    return TPESampler(seed=context.own_seed, multivariate=False, constant_liar=False, n_startup_trials=10)


def make_random(context: SamplerContext) -> BaseSampler:
    return RandomSampler(seed=context.own_seed)
