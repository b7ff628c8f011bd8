"""The sections of a space that are not part of a training config: `search`, `retrain` and `reference`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from winnow.spaces.epoch_figures import is_cost
from winnow.spaces.samplers import DEFAULT_SAMPLER, SAMPLERS, SamplerName
from winnow.spaces.schema.fields import Count, Metric, Strict
from winnow.spaces.schema.limits import Limits
from winnow.spaces.schema.objectives import Objectives, check_objectives, further_of, name_of

_SAMPLER_TEXT = "Algorithm that suggests the configs. " + " ".join(
    f"{k}: {spec.summary}" for k, spec in SAMPLERS.items()
)


def price_of(text: str) -> float:
    """Return the price that `stop_when` states, in units of the objective per hour of training; 0 for `no gain`.

    Raises:
        ValueError: The text is neither `no gain` nor a finite number of at least 0 followed by `per hour`.
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

    Each field is a search option and is defined only here: `winnow.search.settings`, the command line, the Python functions
    and the reference pages read its type, range, default and description. Mappings and lists of mappings have no command-line
    option; use `--set`, as in `--set search.limits.parameters=1e6`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    trials: Count = 50
    """Number of trials to run."""
    objective: Metric = "validation_accuracy"
    """Metric that ranks the trials, computed on the validation images. `validation_own_metric` is the value of the function that the key `own_metric` names; a space may also name the function here, as `package.module:function`."""
    objectives: Objectives | None = None
    """Several objectives instead of one: a metric, which ranks the trials as `objective` does, followed by further metrics and costs. The winners are the Pareto front."""
    sampler: Annotated[SamplerName, Field(description=_SAMPLER_TEXT)] = DEFAULT_SAMPLER
    grace_epochs: Count | None = None
    """First rung, in epochs: no trial is paused or stopped earlier. If not set, it is a sixteenth of the training. Samplers that pause trials then also use earlier rungs, if their ranking agrees with that of later ones."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """Ratio between the epochs of two rungs; about one trial in this many continues past each rung."""
    repeats: Count = 1
    """How many times the same config may run, each time with another seed."""
    checkpoint_quota: Annotated[float, Field(gt=0.0)] = 20.0
    """Disk space for the checkpoints of paused trials, in GB; beyond it, the worst paused trials are stopped."""
    audit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Fraction of the stopped trials that is trained to the end, to measure how often early stopping was wrong."""
    limits: Limits | None = None
    """Upper limits of size, latency and epoch time; see `search.limits`. A config that exceeds one is infeasible."""
    learn_from: list[str] | None = None
    """Earlier runs, or folders of runs, to learn from, on the same or other data. Their best configs are tried first; their influence depends on how well they predict the first results of this search."""
    keep_predictions: bool = False
    """Keep the validation predictions of every trial that trains to the end, so that other metrics can be computed afterwards."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Shortest time between two checkpoints of a trial or a retraining, in seconds. Checkpoints are also written at each rung and at the end of a trial. Epochs after the last checkpoint are trained again after an interruption, with the same figures. 0: a checkpoint after each epoch."""
    trial_timeout: Annotated[float, Field(gt=0.0)] | None = None
    """Seconds without a finished batch after which a trial ends as `timed_out`. If not set, 20 times the longest epoch so far, and at least 300. Values below 4 (40 with checkpoints on an object store) count as that."""
    stop_when: Annotated[str, AfterValidator(_checked)] | None = None
    """End the search early if the best value improved too little over the last 70 % of the training time. `no gain`: not at all. A price such as `0.01 per hour`: less than this, in units of the objective per hour of training, summed over all trials. If not set, the search ends after `trials` or its time budget."""

    @model_validator(mode="after")
    def _objectives_fit(self) -> SearchSettings:
        if self.objectives is None:
            return self
        check_objectives(self.objectives)
        first = name_of(self.objectives[0])
        if "objective" in self.model_fields_set and self.objective != first:
            raise ValueError(f"`objectives` starts with {first}, but `objective` is {self.objective}; leave it out")
        if self.audit:
            raise ValueError("`audit` needs a single objective; leave out `audit` or `objectives`")
        if self.stop_when is not None:
            raise ValueError("`stop_when` needs a single objective; leave out `stop_when` or `objectives`")
        return self

    @property
    def further(self) -> list[str]:
        """The figures of a trial that rank it besides the first objective; none for a single objective. See `further_of`."""
        return further_of(self.objectives)

    @property
    def ranked_by(self) -> list[str]:
        """All objectives, the first one first, by their columns in the table `trials`."""
        return [name_of(self.objectives[0]) if self.objectives else self.objective, *self.further]

    @property
    def costs(self) -> list[str]:
        """The objectives that are costs of a network, such as `num_parameters`, and not metrics."""
        return [name for name in self.further if is_cost(name)]


DEFAULT_TOP = 3
"""Number of configs that are retrained after a search with one objective."""


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space; its fields are options of `winnow run` and `winnow retrain`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    top: Count | None = None
    """Number of best configs to retrain. If not set, 3; with several objectives, all configs of the Pareto front."""
    seeds: Count = 3
    """Number of fresh seeds per config."""
    keep_validation: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Retrain on the training images only, so that early stopping, the plateau schedule and `weights` use the validation images as in the search. Otherwise retraining uses both, for as many epochs as the search chose."""

    @property
    def num_wanted(self) -> int:
        """Number of winners that the search must complete; `DEFAULT_TOP` also if the whole front is retrained."""
        return self.top or DEFAULT_TOP


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
    """Number of parameters of the network, computed by hand."""
    note: str = ""
    """Details that the publication does not specify."""
