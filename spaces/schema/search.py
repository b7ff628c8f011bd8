"""The sections of a space that are not part of a training config: `search`, `retrain` and `reference`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from winnow.spaces.samplers import DEFAULT_SAMPLER, SAMPLERS, SamplerName
from winnow.spaces.schema.fields import Count, Metric, Strict

_SAMPLER_TEXT = "Algorithm that suggests the configs. " + " ".join(
    f"{k}: {spec.summary}" for k, spec in SAMPLERS.items()
)


class SearchSettings(Strict):
    """The optional `search:` section of a space.

    Each field is a search option, stated here and nowhere else: `winnow.search.settings`, the command line, the Python functions
    and the reference pages read its type, range, default and description.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    trials: Count = 50
    """Number of trials to run."""
    objective: Metric = "validation_accuracy"
    """Metric that ranks the trials, measured on the validation images. `validation_own_metric` is the function that the key `own_metric` names."""
    sampler: Annotated[SamplerName, Field(description=_SAMPLER_TEXT)] = DEFAULT_SAMPLER
    grace_epochs: Count | None = None
    """First rung, in epochs: no trial is stopped earlier. If not set, a sixteenth of the training."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """Ratio between the epochs of two rungs; about one trial in this many continues past each rung."""
    repeats: Count = 1
    """How often the same config may run, each time with another seed."""
    checkpoint_quota: Annotated[float, Field(gt=0.0)] = 20.0
    """Disk space in GB for the checkpoints of paused trials; beyond it the worst paused trials are stopped."""
    audit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Fraction of the stopped trials that is trained to the end, to measure how often stopping was wrong."""


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space; its fields are options of `winnow run` and `winnow retrain`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    top: Count = 3
    """Number of best configs to retrain."""
    seeds: Count = 3
    """Number of fresh seeds per config."""
    keep_validation: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Retrain on the training images alone: early stopping, plateau schedule and `weights` watch the validation images, as in the search. If not, both are trained on, for as many epochs as the search chose."""


class Reference(Strict):
    """The optional `reference:` section of a recipe: the published experiment that it reproduces."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    row: str
    """Name of the experiment in the published table."""
    accuracy: Annotated[float, Field(ge=0.0, le=100.0)]
    """Published accuracy, in percent."""
    split: Literal["test", "validation"] = "test"
    """Images that the published accuracy was measured on."""
    parameters: Count | None = None
    """Number of parameters of the network, calculated by hand."""
    note: str = ""
    """Details that the publication leaves open."""
