"""Manages the trials that wait at a rung: decides which of them continues, and which must end to stay within the checkpoint quota."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import cast

import optuna
from optuna.samplers import BaseSampler

from winnow.search.samplers.registry import PausingSampler
from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.study.checkpoint_quota import Quota


class PausedTrials:
    """The numbers of the paused trials. There are none if the scheduler stops trials instead of pausing them."""

    def __init__(self, scheduler: Asha, quota: Quota) -> None:
        self.numbers: set[int] = set()
        self._scheduler = scheduler if isinstance(scheduler, Pausing) else None
        self._quota = quota

    @property
    def possible(self) -> bool:
        """Whether trials pause in this search."""
        return self._scheduler is not None

    def resume(
        self,
        sampler: BaseSampler,
        study: Callable[[], optuna.Study],
        may_start: bool,
        num_missing: int,
        in_time: Collection[int],
    ) -> int | None:
        """Choose the paused trial that continues now. It is then no longer paused.

        Args:
            sampler: Decides between the paused trials and a new one.
            study: Returns the study that the sampler reads; called only if it is needed.
            may_start: Whether a new trial could be started instead. Otherwise only trials that are
                worth finishing continue.
            num_missing: Number of trials that must still complete, however they rank.
            in_time: The paused trials that can complete before the search ends.

        Returns:
            Number of the trial; None if none should continue.
        """
        if self._scheduler is None:
            return None
        among = None
        if not may_start:
            candidates = self.numbers & set(in_time) or self.numbers
            among = self._scheduler.worth_finishing(candidates, num_missing)
        resuming = cast(PausingSampler, sampler)
        number = resuming.resume(study(), self.numbers, self._scheduler, among=among, may_start=may_start)
        if number is not None:
            self.numbers.discard(number)
        return number

    def beyond_quota(self) -> list[int]:
        """Return the trials that must end because of the quota. They are then no longer paused."""
        if self._scheduler is None:
            return []
        ended = self._quota.beyond(self.numbers, self._scheduler)
        self.numbers -= set(ended)
        return ended
