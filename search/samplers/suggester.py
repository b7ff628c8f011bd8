"""Decides which config to try next: first the queued configs, then suggestions of the sampler.

Configs are skipped if they cannot be built, exceed a limit, or have already run `repeats` times.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler

from winnow.search.samplers.draft import Draft
from winnow.search.samplers.feasibility import Feasibility
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.memory import RememberingSampler
from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.search.samplers.scalarized import scalarized
from winnow.search.settings import Settings
from winnow.spaces.identity import identity
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.samplers.memory_model import Recollection

SAMPLER_DRAFTS = 20
"""After this many rejected suggestions, the sampler is unlikely to find an acceptable config, and configs are drawn at random."""
START_FROM = "start_from:"  # prefix of the source of a start point; its name follows
MAX_DRAFTS = 200
"""After this many rejected suggestions, the space is considered exhausted."""


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
        return RememberingSampler(sampler, self._recollection, context.own_seed)

    def next(self, study: optuna.Study, sampler: BaseSampler, number: int) -> Suggestion | None:
        """Return the next config: a queued one that may run, or one that the sampler suggests.

        Args:
            study: The study that the sampler reads.
            sampler: The sampler that was created for this trial.
            number: Number of the trial.

        Returns:
            The suggestion; None if no config that may run was found.
        """
        while self.queued:
            source, raw = self.queued.popleft()
            draft = Draft(study, sampler, number, known=self._space.encode(raw))
            if (config := self._config_of(draft)) is not None and self._may_run(config):
                return Suggestion(draft, config, source, 0)
        for num_drafts, draft in enumerate(self._drafts(study, sampler, number), start=1):
            config = self._config_of(draft)
            if config is None or not self._may_run(config) or identity(config, self._image_shape) in self._known:
                continue
            if not self._feasibility.is_hopeless(draft, config["model"]["name"], study.get_trials(deepcopy=False)):
                return Suggestion(draft, config, "sampler", num_drafts)
        return None

    def _drafts(self, study: optuna.Study, sampler: BaseSampler, number: int) -> Iterator[Draft]:
        if spec_of(self._settings.sampler).finite:
            left = int(self._space.size()) * self._settings.repeats - self._num_drafts
            yield from (Draft(study, sampler, number) for _ in range(left))
            return
        for attempt in range(MAX_DRAFTS):
            if attempt == SAMPLER_DRAFTS:
                sampler = self.sampler(number, "random")
            yield Draft(study, sampler, number)

    def _config_of(self, draft: Draft) -> dict[str, Any] | None:
        """Return the complete config of a draft; None if it cannot be built or is known to exceed a limit."""
        raw = self._space.suggest(draft)
        if self._space.infeasible(raw, self._image_shape):
            return None
        config = self._space.config(raw)
        return None if self._feasibility.exceeded(config) else config.model_dump(mode="json")

    def _may_run(self, config: dict[str, Any]) -> bool:
        return self._num_runs[identity(config, self._image_shape)] < self._settings.repeats
