"""The sections of a space beside the training itself: `search`, `retrain` and `reference`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from winnow.spaces.samplers import DEFAULT_SAMPLER, SamplerName
from winnow.spaces.schema.fields import Count, Strict


class SearchSettings(Strict):
    """The optional `search:` section of a space; every key is also an option of `winnow search`."""

    trials: Count = 50
    """How many trials run."""
    objective: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    """What trials are judged by, on the validation images."""
    sampler: SamplerName = DEFAULT_SAMPLER
    """What suggests the configs."""
    grace_epochs: Count | None = None
    """First rung; null: a sixteenth of the epochs, at least 1."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """One in so many goes on at a rung, and the next rung is so many times further."""
    repeats: Count = 1
    """How often one config may run, each time with another seed."""
    checkpoint_quota: Annotated[float, Field(gt=0.0)] = 20.0
    """GB that the checkpoints of paused trials may take (`forecast` pauses trials); beyond it the worst of them are stopped."""
    audit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the stopped trials that is let finish, to see how often a stop was wrong."""


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space."""

    top: Count = 3
    """How many of the best configs are retrained."""
    seeds: Count = 3
    """With how many fresh seeds each."""


class Reference(Strict):
    """The optional `reference:` section of a recipe: the published experiment that it states."""

    row: str
    """Its name in the published table."""
    accuracy: Annotated[float, Field(ge=0.0, le=100.0)]
    """As published, in percent."""
    split: Literal["test", "validation"] = "test"
    """The images that it was measured on."""
    parameters: Count | None = None
    """Of the network, by a calculation on paper."""
    note: str = ""
    """What the report leaves open."""
