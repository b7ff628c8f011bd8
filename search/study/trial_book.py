"""Creates, records and ends the trials of a search, whatever part of the code decides about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from winnow.search.samplers.suggester import Suggestion
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.search.storage import clock
from winnow.search.storage import remote as storage
from winnow.search.storage.clock import now
from winnow.search.storage.run_folder import RunFolder, checkpoint_name
from winnow.search.study.failure_policy import DIED, MICRO_BATCHES, Failures
from winnow.search.study.record import Record
from winnow.search.study.stop_audit import Audit
from winnow.search.study.tally import Tally
from winnow.search.study.trials import Assignment, Event, OpenTrial
from winnow.spaces.epoch_figures import curve_of
from winnow.spaces.errors import printable
from winnow.spaces.shapes import ImageShape
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

GROUP_SECONDS = 0.05
"""Events within this many seconds are written to the disk together, if `grouped`."""


class TrialBook:
    """The trials of a run, open and ended.

    Attributes:
        grouped: Whether the record of an event may wait to be written together with later ones. The
            code that sets this must also call `settle` when no more events arrive.
        folder: The run.
        space: The space that is searched.
        settings: The settings of the search.
        winding_down: Whether no new trials start, and running ones end their epoch and stay open.
    """

    def __init__(
        self,
        folder: RunFolder,
        space: Space,
        settings: Settings,
        image_shape: ImageShape,
        listener: Callable[[Event], None],
    ) -> None:
        self.folder = folder
        self.space = space
        self.settings = settings
        self.winding_down = False
        self.grouped = False
        self._listener = listener
        self._after_commit: list[Callable[[], object]] = []
        self._committed_at = 0.0
        self._record = Record(folder, settings)
        self._failures = Failures()
        self._tally = Tally(space, settings, image_shape)
        self._audit = Audit(folder, settings, self._record, self._failures, self._tell, self._discard)
        self._open: dict[int, OpenTrial] = {}
        self._num_trials = 0
        self._readopted: deque[Assignment] = deque()  # trials that run again from their checkpoint

    def wind_down(self) -> None:
        """Start no more trials. Running ones end their epoch and stay open for `winnow resume`."""
        self.winding_down = True

    def settle(self) -> None:
        """Commit what was recorded, unless more is likely to follow within `GROUP_SECONDS`."""
        if not self.grouped or clock.steady() - self._committed_at >= GROUP_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write what was recorded to the disk, then delete checkpoints that are not needed and notify the listener.

        Raises:
            OSError: Something cannot be written.
        """
        # Cleared before the write: if it fails, no later commit may run these actions.
        actions, self._after_commit = self._after_commit, []
        self._record.commit()
        self._committed_at = clock.steady()
        for action in actions:
            action()

    def close(self) -> None:
        try:
            self.commit()
            # Otherwise a power failure could bring deleted checkpoints back, and perhaps no later start would delete them again.
            storage.sync(storage.join(self.folder.shared, "checkpoints"))
        finally:
            self._record.close()

    # --- figures ----------------------------------------------------------------------------------------------------------

    @property
    def bug(self) -> str | None:
        """The error that too many trials ended with."""
        return self._failures.bug

    @property
    def num_asked(self) -> int:
        return self._num_trials

    @property
    def num_ended(self) -> int:
        return self.num_asked - len(self._open)

    @property
    def counts(self) -> dict[str, int]:
        """Ended trials by status."""
        return self._tally.counts

    @property
    def completed(self) -> list[int]:
        """Numbers of the completed trials."""
        return self._tally.completed

    @property
    def best(self) -> tuple[int, float] | None:
        """(number, objective) of the incumbent."""
        return self._tally.best

    @property
    def best_config(self) -> dict[str, Any]:
        """The complete config of the incumbent; empty if there is none yet."""
        return self._tally.best_config

    @property
    def best_trials(self) -> list[int]:
        """The numbers of the completed trials with this config: one, unless the search repeats configs."""
        return self._tally.best_trials

    @property
    def started_trials(self) -> list[int]:
        """Open trials with at least one epoch."""
        return [number for number, trial in self._open.items() if trial.epoch]

    @property
    def curves(self) -> dict[int, list[float]]:
        """The recorded objectives of each trial after epochs 1, 2, ..., by its number."""
        return {trial.number: curve_of(trial.intermediate_values) for trial in self._record.trials()}

    # --- the life of a trial ----------------------------------------------------------------------------------------------

    def _create(self, suggestion: Suggestion, space_version: int) -> Assignment:
        number, config, source = self._num_trials, suggestion.config, suggestion.source
        seed = derive_seed(Stream.TRIAL, self.settings.seed, number)
        attrs = {"config": config, "source": source, "seed": seed, "started": now(), "drafts": suggestion.num_drafts}
        if space_version:
            attrs["space"] = space_version
        if self._audit.is_audited(number):
            attrs["audited"] = True  # for the reports: these trials are a random sample of all
        self._record.create(number, suggestion.draft.to_trial(attrs))
        self._num_trials += 1
        assignment = Assignment(number, seed, config, source=source)
        self._open[number] = OpenTrial(assignment)
        return assignment

    def _start(self, assignment: Assignment) -> Assignment:
        self._notify("started", self._open[assignment.number])
        return assignment

    def _end(
        self,
        trial: OpenTrial,
        status: TrialStatus,
        *,
        error: str | None = None,
        reason: str | None = None,
        may_be_bug: bool = True,
    ) -> None:
        """End a trial.

        Args:
            trial: An open trial.
            status: How it ends.
            error: The error that it failed with, if any.
            reason: The reason why it ends without having been judged, if it does.
            may_be_bug: Whether the search ends if several trials end with this error. Default: True.
        """
        number = trial.assignment.number
        value = self._record.value_of(trial.objectives[trial.epoch]) if status == TrialStatus.COMPLETED else None
        self._record.end(number, status, value, error=error, reason=reason)
        del self._open[number]
        self._tally.add(number, status, value, trial.assignment.config)
        if status in (TrialStatus.FAILED, TrialStatus.LOST) and error and may_be_bug:
            self._failures.ended(error)
            if self.bug is not None:
                self.wind_down()
        if status == TrialStatus.STOPPED and reason is None and self._audit.is_audited(number):
            self._audit.add(trial)
        else:
            self._discard(number)
        record = {key: text for key, text in (("error", error), ("reason", reason)) if text}
        self._notify("ended", trial, status=status, value=value, record=record)

    def lost(self, number: int, cause: str = "", began: bool = True) -> bool:
        """Record that a trial lost its worker or node. A trial that makes progress survives any number of losses.

        Args:
            number: Number of the trial.
            cause: The worker's traceback, if it left one.
            began: Whether the trial began to train there. If not, this does not count as a loss, since the trial cannot have caused
                it. Default: True.

        Returns:
            Whether the trial continues from its checkpoint.
        """
        continues = self._lose(number, cause, began)
        self.settle()
        return continues

    def _lose(self, number: int, cause: str, began: bool) -> bool:
        trial = self._open.get(number)
        if trial is None:
            self._audit.lose_worker(number, began)
            return False
        if not began:
            self._readopted.append(trial.continued)
            return True
        trial.losses += 1
        self._record.write_attrs(number, worker_losses=trial.losses)
        if self._failures.lost(trial):
            self._readopted.append(trial.continued)
            return True
        self._end(trial, TrialStatus.LOST, error=printable(f"{DIED}:\n{cause}") if cause else DIED)
        return False

    def _repeat_in_micro_batches(self, trial: OpenTrial) -> None:
        """Repeat a trial that ran out of memory, with each batch split into several pieces."""
        trial.assignment = replace(trial.assignment, micro_batches=MICRO_BATCHES)
        self._record.write_attrs(trial.assignment.number, micro_batches=MICRO_BATCHES)
        self._readopted.append(trial.continued)

    def _notify(self, kind: str, trial: OpenTrial, **more: Any) -> None:
        self._tell(Event(kind, trial.assignment.number, trial.assignment.config, **more))

    def _tell(self, event: Event) -> None:
        self._after_commit.append(partial(self._listener, event))

    def _discard_left(self) -> None:
        """Delete the checkpoints of ended trials that an earlier start has left: it was killed, or its storage failed."""
        left = set(storage.names(storage.join(self.folder.shared, "checkpoints")))
        for number in range(self._num_trials):
            is_needed = number in self._open or self._audit.is_open(number)
            if checkpoint_name(number) in left and not is_needed:
                self._discard(number)

    def _discard(self, number: int) -> None:
        """Delete the checkpoint of a trial, once its end is on the disk."""
        self._after_commit.append(partial(storage.delete, self.folder.checkpoint(number)))
