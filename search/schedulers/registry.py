"""Makes the scheduler that judges trials at the rungs."""

from __future__ import annotations

from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.fronts import FrontAsha, FrontPausing
from winnow.search.schedulers.pausing import Pausing
from winnow.search.settings import Settings


def make_scheduler(settings: Settings, pauses: bool) -> Asha:
    """Make the scheduler of a search.

    Args:
        settings: The rungs, and whether high or low values are good.
        pauses: Whether trials pause at the rungs, because the sampler decides which one is resumed (`SamplerSpec.pauses`). Otherwise
            successive halving stops them there.
    """
    if settings.further:
        return FrontPausing(settings) if pauses else FrontAsha(settings)
    halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
    return Pausing(*halving, settings.pauses_early) if pauses else Asha(*halving)
