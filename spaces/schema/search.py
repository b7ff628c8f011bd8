"""The sections of a space that are not part of a training config: `search`, `retrain` and `reference`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from winnow.spaces.samplers import DEFAULT_SAMPLER, SAMPLERS, SamplerName
from winnow.spaces.schema.fields import Count, Metric, Strict
from winnow.spaces.schema.limits import Limits
from winnow.spaces.schema.objectives import Objectives, check_objectives, costs_of, name_of

_SAMPLER_TEXT = "Algorithm that suggests the configs. " + " ".join(
    f"{k}: {spec.summary}" for k, spec in SAMPLERS.items()
)


def price_of(text: str) -> float:
    """Return the price that `stop_when` names, in units of the objective per hour of training; 0 for `no gain`.

    Raises:
        ValueError: The text is neither `no gain` nor a number of at least 0 with `per hour`.
    """
    number = "0" if text == "no gain" else text.removesuffix(" per hour")
    try:
        price = math.nan if number == text else float(number)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise ValueError(f"write `no gain`, or a price such as `0.01 per hour`, not {text!r}")
    return price


def _checked(text: str) -> str:
    price_of(text)
    return text


class SearchSettings(Strict):
    """The optional `search:` section of a space.

    Each field is a search option, stated only here: `winnow.search.settings`, the command line, the Python functions
    and the reference pages read its type, range, default and description. A mapping, or a list of them, has no option of its
    own on the command line: `--set search.limits.parameters=1e6`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    trials: Count = 50
    """Number of trials to run."""
    objective: Metric = "validation_accuracy"
    """Metric that ranks the trials, measured on the validation images. `validation_own_metric` is the function that the key `own_metric` names; a space may also name the function here, as `package.module:function`."""
    objectives: Objectives | None = None
    """Several objectives instead of one: a metric of the validation images, then costs that are minimized. The winners are their front."""
    sampler: Annotated[SamplerName, Field(description=_SAMPLER_TEXT)] = DEFAULT_SAMPLER
    grace_epochs: Count | None = None
    """First rung, in epochs: no trial is paused or stopped earlier. If not set, a sixteenth of the training, and a sampler that pauses trials also uses earlier rungs whose order agrees with later ones."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """Ratio between the epochs of two rungs; about one trial in this many continues past each rung."""
    repeats: Count = 1
    """How often the same config may run, each time with another seed."""
    checkpoint_quota: Annotated[float, Field(gt=0.0)] = 20.0
    """Disk space in GB for the checkpoints of paused trials; beyond it the worst paused trials are stopped."""
    audit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Fraction of the stopped trials that is trained to the end, to measure how often stopping was wrong."""
    limits: Limits | None = None
    """Upper limits of size, latency and time; see `search.limits`. A config beyond one of them is infeasible."""
    learn_from: list[str] | None = None
    """Earlier runs to learn from, on other data too: what was good there is tried first, and believed as far as it explains the first results here."""
    keep_predictions: bool = False
    """Keep what every trial that trains to its end answers for the validation images, so that other metrics can be computed afterwards."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Least number of seconds between two checkpoints of a trial or a retraining. They are also written at each rung and at the end of a trial. What follows the last one is trained again after an interruption, with the same figures. 0: after each epoch."""
    trial_timeout: Annotated[float, Field(gt=0.0)] | None = None
    """Seconds without a finished batch after which a trial is ended as `timed_out`. If not set, 20 times the longest epoch so far, at least 300."""

    stop_when: Annotated[str, AfterValidator(_checked)] | None = None
    """End the search early, when the best value improved too little over the last 70 % of the training time: `no gain` (not at all) or a price such as `0.01 per hour`, in units of the objective per hour of training, summed over all trials. If not set, the search ends with `trials` or its time budget."""

    @model_validator(mode="after")
    def _objectives_fit(self) -> SearchSettings:
        if self.objectives is None:
            return self
        check_objectives(self.objectives)
        first = name_of(self.objectives[0])
        if "objective" in self.model_fields_set and self.objective != first:
            raise ValueError(f"`objectives` begin with {first}, but `objective` is {self.objective}; leave it out")
        if self.audit:
            raise ValueError("an audit measures stops by one objective; leave out `audit` or `objectives`")
        if self.stop_when is not None:
            raise ValueError("one best value decides when a search is to stop; leave out `stop_when` or `objectives`")
        return self

    @property
    def costs(self) -> list[str]:
        """The figures of a trial that are minimized beside the metric, such as `num_parameters`; empty for one objective."""
        return costs_of(self.objectives)


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
