"""The audit: a seeded share of the trials that were stopped is let finish, so that a report can say how often a stop was wrong.

For the study, the sampler, the rungs, the counts and the incumbent an audited trial stays what it is: stopped. The search
is therefore the same, trial by trial, as without the audit. Its further epochs are lines of phase `audit` in
`epochs.jsonl`, and nothing else is kept: which trials are audited follows from seed and number, how far they are from the lines.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.search.storage import remote as storage
from winnow.search.storage.json_lines import epoch_line, read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.trials import Assignment, Event, OpenTrial

LOSSES_ALLOWED = 3


def is_audited(share: float, seed: int, number: int) -> bool:
    """Whether trial `number` is finished even if it is stopped. Independent of everything that the trial gives."""
    return derive_seed(Stream.AUDIT, seed, number) < share * 2**31


class Audit:
    """The stopped trials that still train, and those that wait for a worker. Used by the ledger only."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        write: Callable[[dict[str, Any]], None],
        listener: Callable[[Event], None],
    ) -> None:
        self.settings = settings
        self._folder = folder
        self._write = write
        self._listener = listener
        self._open: dict[int, OpenTrial] = {}
        self._waiting: deque[int] = deque()

    def chooses(self, number: int) -> bool:
        return is_audited(self.settings.audit, self.settings.seed, number)

    @property
    def unfinished(self) -> bool:
        """`ask` has something to give, or may have when a worker is lost."""
        return bool(self._open)

    def add(self, trial: OpenTrial) -> None:
        """A trial that was stopped; it waits for a worker, if its own does not `go_on` with it."""
        self._open[trial.assignment.number] = trial
        self._waiting.append(trial.assignment.number)

    def go_on(self, number: int) -> bool:
        """The worker that trained this trial up to its stop may go on with it; False if it is not to be audited."""
        if number not in self._waiting:
            return False
        self._waiting.remove(number)
        self._notify("auditing", self._open[number])
        return True

    def ask(self) -> Assignment | None:
        """An audit that an earlier start left unfinished, or of a trial that was stopped while paused."""
        if not self._waiting:
            return None
        trial = self._open[self._waiting.popleft()]
        self._notify("auditing", trial)
        return replace(trial.assignment, recorded=trial.epoch)

    def record(self, number: int, report: dict[str, Any]) -> bool:
        """Write an epoch after the stop down; True if more are to come. An epoch that is known already changes nothing."""
        trial = self._open.get(number)
        if trial is None:
            return False
        if "status" in report:
            self.lose(number)
            return False
        epoch = report["epoch"]
        if epoch <= trial.epoch:
            return True
        given = report.get(self.settings.objective)
        value = math.nan if given is None or report["diverged"] else float(given)
        diverged = not math.isfinite(value)
        line = epoch_line("audit", trial.assignment.seed, {**report, "diverged": diverged}, trial=number)
        self._write(line)
        trial.epoch = epoch
        self._notify("epoch", trial, record=line, value=value)
        if not (diverged or report["last"]):
            return True
        del self._open[number]
        storage.delete(self._folder.checkpoint(number))
        self._notify("audited", trial, status="diverged" if diverged else "completed", value=value)
        return False

    def lose_worker(self, number: int) -> None:
        """Its worker or node is gone: it goes on from its checkpoint, unless that happens again and again."""
        trial = self._open.get(number)
        if trial is None:
            return
        trial.losses += 1
        if trial.losses > LOSSES_ALLOWED:
            self.lose(number)
        else:
            self._waiting.append(number)

    def lose(self, number: int) -> None:
        """An audit that failed stays unfinished; the next start of the search tries it again from its checkpoint."""
        trial = self._open.pop(number, None)
        if trial is not None:
            self._notify("audited", trial, status="failed")

    def rebuild(self, trials: Iterable[FrozenTrial], seed_of: Callable[[int], int]) -> None:
        """Find the audits that an earlier start left unfinished."""
        if not self.settings.audit:
            return
        last: dict[int, dict[str, Any]] = {}
        for line in read_json_lines(self._folder.epochs):
            if line.get("phase") == "audit":
                last[line["trial"]] = line
        for frozen in trials:
            number, attrs = frozen.number, frozen.user_attrs
            if frozen.state != TrialState.PRUNED or attrs.get("status") != "stopped" or not self.chooses(number):
                continue
            line = last.get(number, {})
            if line.get("last") or line.get("diverged"):
                storage.delete(self._folder.checkpoint(number))  # the driver may have died before it did that
                continue
            if number in self._open:
                continue
            epoch = max(line.get("epoch", 0), *frozen.intermediate_values, 0)
            pieces = attrs.get("micro_batches", 1)
            assignment = Assignment(number, seed_of(number), attrs["config"], epoch, attrs["source"], pieces)
            self.add(OpenTrial(assignment, epoch))

    def _notify(self, kind: str, trial: OpenTrial, **more: Any) -> None:
        self._listener(Event(kind, trial.assignment.number, trial.assignment.config, **more))
