"""Which rule judges trials at the rungs: one line per rule."""

from __future__ import annotations

from search.schedulers.asha import Asha
from search.schedulers.pausing import Pausing
from search.schedulers.stratified import Stratified
from search.settings import Settings


def make_rule(settings: Settings) -> Asha:
    """Pausing where the sampler decides who is resumed, successive halving within groups of equal cost, or among all."""
    halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
    if settings.sampler == "forecast":
        return Pausing(*halving)
    return Stratified(*halving, settings.strata) if settings.strata > 1 else Asha(*halving)
