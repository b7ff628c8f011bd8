"""Handles trials that the current space did not suggest: those of earlier versions of a changed space, and those of a warm start.

Trials that lie in the current space are shown to the sampler with the parameters of that space, whatever space they were drawn
from. The others are hidden from the sampler, from the rungs and from the choice of the incumbent. Trials of a warm start inform only
the sampler: in the rungs they might stop every trial of this run before its end.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from winnow.search.samplers.study_view import view_of
from winnow.search.samplers.suggester import START_FROM
from winnow.search.settings import Settings
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.encoding import localized
from winnow.spaces.errors import SpaceError
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial

OUTSIDE = "outside the space since it was changed"
WARM_KEYS = {"config": (dict,), "state": (str,), "value": (int, float, NoneType), "values": (dict,)}
"""Types of the values that a line of `warm_start.jsonl` has."""
MEASURED = ("latency_ms", "epoch_seconds")
"""Figures of a trial that depend on its device."""

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial

Params = tuple[dict[str, Any], dict[str, BaseDistribution]]


class History:
    """The trials of one run, as seen from its current space."""

    def __init__(self, folder: RunFolder, space: Space, study: Mapping[str, Any]) -> None:
        self.version = num_earlier_spaces(study)
        """Number of changes of the space so far. The attribute `space` of a trial is this number at the time the trial began."""
        self.warm_configs: list[dict[str, Any]] = []
        self._space = space
        warm: list[tuple[dict[str, Any], Params]] = []
        self._params: dict[int, Params | None] = {}  # of this run's trials from an earlier space; None: outside
        for line in read_json_lines(folder.warm_start, WARM_KEYS):
            self.warm_configs.append(line["config"])
            if (params := express(space, line["config"])) is not None:
                warm.append((line, params))
        # Their numbers are negative: before all trials of the run.
        self._warm = [_warm_trial(index - len(warm), *line_and_params) for index, line_and_params in enumerate(warm)]
        self._warm_devices = [_device(line.get("device"), line.get("processor")) for line, _ in warm]
        start = (study.get("amendments") or [study])[-1]
        hardware = start.get("hardware") or study.get("hardware") or {}
        self._processor = hardware.get("processor")

    def is_inside(self, trial: FrozenTrial) -> bool:
        """Return whether a trial of the run lies in the current space."""
        return trial.user_attrs.get("space", 0) == self.version or self._expressed(trial) is not None

    def to_begin_with(self, trials: Sequence[FrozenTrial], settings: Settings) -> list[tuple[str, dict[str, Any]]]:
        """Return the configs that run first: start points, then those of `to_run_further`.

        Args:
            trials: All trials of the run; configs that one of them has already started are left out.
            settings: The settings of the search, which rank trials.

        Returns:
            (source, config) of each.
        """
        outside = [trial for trial in trials if not self.is_inside(trial)]
        named = [(START_FROM + name, raw) for name, raw in self._space.start_from_named()]
        tried = {trial.user_attrs["source"] for trial in trials}
        configs = [*named, *to_run_further(self._space, outside, tried, settings)]
        return [(source, config) for source, config in configs if source not in tried]

    def for_sampler(self, study: optuna.Study) -> optuna.Study:
        """Return the study that the sampler reads: the study itself if there is nothing to hide or to add."""
        if not self.version and not self._warm:
            return study
        return view_of(self.shown(study.get_trials(deepcopy=False)), study.direction)

    def shown(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials of the warm start as far as they hold here, followed by the trials of the run that lie in the current space.

        All of them have the parameters of the current space.
        """
        visible = self._warm_on({trial.user_attrs.get("device") for trial in trials}) if self._warm else []
        for trial in trials:
            if trial.user_attrs.get("space", 0) == self.version:
                visible.append(trial)
            elif (params := self._expressed(trial)) is not None:
                again = copy.copy(trial)
                again.params, again.distributions = params
                visible.append(again)
        return visible

    def _warm_on(self, names: Collection[str | None]) -> list[FrozenTrial]:
        """Return the trials of the warm start, as far as they hold on the devices of this run.

        A latency and an epoch time count only if they were measured on such a device; they are left out otherwise. If they count and
        exceed a limit, the trial is left out.

        Args:
            names: Names of the devices on which this run has trained; None for trials that have not trained.
        """
        here = {_device(name, self._processor) for name in names} - {None}
        limits = self._space.settings.limits
        shown = []
        for trial, device in zip(self._warm, self._warm_devices, strict=True):
            if device not in here:
                trial = copy.copy(trial)
                trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in MEASURED}
            if limits is None or limits.exceeded(trial.user_attrs) is None:
                shown.append(trial)
        return shown

    def _expressed(self, trial: FrozenTrial) -> Params | None:
        if trial.number not in self._params:
            self._params[trial.number] = express(self._space, trial.user_attrs["config"])
        return self._params[trial.number]


def _device(name: str | None, processor: str | None) -> str | None:
    """Return what tells devices apart: the name of a GPU, or the processor for other devices; None if it is not known."""
    return processor if name in ("cpu", "mps") else name


def to_run_further(
    space: Space, outside: Sequence[FrozenTrial | Trial], tried: Collection[str], settings: Settings
) -> list[tuple[str, dict[str, Any]]]:
    """Return the configs of trials that lie outside the space only because trainings have become longer.

    These trials were completed or still under way. They are trained again from the first epoch: a
    schedule such as cosine depends on the number of epochs, so a checkpoint would continue a
    different training.

    Args:
        space: The current space.
        outside: Trials that lie outside it.
        tried: The sources of all trials of the run; a config that has been trained further already is left out.
        settings: The settings of the search, which rank trials.

    Returns:
        (source, config) of each: the completed trials from best to worst (with several objectives by dominance, in the order of winners),
        then the others.
    """
    done: list[tuple[FrozenTrial | Trial, dict[str, Any]]] = []
    not_done: list[tuple[FrozenTrial | Trial, dict[str, Any]]] = []
    for trial in outside:
        config = trial.user_attrs["config"]
        completed = trial.state == TrialState.COMPLETE
        under_way = not trial.state.is_finished() or trial.user_attrs.get("reason") == OUTSIDE
        if not (completed or under_way) or config["epochs"] >= space.max_epochs:
            continue
        if f"further:{trial.number}" in tried:
            continue
        config = localized({**config, "epochs": space.max_epochs}, space.tree)
        if express(space, config) is not None:
            (done if completed else not_done).append((trial, config))
    sign = -1 if settings.direction == "maximize" else 1
    done.sort(key=lambda entry: (sign * (entry[0].value or 0.0), entry[0].number))
    if settings.further:
        done = [done[index] for index in settings.ranking([_objectives(trial, settings) for trial, _ in done])]
    not_done.sort(key=lambda entry: entry[0].number)
    return [(f"further:{trial.number}", config) for trial, config in (*done, *not_done)]


def _objectives(trial: FrozenTrial | Trial, settings: Settings) -> list[float | None]:
    """Return the objectives of a completed trial, in the order of `Settings.ranked_by`; None for those that are not known."""
    attributes = settings.attributes(max(trial.intermediate_values, default=0))
    return [trial.value, *map(trial.user_attrs.get, attributes)]


def num_earlier_spaces(study: Mapping[str, Any]) -> int:
    """Return how often the space of a run was changed, according to its study.yaml."""
    return sum("space" in amendment["before"] for amendment in study.get("amendments") or [])


def express(space: Space, config: dict[str, Any]) -> Params | None:
    """Return the parameters with which a space suggests a config, and their distributions.

    Args:
        space: The space.
        config: A complete config.

    Returns:
        (values, distributions) by study name; None if the config lies outside the space.
    """
    try:
        recorder = Recorder(space.encode(localized(config, space.tree)))
        space.suggest(recorder)
    except SpaceError:
        return None
    return recorder.params, recorder.distributions


class Recorder(KnownTrial):
    """A stand-in for a trial that returns known values and records the distributions asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the known value, and record the options.

        Args:
            name: Name of the parameter in the study.
            choices: The options.

        Raises:
            KeyError: No value of this name is known.
        """
        return self._record(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the known value, and record the range.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values, at least 1.
            log: Whether values are uniform on a logarithmic scale.

        Raises:
            KeyError: No value of this name is known.
        """
        return self._record(name, IntDistribution(low, high, log=log, step=step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the known value, and record the range.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values. Default: any number of the range.
            log: Whether values are uniform on a logarithmic scale.

        Raises:
            KeyError: No value of this name is known.
        """
        return self._record(name, FloatDistribution(low, high, log=log, step=step))

    def _record(self, name: str, distribution: BaseDistribution) -> Any:
        self.params[name], self.distributions[name] = self.values[name], distribution
        return self.values[name]


def _warm_trial(number: int, line: dict[str, Any], params: Params) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState[line["state"]],
        value=line["value"],
        datetime_start=datetime.now(),
        datetime_complete=datetime.now(),
        params=params[0],
        distributions=params[1],
        user_attrs={"config": line["config"], **line.get("figures", {})},
        system_attrs={},
        intermediate_values={int(epoch): value for epoch, value in line["values"].items()},
        trial_id=number,
    )
