"""Creates the sampler that suggests one trial. `winnow.spaces.samplers` lists the available samplers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from optuna.samplers import BaseSampler

from winnow.search.seeds import Stream, derive_seed
from winnow.spaces.samplers import spec_of

if TYPE_CHECKING:
    from optuna import Study

    from winnow.search.schedulers.pausing import Pausing
    from winnow.spaces.space import Space


@dataclass(frozen=True)
class SamplerContext:
    """The information, apart from the study, from which a sampler is created.

    Attributes:
        seed: Seed of the search.
        number: Number of the trial to be suggested.
        rungs: Epochs at which trials are compared, including the last epoch of a training.
        space: The space to search. `qmc` and `grid` need it.
        num_drafts: Number of suggestions so far, including rejected ones: the points of a sequence or grid that are used up.
        weigh_cost: Whether the time of an epoch matters, because the search has a time budget.
    """

    seed: int
    number: int
    rungs: Sequence[int]
    space: Space | None = None
    num_drafts: int = 0
    weigh_cost: bool = False

    @property
    def own_seed(self) -> int:
        """The seed of this trial's sampler."""
        return derive_seed(Stream.SAMPLER, self.seed, self.number)

    @property
    def common_seed(self) -> int:
        """A seed that is the same for all trials of a search."""
        return derive_seed(Stream.SEQUENCE, self.seed)


class PausingSampler(Protocol):
    """A sampler that decides which paused trial continues. Its entry in `winnow.spaces.samplers` sets `pauses`."""

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """Choose the paused trial to resume.

        Args:
            study: The study that the sampler reads.
            paused: Numbers of all paused trials.
            rule: The scheduler, which knows the rungs.
            among: Numbers of the paused trials that may be resumed. Default: all.
            may_start: Whether a new trial could be started instead. Default: True.

        Returns:
            The number of the trial; None to start a new one instead, or if there is none.
        """


def make_sampler(name: str, context: SamplerContext) -> BaseSampler:
    """Create the sampler for one trial.

    Its suggestion depends only on the seed, the number and the study, so a resumed search continues
    exactly as if it had not been interrupted. A single sampler for the whole search would repeat its
    first draws after every start.

    Args:
        name: Name of the sampler, a key of `winnow.spaces.samplers.SAMPLERS`.
        context: The information from which the sampler is created.

    Raises:
        InputError: There is no sampler of this name.
    """
    return cast(BaseSampler, spec_of(name).load()(context))
