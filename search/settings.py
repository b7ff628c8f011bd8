"""The settings of a search. The options come from `winnow.spaces.schema.search`; `study.yaml` records the result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from winnow.spaces.epoch_figures import is_cost, is_maximized
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.problems import nearest
from winnow.spaces.grid import check_grid
from winnow.spaces.samplers import spec_of
from winnow.spaces.schema import RetrainSettings, SearchSettings
from winnow.spaces.schema.fields import Count
from winnow.spaces.schema.search import DEFAULT_TOP
from winnow.spaces.space import Space
from winnow.spaces.validation import check_objective

Direction = Literal["maximize", "minimize"]
UNBOUNDED_TRIALS = 10**6
"""Number of trials that stands for "as many as the time allows": no search reaches it."""


def parse_duration(text: str | float | None) -> float | None:
    """Return the seconds of a duration such as `90`, `90s`, `5m`, `2h` or `1h30m`; None stays None.

    Raises:
        InputError: `text` is not a duration, or not above 0.
    """
    if text is None:
        return None
    units = {"h": 3600, "m": 60, "s": 1, "": 1}
    if long_unit := re.fullmatch(
        r"\s*(\d+(?:\.\d+)?)\s*(s|sec|second|m|min|minute|h|hr|hour)s?\s*", str(text), re.IGNORECASE
    ):
        meant = f"{long_unit[1]}{long_unit[2][0].lower()}"
        if meant != str(text).strip():
            raise InputError(f"time budget: write {meant} instead of {text!r}")
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text).strip():
        raise InputError(f"time budget: give seconds or a duration such as 90s, 5m, 2h, 1h30m, but got {text!r}")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds <= 0:
        raise InputError(f"time budget: must be above 0, but got {text!r}")
    return seconds


def attribute(figure: str, epoch: int) -> str:
    """Return the name of the trial attribute that holds an objective after an epoch.

    Args:
        figure: Name of an objective besides the first one, whose values are those of the study.
        epoch: The epoch, from 1.

    Returns:
        `validation_macro_f1@3` for a metric after epoch 3, of the weights kept so far; the name itself for a cost.
    """
    return figure if is_cost(figure) else f"{figure}@{epoch}"


class SearchOptions(SearchSettings):
    """The options of `winnow search`: those that a space may state, and those of a single run."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of splits, suggestions, initial weights and data order."""
    time_budget: Annotated[float | str | None, AfterValidator(parse_duration)] = None
    """Time limit, in seconds or as 90s, 5m, 2h; interrupted trials can be resumed. The last part of the time, at most half, completes as many trials as there should be winners. If not set, there is no limit."""


class RunOptions(RetrainSettings, SearchOptions):
    """The options of `winnow run`: those of the search and those of retraining."""


class Settings(SearchSettings):
    """The settings of one search, which are frozen and checked.

    The fields of `SearchSettings` have the values of the space unless an option of the command replaces them.
    """

    trials: Count | None = 50  # type: ignore[assignment]  # extending a search by time alone asks for as many as fit
    """Number of trials to run (infeasible and duplicate suggestions do not count); None: as many as the time allows."""
    max_epochs: Count
    """Number of epochs of a full training."""
    grace_epochs: Count = 1
    pauses_early: bool = True
    """Whether a sampler that pauses trials also uses rungs below `grace_epochs`; false if the space or the user set `grace_epochs`."""
    seed: int = 0
    time_budget_seconds: float | None = None
    """Time limit of one start of the search, in seconds; None: no limit."""
    retrain: RetrainSettings = RetrainSettings()

    @property
    def num_trials(self) -> int:
        """`trials`, or a number that no search reaches."""
        return self.trials or UNBOUNDED_TRIALS

    @property
    def rungs(self) -> list[int]:
        """The epochs at which trials are judged."""
        has_early = self.pauses_early and spec_of(self.sampler).pauses
        early = early_rungs(self.grace_epochs, self.reduction_factor) if has_early else []
        return [*early, *rung_epochs(self.grace_epochs, self.reduction_factor, self.max_epochs)]

    @property
    def direction(self) -> Direction:
        """Whether a larger or a smaller value of the first objective is better."""
        return "maximize" if is_maximized(self.objective) else "minimize"

    @property
    def needs_latency(self) -> bool:
        """Whether the latency of each network is measured."""
        return "latency_ms" in self.measured

    @property
    def needs_epoch_seconds(self) -> bool:
        """Whether the time of an epoch decides about trials."""
        return "epoch_seconds" in self.measured

    @property
    def measured(self) -> set[str]:
        """The names of the figures of a trial that are limited or minimized."""
        return {*self.costs, *(self.limits.by_figure if self.limits else ())}

    @property
    def further_metrics(self) -> list[str]:
        """The objectives besides the first one that are metrics. Unlike a cost, a metric has another value after each epoch."""
        return [name for name in self.further if not is_cost(name)]

    @property
    def metrics(self) -> list[str]:
        """The objectives that are metrics, the first one first."""
        return [self.objective, *self.further_metrics]

    @property
    def named_metrics(self) -> list[tuple[str, str]]:
        """The objectives that are metrics, each as (key of the space that names it, metric)."""
        key = "search.objective" if self.objectives is None else "search.objectives"
        return [(key, metric) for metric in self.metrics]

    def attributes(self, epoch: int) -> list[str]:
        """Return the attributes of a trial in the study that hold its values of `further` after an epoch.

        Args:
            epoch: The epoch, from 1.
        """
        return [attribute(name, epoch) for name in self.further]

    def ranking(self, values: Sequence[Sequence[float | None]]) -> list[int]:
        """Order trials by all objectives.

        Args:
            values: The objectives of each trial, in the order of `ranked_by`; None if one is not known yet.

        Returns:
            Indices of the trials, the best first; see `winnow.spaces.fronts.ranked`.
        """
        from winnow.spaces.fronts import gains, ranked

        return ranked(gains(values, self.ranked_by))

    def changed(self, **values: Any) -> Settings:
        """The same settings with other values for some fields."""
        return self.model_copy(update=values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as `study.yaml` records them, with the direction and the rungs that follow from them."""
        return {**self.model_dump(), "direction": self.direction, "rungs": self.rungs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The settings that `to_dict` wrote, also those of an older version.

        Raises:
            InputError: The settings are damaged, or use a feature that this version does not have.
        """
        if values.get("strata", 1) > 1:
            raise InputError(
                "this run was searched with --strata, which this version no longer has: it cannot be continued"
            )
        derived = ("direction", "rungs", "strata")
        try:
            return cls(**{key: value for key, value in values.items() if key not in derived})
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise InputError(f"study.yaml: settings.{where}: {problem['msg']}, but got {problem['input']!r}") from error


def settings_for(space: Space, **options: Any) -> Settings:
    """The settings of a search: the space's `search:` and `retrain:` sections, replaced by the options.

    Args:
        space: The space to search.
        **options: Fields of `RunOptions`; an option that is None counts as not given.

    Returns:
        Complete settings; the grace epochs are resolved and never above the epochs of a full training. `retrain.top` is None only
        with several objectives, where it means the whole Pareto front. A space with nothing open is searched by the `random`
        sampler if the sampler pauses trials, since forecasts need parameters.

    Raises:
        InputError: An option is unknown or out of range, or does not fit the space.
    """
    values = check_options(options)
    if (grace := values.get("grace_epochs", 0)) > space.max_epochs:
        raise InputError(
            f"--grace-epochs: must be at most {space.max_epochs}, the epochs of a full training, but got {grace}"
        )
    searched = space.settings.model_dump() | {key: values[key] for key in SearchSettings.model_fields if key in values}
    retrain = space.retrain.model_dump() | {key: values[key] for key in RetrainSettings.model_fields if key in values}
    if searched["objectives"] is not None:
        first = space.settings.ranked_by[0]
        if values.get("objective", first) != first:
            raise InputError(f"--objective {values['objective']}: the objectives of the space start with {first}")
        searched["objective"] = first
        if searched["audit"]:
            raise InputError("--audit: needs a single objective, but the space has search.objectives")
        if searched["stop_when"]:
            raise InputError("--stop-when: needs a single objective, but the space has search.objectives")
    if spec_of(searched["sampler"]).pauses and not space.parameters():
        searched["sampler"] = "random"  # repeats of a single config: nothing to forecast by
    if spec_of(searched["sampler"]).finite:
        check_grid(space)
        if searched["learn_from"]:
            raise InputError(
                f"--learn-from: has no effect with the sampler {searched['sampler']}, which tries every config; leave it out"
            )
    for objective in (searched["objective"], *space.settings.further):
        check_objective(space, objective)
    if searched["objectives"] is None and retrain["top"] is None:
        retrain["top"] = DEFAULT_TOP
    grace = searched.pop("grace_epochs")
    pauses_early = grace is None  # a user who sets the first rung does not want trials to be judged before it
    grace = grace or default_grace_epochs(space.max_epochs)
    return Settings(
        **searched,
        pauses_early=pauses_early,
        max_epochs=space.max_epochs,
        grace_epochs=min(grace, space.max_epochs),
        seed=values.get("seed", 0),
        time_budget_seconds=values.get("time_budget"),
        retrain=RetrainSettings(**retrain),
    )


def check_options(options: dict[str, Any], known: type[BaseModel] = RunOptions) -> dict[str, Any]:
    """Check options, and return those that are given (not None), with durations in seconds.

    Args:
        options: Values by name; None: the option was not given.
        known: The schema of the options.

    Raises:
        InputError: An option is not a field of `known`, or the schema refuses its value.
    """
    names = _option_names(known)
    for key in options:
        if key not in names and key in known.model_fields:
            raise InputError(f"{key} is a key of the space, not an option; set it with --set search.{key}=...")
        if key not in names:
            raise InputError(f"unknown option {key!r}{nearest(key, names)}; allowed: {', '.join(names)}")
    chosen = {key: value for key, value in options.items() if value is not None}
    try:
        return known(**chosen).model_dump(include=set(chosen))
    except ValidationError as error:
        problem = error.errors()[0]
        if isinstance(refusal := problem.get("ctx", {}).get("error"), InputError):
            raise refusal from error
        raise InputError(
            f"{problem['loc'][0]}={problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
        ) from error


@cache
def _option_names(known: type[BaseModel]) -> list[str]:
    return [spec.name for spec in option_specs(known)]


@dataclass(frozen=True)
class OptionSpec:
    """One option as the command line, the Python signatures and the reference pages show it."""

    name: str
    types: tuple[str, ...]
    """JSON types that a value may have: `integer`, `number`, `string`, `boolean`."""
    choices: tuple[str, ...]
    """Allowed values; empty: any in the range."""
    minimum: float | None
    maximum: float | None
    above: float | None
    """Exclusive lower bound."""
    default: Any
    in_space: bool
    """Whether a space can state it, so that the default here counts only for spaces that do not."""
    text: str
    repeated: bool = False
    """Whether it may be given several times; its value is a list."""


def option_specs(model: type[BaseModel] = RunOptions) -> list[OptionSpec]:
    """The fields of an options model, read from its JSON schema; mappings and lists are left out, since `--set` sets them."""
    specs = []
    for name, field in model.model_json_schema()["properties"].items():
        variants = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
        repeated = any(each.get("type") == "array" for each in variants)
        variants = [each.get("items", each) for each in variants]
        if any("type" not in each for each in variants):
            continue
        limits = {key: value for variant in variants for key, value in variant.items()}
        specs.append(
            OptionSpec(
                name=name,
                types=tuple(variant["type"] for variant in variants),
                choices=tuple(limits.get("enum", ())),
                minimum=limits.get("minimum"),
                maximum=limits.get("maximum"),
                above=limits.get("exclusiveMinimum"),
                default=field["default"],
                in_space=name in SearchSettings.model_fields or name in RetrainSettings.model_fields,
                text=" ".join(field["description"].split()),
                repeated=repeated,
            )
        )
    return specs


def rung_epochs(grace_epochs: int, reduction_factor: float, max_epochs: int) -> list[int]:
    """The epochs at which trials are compared, ascending, all below `max_epochs`.

    Args:
        grace_epochs: First epoch at which trials are compared, from 1.
        reduction_factor: Ratio of one rung to the one before, above 1.
        max_epochs: Epochs of a complete training.
    """
    rungs: list[int] = []
    level = float(grace_epochs)
    while round(level) < max_epochs:
        if not rungs or round(level) > rungs[-1]:
            rungs.append(round(level))
        level *= reduction_factor
    return rungs


def early_rungs(grace_epochs: int, reduction_factor: float) -> list[int]:
    """The epochs below `grace_epochs` that continue its rungs downwards.

    Args:
        grace_epochs: First epoch at which trials are compared, from 1.
        reduction_factor: Ratio of one rung to the one before, above 1.
    """
    early: set[int] = set()
    level = grace_epochs / reduction_factor
    while round(level) >= 1:
        early.add(round(level))
        level /= reduction_factor
    return sorted(early - {grace_epochs})


def default_grace_epochs(max_epochs: int) -> int:
    """A sixteenth of the training. At Ray's default of 1 epoch, TPE with ASHA was worse than random search."""
    return max(1, max_epochs // 16)
