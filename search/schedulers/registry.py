"""Which rule judges trials at the rungs: one line per rule."""

from __future__ import annotations

from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.settings import Settings


def make_rule(settings: Settings) -> Asha:
    """Pausing where the sampler decides who is resumed, else successive halving that stops trials."""
    halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
    if settings.sampler == "forecast":
        return Pausing(*halving)
    return Asha(*halving)
