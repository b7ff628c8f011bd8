"""The audit of stops: a seeded share of the stopped trials is trained to the end, so that a report can say how often a stop was wrong.

An audited trial still counts as stopped: in the study, for the sampler and the rungs, in the counts and for the incumbent. The
search is therefore the same, trial by trial, as without the audit. The further epochs are lines of phase `audit` in
`epochs.jsonl`. Nothing else is stored: the seed and a trial's number decide whether it is audited, and the lines show its progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from optuna.trial import FrozenTrial

from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.search.storage.json_lines import read_epochs
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.failure_policy import Failures
from winnow.search.study.record import Record, ending
from winnow.search.study.trials import Assignment, Event, OpenTrial
from winnow.spaces.trial_status import TrialStatus


def is_audited(share: float, seed: int, number: int) -> bool:
    """Return whether a trial is trained to its end even if it is stopped. This does not depend on its results.

    Args:
        share: Share of trials that are audited, in [0, 1].
        seed: Seed of the search.
        number: Number of the trial.
    """
    return derive_seed(Stream.AUDIT, seed, number) < share * 2**31


class Audit:
    """The stopped trials that are still trained, and those that wait for a worker. Only the ledger uses it."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        record: Record,
        failures: Failures,
        listener: Callable[[Event], None],
        discard: Callable[[int], None],
    ) -> None:
        self.settings = settings
        self._folder = folder
        self._record = record
        self._failures = failures
        self._listener = listener
        self._discard = discard  # deletes the checkpoint of a trial
        self._open: dict[int, OpenTrial] = {}
        self._waiting: deque[int] = deque()

    def is_audited(self, number: int) -> bool:
        """Return whether a trial is audited if it is stopped."""
        return is_audited(self.settings.audit, self.settings.seed, number)

    @property
    def unfinished(self) -> bool:
        """Whether `ask` has a trial to return, or may have one after a worker is lost."""
        return bool(self._open)

    def is_open(self, number: int) -> bool:
        """Return whether a trial was stopped and is still to be trained."""
        return number in self._open

    def add(self, trial: OpenTrial) -> None:
        """Add a trial that was stopped. It waits for a worker, unless its current worker continues it (`continues_at_worker`)."""
        self._open[trial.assignment.number] = trial
        self._waiting.append(trial.assignment.number)

    def continues_at_worker(self, number: int) -> bool:
        """Return whether the worker that trained this trial up to its stop continues it. A trial that is not audited ends."""
        if number not in self._waiting:
            return False
        self._waiting.remove(number)
        self._notify("auditing", self._open[number])
        return True

    def ask(self) -> Assignment | None:
        """Return the next trial that waits for its audit; None if there is none.

        It was stopped while paused, its worker was lost, or an earlier start of the search left its audit unfinished.
        """
        if not self._waiting:
            return None
        trial = self._open[self._waiting.popleft()]
        self._notify("auditing", trial)
        return trial.continued

    def record(self, number: int, report: dict[str, Any]) -> bool:
        """Record an epoch after the stop. An epoch that is recorded already changes nothing.

        Args:
            number: Number of the trial; one without an open audit is ignored.
            report: The figures of an epoch, or `{"status": ..., "error": ...}`, which leaves the
                audit unfinished.

        Returns:
            Whether more epochs follow.
        """
        trial = self._open.get(number)
        if trial is None:
            return False
        if "status" in report:
            self.fail(number)
            return False
        if report["epoch"] <= trial.epoch:
            return True
        objectives = self._record.objectives_of(trial, report)
        value = self._record.value_of(objectives)
        line = self._record.write_epoch("audit", trial, report, objectives)
        trial.epoch, trial.objectives[report["epoch"]] = report["epoch"], objectives
        self._notify("epoch", trial, record=line, value=value)
        if not (line["diverged"] or line["last"]):
            return True
        del self._open[number]
        self._discard(number)
        self._notify("audited", trial, status=ending(line, objectives), value=value)
        return False

    def lose_worker(self, number: int, began: bool = True) -> None:
        """Handle the loss of a worker: the trial continues from its checkpoint, unless that happens too often.

        Args:
            number: Number of the trial; one without an open audit is ignored.
            began: Whether the trial began to train there. If not, this does not count as a loss. Default: True.
        """
        trial = self._open.get(number)
        if trial is None:
            return
        if not began or self._failures.lost(trial):
            self._waiting.append(number)
        else:
            self.fail(number)

    def fail(self, number: int) -> None:
        """Leave a failed audit unfinished; the next start of the search tries it again from its checkpoint."""
        trial = self._open.pop(number, None)
        if trial is not None:
            self._notify("audited", trial, status=TrialStatus.FAILED)

    def rebuild(self, trials: Iterable[FrozenTrial]) -> None:
        """Find the audits that an earlier start left unfinished."""
        if not self.settings.audit:
            return
        for frozen in trials:
            # The ledger has already added the trials whose end the study did not hold yet.
            was_stopped = frozen.state.is_finished() and frozen.user_attrs.get("status") == TrialStatus.STOPPED
            if was_stopped and self.is_audited(frozen.number) and frozen.number not in self._open:
                self.add(self._record.open_trial(frozen))
        for line in read_epochs(self._folder.epochs):
            trial = self._open.get(line["trial"])
            if trial is None or line["phase"] != "audit":
                continue
            trial.objectives[line["epoch"]] = self._record.objectives_of(trial, line)
            trial.epoch = max(trial.epoch, line["epoch"])
            if line.get("last") or line.get("diverged"):
                del self._open[line["trial"]]
                self._waiting.remove(line["trial"])
                self._discard(line["trial"])  # the driver may have died before it did that

    def _notify(self, kind: str, trial: OpenTrial, **more: Any) -> None:
        self._listener(Event(kind, trial.assignment.number, trial.assignment.config, **more))
