"""Decides which config to try next: first the queued configs, then suggestions of the sampler.

Configs are skipped if they cannot be built, exceed a limit, or have already run `repeats` times.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from winnow.search.samplers.draft import Draft
from winnow.search.samplers.feasibility import Feasibility
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.memory import RememberingSampler
from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.search.samplers.scalarized import evenly_weighted, scalarized
from winnow.search.settings import Settings
from winnow.spaces.identity import identity
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.samplers.memory_model import Recollection

SAMPLER_DRAFTS = 20
"""After this many rejected suggestions, the sampler is unlikely to find an acceptable config, and configs are drawn at random."""
START_FROM = "start_from:"  # prefix of the source of a start point; its name follows
MAX_REPEATED = 200
"""After this many suggestions that have already run, the space is considered exhausted."""
MAX_REFUSED = 5000
"""After this many suggestions that exceed a limit or cannot be built, too few others are left to find one. If one config in a thousand
is possible, a search ends too early once in 150 suggestions. Drawing so many takes about four seconds."""

# Why a suggestion is rejected; otherwise it is the key of a limit.
_REPEATED = "repeated"
_NOT_BUILT = "not built"


@dataclass(frozen=True)
class Suggestion:
    """A config that becomes a trial.

    Attributes:
        draft: The draft with its parameters.
        config: The complete config.
        source: `sampler`, or the source of a queued config.
        num_drafts: Number of suggestions of the sampler until this one was accepted; 0 for a queued config.
    """

    draft: Draft
    config: dict[str, Any]
    source: str
    num_drafts: int


@dataclass(frozen=True)
class Shortage:
    """Why no further config was found.

    Attributes:
        repeated: Number of suggestions that had already run.
        not_built: Number of suggestions that cannot be built.
        beyond: Number of suggestions beyond a limit, by its key in `search.limits`.
        expected: Number of these that are only expected to be beyond it, because other trials were.
        every_config: Whether every config that is possible has run, as far as is known.
    """

    repeated: int
    not_built: int
    beyond: dict[str, int]
    expected: int
    every_config: bool


class Suggester:
    """Suggests configs and remembers which ones have run.

    Args:
        space: The space to search.
        settings: The settings of the search.
        image_shape: (channels, height, width) of the images.
        rungs: Epochs at which trials are compared, including the last epoch of a training.
        num_classes: Number of classes. Default: 1.
        recollection: The model of earlier runs, which then suggest some of the configs. Default: there are none.

    Attributes:
        queued: (source, raw config) of the configs that come before those of the sampler.
    """

    def __init__(
        self,
        space: Space,
        settings: Settings,
        image_shape: tuple[int, int, int],
        rungs: list[int],
        num_classes: int = 1,
        recollection: Recollection | None = None,
    ) -> None:
        self.queued: deque[tuple[str, dict[str, Any]]] = deque()
        self._space = space
        self._settings = settings
        self._image_shape = image_shape
        self._rungs = rungs
        self._recollection = recollection
        self._feasibility = Feasibility(settings.limits, image_shape, num_classes)
        self._num_runs: Counter[str] = Counter()  # of a config's identity
        self._known: set[str] = set()  # identities that the sampler must not suggest
        self._num_drafts = 0
        self._read: optuna.Study | None = None

    def note(self, config: dict[str, Any], num_drafts: int) -> None:
        """Count a config that has become a trial.

        Args:
            config: The complete config.
            num_drafts: Number of suggestions of the sampler that it took; 0 for a queued config.
        """
        self._num_runs[identity(config, self._image_shape)] += 1
        self._num_drafts += num_drafts

    def note_known(self, config: dict[str, Any]) -> None:
        """Remember a config that another run has tried. It is rejected if the sampler suggests it."""
        self._known.add(identity(config, self._image_shape))

    def readable(self, study: optuna.Study) -> optuna.Study:
        """Return the part of a study that the sampler reads.

        If there are several objectives, each value is a random weighting of them.
        """
        settings = self._settings
        self._read = study
        if settings.further and spec_of(settings.sampler).reads_results:
            study = scalarized(study, settings)
        return recent(study, settings.sampler)

    def sampler(self, number: int, name: str | None = None) -> BaseSampler:
        """Create the sampler for one trial.

        Args:
            number: Number of the trial.
            name: Name of a sampler to use instead of that of the settings. It ignores earlier runs.

        Raises:
            InputError: There is no sampler of this name.
        """
        settings = self._settings
        context = SamplerContext(
            seed=settings.seed,
            number=number,
            rungs=self._rungs,
            space=self._space,
            num_drafts=self._num_drafts,
            weigh_cost=settings.time_budget_seconds is not None,
        )
        sampler = make_sampler(name or settings.sampler, context)
        if self._recollection is None or name is not None:
            return sampler
        judged = self._evenly_weighted if settings.further else None
        return RememberingSampler(sampler, self._recollection, context.own_seed, judged)

    def _evenly_weighted(self, num: int) -> list[FrozenTrial]:
        """Return the newest `num` trials with an epoch, with the mean of fixed weightings of all objectives as values."""
        trials = [] if self._read is None else self._read.get_trials(deepcopy=False)
        return evenly_weighted([trial for trial in trials if trial.intermediate_values][-num:], self._settings)

    def next(self, study: optuna.Study, sampler: BaseSampler, number: int) -> Suggestion | Shortage:
        """Return the next config: a queued one that may run, or one that the sampler suggests.

        Args:
            study: The study that the sampler reads.
            sampler: The sampler that was created for this trial.
            number: Number of the trial.

        Returns:
            The suggestion, or why no config that may run was found.
        """
        while self.queued:
            source, raw = self.queued.popleft()
            draft = Draft(study, sampler, number, known=self._space.encode(raw))
            config = self._config_of(draft)
            if not isinstance(config, str) and self._may_run(config):
                return Suggestion(draft, config, source, 0)
        rejected: Counter[str] = Counter()
        expected, num_expected = self._feasibility.expected(study.get_trials(deepcopy=False)), 0
        for num_drafts, draft in enumerate(self._drafts(study, sampler, number), start=1):
            config = self._config_of(draft)
            if isinstance(config, str):
                rejected[config] += 1
            elif not self._may_run(config) or identity(config, self._image_shape) in self._known:
                rejected[_REPEATED] += 1
            elif (key := expected.exceeded(draft.params, config["model"]["name"])) is not None:
                rejected[key] += 1
                num_expected += 1
            else:
                return Suggestion(draft, config, "sampler", num_drafts)
            if not self._is_finite and (
                rejected[_REPEATED] == MAX_REPEATED or rejected.total() - rejected[_REPEATED] == MAX_REFUSED
            ):
                break
        every_config = self._is_finite or rejected[_REPEATED] == MAX_REPEATED
        beyond = {key: num for key, num in rejected.items() if key not in (_REPEATED, _NOT_BUILT)}
        return Shortage(rejected[_REPEATED], rejected[_NOT_BUILT], beyond, num_expected, every_config)

    @property
    def _is_finite(self) -> bool:
        return spec_of(self._settings.sampler).finite

    def _drafts(self, study: optuna.Study, sampler: BaseSampler, number: int) -> Iterator[Draft]:
        if self._is_finite:
            left = int(self._space.size()) * self._settings.repeats - self._num_drafts
            yield from (Draft(study, sampler, number) for _ in range(left))
            return
        for attempt in count():
            if attempt == SAMPLER_DRAFTS:
                sampler = self.sampler(number, "random")
            yield Draft(study, sampler, number)

    def _config_of(self, draft: Draft) -> dict[str, Any] | str:
        """Return the complete config of a draft, or why there is none: `_NOT_BUILT`, or the key of the limit that it is known to exceed."""
        raw = self._space.suggest(draft)
        if self._space.infeasible(raw, self._image_shape):
            return _NOT_BUILT
        config = self._space.config(raw)
        return self._feasibility.exceeded(config) or config.model_dump(mode="json")

    def _may_run(self, config: dict[str, Any]) -> bool:
        return self._num_runs[identity(config, self._image_shape)] < self._settings.repeats
