"""The samplers by name: Optuna's as we set them, and our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from winnow.search.samplers.forecast import ForecastSampler
from winnow.search.samplers.gp import GpSampler
from winnow.search.samplers.qmc_and_grid import GridSampler, QmcSampler
from winnow.search.seeds import Stream, derive_seed
from winnow.spaces.space import Space


@dataclass(frozen=True)
class Moment:
    """What a sampler may know when it is made, beside the study."""

    seed: int
    """Of the search."""
    number: int
    """Of the trial to be suggested."""
    rungs: Sequence[int]
    """Epochs at which trials are compared, the last epoch included."""
    space: Space | None = None
    num_drafts: int = 0
    """Points of a sequence or grid that earlier trials used up, rejected ones included."""
    weigh_cost: bool = False
    """Whether what an epoch costs matters, since it is time that the search runs out of."""

    @property
    def own_seed(self) -> int:
        return derive_seed(Stream.SAMPLER, self.seed, self.number)

    @property
    def common_seed(self) -> int:
        """The same for all trials of a search."""
        return derive_seed(Stream.SEQUENCE, self.seed)


def _forecast(moment: Moment) -> BaseSampler:
    return ForecastSampler(moment.own_seed, moment.rungs, moment.weigh_cost)


def _tpe(moment: Moment) -> BaseSampler:
    # Optuna 5's defaults (multivariate, constant liar) were worse than random search under ASHA; see docs/decisions.md.
    return TPESampler(seed=moment.own_seed, multivariate=False, constant_liar=False, n_startup_trials=10)


def _gp(moment: Moment) -> BaseSampler:
    return GpSampler(moment.own_seed)


def _random(moment: Moment) -> BaseSampler:
    return RandomSampler(seed=moment.own_seed)


def _qmc(moment: Moment) -> BaseSampler:
    assert moment.space is not None
    return QmcSampler(moment.space, moment.common_seed, moment.num_drafts)


def _grid(moment: Moment) -> BaseSampler:
    assert moment.space is not None
    return GridSampler(moment.space, moment.common_seed, moment.num_drafts)


SAMPLERS: dict[str, Callable[[Moment], BaseSampler]] = {
    "forecast": _forecast,
    "tpe": _tpe,
    "gp": _gp,
    "random": _random,
    "qmc": _qmc,
    "grid": _grid,
}
"""A fresh one is made for each trial: what it suggests is then a function of seed, number and the study alone, so that a resumed
search goes on as the undisturbed one would have (one sampler seeded once would repeat its first draws instead). `qmc` and `grid`
need the space, and walk on from the point `num_drafts`."""
