"""Which scheduler judges trials at the rungs."""

from __future__ import annotations

from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.settings import Settings
from winnow.spaces.samplers import spec_of


def make_scheduler(settings: Settings) -> Asha:
    """The scheduler of a search.

    Args:
        settings: Their sampler decides: if it resumes paused trials, trials pause at the rungs, otherwise successive halving stops them.
    """
    halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
    return Pausing(*halving) if spec_of(settings.sampler).pauses else Asha(*halving)
