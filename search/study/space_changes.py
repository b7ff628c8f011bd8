"""Trials that the space of now did not suggest in this run: of earlier versions of a changed space, and of a run to start warm from.

Those that lie in the space of now are shown to the sampler in its words, whatever space they were drawn from; the others are
hidden from it, from ASHA's rungs and from the choice of the incumbent, since they would judge trials of a space that is not
theirs. Trials of another run inform the sampler alone: in the rungs they might stop every trial of this run before its end.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from winnow.search.settings import Direction
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.trials import STUDY_NAME
from winnow.spaces.encoding import localized
from winnow.spaces.errors import SpaceError
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial

OUTSIDE = "outside the space since it was changed"

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.search.settings import Settings

Params = tuple[dict[str, Any], dict[str, BaseDistribution]]


class History:
    """Of one run under the space that it has now."""

    def __init__(self, folder: RunFolder, space: Space) -> None:
        self.version = num_earlier_spaces(folder.read_study())
        """How often the space was changed; a trial's attribute `space` is this at the time it began."""
        self.warm_configs: list[dict[str, Any]] = []
        self._space = space
        self._folder = folder
        self._warm: list[FrozenTrial] = []
        self._params: dict[int, Params | None] = {}  # of own trials of an earlier space; None: outside
        for line in read_json_lines(folder.warm_start):
            self.warm_configs.append(line["config"])
            if (params := express(space, line["config"])) is not None:
                self._warm.append(_warm_trial(line, params))
        for index, trial in enumerate(self._warm):
            trial.number = index - len(self._warm)  # before all trials of the run
        self._shown: _ShownTrials | None = None

    def is_inside(self, trial: FrozenTrial) -> bool:
        """Whether a trial of the run lies in the space of now."""
        return trial.user_attrs.get("space", 0) == self.version or self._expressed(trial) is not None

    def for_sampler(self, study: optuna.Study) -> optuna.Study:
        """What the sampler is to look at: the study itself where there is nothing to hide or to add."""
        if not self.version and not self._warm:
            return study
        if self._shown is None:
            self._shown = _ShownTrials(self._folder, self)
        # A new one each time: a study remembers the trials it read until it is told something.
        return optuna.load_study(study_name=STUDY_NAME, storage=self._shown)

    def shown(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The warm trials, then those of the run that lie inside, with the parameters of the space of now."""
        found = list(self._warm)
        for trial in trials:
            if trial.user_attrs.get("space", 0) == self.version:
                found.append(trial)
            elif (params := self._expressed(trial)) is not None:
                again = copy.copy(trial)
                again.params, again.distributions = params
                found.append(again)
        return found

    def _expressed(self, trial: FrozenTrial) -> Params | None:
        if trial.number not in self._params:
            self._params[trial.number] = express(self._space, trial.user_attrs["config"])
        return self._params[trial.number]


def to_run_further(
    space: Space, outside: Sequence[FrozenTrial | Trial], direction: Direction
) -> list[tuple[str, dict[str, Any]]]:
    """(source, config) of trials that lie outside only because trainings have become longer, the best first.

    They ran to their end, or were under way. From the first epoch: a schedule such as cosine looks at the last one, so going
    on from a checkpoint would be another training.
    """
    sign = -1 if direction == "maximize" else 1
    longer = []
    for trial in outside:
        config = trial.user_attrs["config"]
        completed = trial.state == TrialState.COMPLETE
        under_way = not trial.state.is_finished() or trial.user_attrs.get("reason") == OUTSIDE
        if not (completed or under_way) or config["epochs"] >= space.max_epochs:
            continue
        config = localized({**config, "epochs": space.max_epochs}, space.tree)
        if express(space, config) is not None:
            place = (not completed, sign * (trial.value or 0.0) if completed else 0.0, trial.number)
            longer.append((place, f"further:{trial.number}", config))
    return [(source, config) for _, source, config in sorted(longer, key=lambda found: found[0])]


def num_earlier_spaces(study: Mapping[str, Any]) -> int:
    """How often the space of a run was changed, by its study.yaml."""
    return sum("space" in amendment["before"] for amendment in study.get("amendments") or [])


def express(space: Space, config: dict[str, Any]) -> Params | None:
    """The parameters with which `space` suggests `config`, and their distributions; None where it lies outside."""
    try:
        recorder = _Recorder(space.encode(localized(config, space.tree)))
        space.suggest(recorder)
    except SpaceError:
        return None
    return recorder.params, recorder.distributions


class _Recorder(KnownTrial):
    """Gives known values, and remembers what was asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._record(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._record(name, IntDistribution(low, high, log=log, step=step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._record(name, FloatDistribution(low, high, log=log, step=step))

    def _record(self, name: str, distribution: BaseDistribution) -> Any:
        self.params[name], self.distributions[name] = self.values[name], distribution
        return self.values[name]


class _ShownTrials(JournalStorage):
    """The journal of the run as `History` shows it; only read from."""

    def __init__(self, folder: RunFolder, history: History) -> None:
        super().__init__(JournalFileBackend(str(folder.journal)))
        self._history = history

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._history.shown(super().get_all_trials(study_id, deepcopy=False))
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen


def _warm_trial(line: dict[str, Any], params: Params) -> FrozenTrial:
    return create_trial(
        state=TrialState[line["state"]],
        value=line["value"],
        params=params[0],
        distributions=params[1],
        intermediate_values={int(epoch): value for epoch, value in line["values"].items()},
        user_attrs={"config": line["config"]},
    )


def completed_trials(
    folder: RunFolder, space: Space, settings: Settings
) -> list[tuple[int, dict[str, Any], float, int]]:
    """(number, config, objective, micro-batches), the best first."""
    from winnow.search.study.trials import open_study

    _, study, _ = open_study(folder, settings.direction)
    history = History(folder, space)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = [
        (t.number, t.user_attrs["config"], t.value, t.user_attrs.get("micro_batches", 1))
        for t in trials
        if t.value is not None and history.is_inside(t)
    ]
    sign = -1 if settings.direction == "maximize" else 1
    return sorted(found, key=lambda trial: (sign * trial[2], trial[0]))
