"""The book of a search: which trials were asked for, what every epoch of them gave, how each one ended.

The Optuna study in the journal is the only truth. Nothing else is kept between starts: rungs, open trials and the
sampler's state are rebuilt from it. The order of the writes in `record` is what makes a `kill -9` lose nothing: first
the line in `epochs.jsonl` with the decision, then the study; a start that finds the first without the second repeats
only the second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from winnow.search.samplers.forecast import ForecastSampler
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.suggester import START_FROM, Suggester, Suggestion
from winnow.search.schedulers.pausing import Pausing
from winnow.search.schedulers.registry import make_rule
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.search.status import CANNOT_WRITE
from winnow.search.storage import remote as storage
from winnow.search.storage.clock import not_before, now
from winnow.search.storage.json_lines import JsonLines, epoch_line, read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.checkpoint_quota import Quota
from winnow.search.study.failure_policy import LOSSES_WITHOUT_PROGRESS, MICRO_BATCHES, Failures
from winnow.search.study.space_changes import OUTSIDE, History, to_run_further
from winnow.search.study.stop_audit import Audit
from winnow.search.study.trials import ENDED_STATES, Assignment, Event, OpenTrial, ending, open_study
from winnow.spaces.space import Space


class Ledger:
    """Asks the sampler, judges with ASHA, writes everything down. Used by one thread of one process at a time."""

    def __init__(
        self,
        folder: RunFolder,
        space: Space,
        settings: Settings,
        image_shape: tuple[int, int, int],
        listener: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.folder = folder
        self.space = space
        self.settings = settings
        self.image_shape = image_shape
        self.listener = listener
        self.asha = make_rule(settings)
        self.winding_down = False  # no new trials; running ones end their epoch and stay open
        self.exhausted = False  # the sampler finds nothing new in the space
        self.counts: dict[str, int] = {}
        self.best: tuple[int, float] | None = None
        self._open: dict[int, OpenTrial] = {}
        self._num_trials = 0
        self._readopted: deque[Assignment] = deque()
        self._paused: set[int] = set()
        self._suggester = Suggester(space, settings, image_shape, [*self.asha.rungs, settings.max_epochs])
        self._failures = Failures()
        self._quota = Quota(folder, settings.checkpoint_quota)
        self._audit = Audit(folder, settings, lambda line: self._lines.append(line), listener)
        self._storage, self._study, self._study_id = open_study(folder, settings.direction)
        self._history = History(folder, space)
        self._rebuild()
        self._lines = JsonLines(folder.epochs)

    # --- what the searcher and the scheduler call ---------------------------------------------------------------------

    def ask(self) -> Assignment | None:
        """The next trial to run: one that an earlier start left open, a new one, or a paused one; None if there is none now."""
        if self.winding_down:
            return None
        if self._readopted:
            return self._start(self._readopted.popleft())
        sampler = self._suggester.sampler(self._num_trials)
        if isinstance(self.asha, Pausing) and (resumed := self._resume_paused(sampler, self.asha)) is not None:
            return self._start(resumed)
        if (audited := self._audit.ask()) is not None:
            return audited
        if self._may_start:
            suggestion = self._suggester.next(self._shown(), sampler, self._num_trials)
            if suggestion is not None:
                return self._start(self._create(suggestion))
            self.exhausted = True
        return None

    @property
    def finished(self) -> bool:
        """`ask` will give nothing more, whatever the running trials report."""
        # An open trial may come back: paused, lost with its worker, or out of memory.
        return self.winding_down or not (self._may_start or self._open or self._audit.unfinished)

    def record(self, number: int, report: dict[str, Any]) -> bool:
        """Write one report of a worker down; True if the trial may go on.

        A report is an epoch's figures, or `{"status": ..., "error": ...}`. An epoch that is known already, as a worker
        reports it again after a crash, changes nothing.
        """
        if report.get("status") == CANNOT_WRITE:
            raise OSError(report["error"])
        trial = self._open.get(number)
        if trial is None:
            return self._audit.record(number, report) and not self.winding_down
        if "status" in report:
            if report["status"] == "out_of_memory" and trial.assignment.micro_batches == 1:
                self._retry_in_pieces(trial)
            else:
                self._end(trial, report["status"], error=report.get("error"))
            return False
        epoch = report["epoch"]
        if epoch <= trial.epoch:
            return True
        given = report.get(self.settings.objective)
        value = math.nan if given is None or report["diverged"] else float(given)
        diverged = not math.isfinite(value)
        going_on = self.asha.judge(number, epoch, value) and not report["last"]
        pausing = isinstance(self.asha, Pausing) and not (going_on or diverged or report["last"])
        decision = "continue" if going_on else "pause" if pausing else "stop"
        rung = self.asha.rung_index(epoch)
        record = epoch_line(
            "search",
            trial.assignment.seed,
            {**report, "diverged": diverged},
            trial=number,
            rung=rung,
            decision=decision,
        )
        self._lines.append(record)
        if not diverged:
            self._set_value(trial, epoch, value)
        self._notify("epoch", trial, record=record, value=value)
        if pausing:
            self._paused.add(number)
            self._notify("paused", trial)
            self._keep_quota()
        elif not going_on:
            self._end(trial, ending(record), weights_epoch=report["weights_epoch"])
            return not self.winding_down and self._audit.go_on(number)
        return going_on and not self.winding_down

    def lose(self, number: int, cause: str = "") -> bool:
        """The worker or the node of a trial is gone; True if the trial goes on from its checkpoint, not charged for it.

        `cause` is the worker's traceback, where it left one.
        """
        trial = self._open.get(number)
        if trial is None:
            self._audit.lose_worker(number)
            return False
        trial.losses += 1
        self._write_attrs(number, worker_losses=trial.losses)
        if self._failures.lost(trial):
            self._readopted.append(replace(trial.assignment, recorded=trial.epoch))
            return True
        times = LOSSES_WITHOUT_PROGRESS + 1
        died = f"its worker died {times} times in a row with no epoch finished in between"
        self._end(trial, "lost", error=f"{died}:\n{cause}" if cause else died)
        return False

    def note_size(self, number: int, num_parameters: int, multiply_adds: int, device: str) -> None:
        """What the worker found on building the network, and where it trains."""
        if number in self._open:
            self._write_attrs(number, num_parameters=num_parameters, multiply_adds=multiply_adds, device=device)
            self.asha.note_cost(number, multiply_adds)

    def close(self) -> None:
        self._lines.close()

    # --- figures --------------------------------------------------------------------------------------------------------

    @property
    def bug(self) -> str | None:
        """What too many trials ended with."""
        return self._failures.bug

    @property
    def num_asked(self) -> int:
        return self._num_trials

    @property
    def num_ended(self) -> int:
        return self.num_asked - len(self._open)

    @property
    def open_trials(self) -> list[int]:
        return list(self._open)

    @property
    def paused_trials(self) -> set[int]:
        """Open trials that wait at a rung, with their checkpoints, to be resumed or not."""
        return set(self._paused)

    @property
    def _may_start(self) -> bool:
        asked = self.settings.trials
        return (asked is None or self._num_trials < asked) and not self.exhausted

    @property
    def started_trials(self) -> list[int]:
        """Open trials with at least one epoch."""
        return [number for number, trial in self._open.items() if trial.epoch]

    # --- asking ---------------------------------------------------------------------------------------------------------

    def _resume_paused(self, sampler: BaseSampler, rule: Pausing) -> Assignment | None:
        """The paused trial that the forecast prefers to any other, old or new. With nothing left to start or to finish, all end."""
        if not isinstance(sampler, ForecastSampler) or (self._may_start and self._suggester.given):
            return None
        among = None if self._may_start else rule.worth_finishing(self._paused, self._num_missing)
        number = sampler.resume(self._shown(), self._paused, rule, among=among, may_start=self._may_start)
        if number is not None:
            self._paused.discard(number)
            trial = self._open[number]
            return replace(trial.assignment, recorded=trial.epoch)
        if not self._may_start and len(self._paused) == len(self._open):
            for paused in sorted(self._paused):
                self._end(self._open[paused], "stopped")
            self._paused.clear()
        return None

    @property
    def _num_missing(self) -> int:
        """So many more must be completed for there to be as many winners as are asked for, if all that run now are."""
        running = len(self._open) - len(self._paused)
        return max(0, self.settings.retrain.top - self.counts.get("completed", 0) - running)

    def _shown(self) -> optuna.Study:
        """What the sampler looks at."""
        return recent(self._history.for_sampler(self._study), self.settings.sampler)

    def _create(self, suggestion: Suggestion) -> Assignment:
        config, source = suggestion.config, suggestion.source
        attrs = {"config": config, "source": source, "started": now(), "drafts": suggestion.num_drafts}
        if self._history.version:
            attrs["space"] = self._history.version
        if self._audit.chooses(self._num_trials):
            attrs["audited"] = True  # for the reports: these trials are a random sample of all
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=suggestion.draft.to_trial(attrs))
        number = self._storage.get_trial_number_from_id(trial_id)
        self._num_trials = number + 1
        self._suggester.note(config, suggestion.num_drafts)
        if source.startswith(START_FROM):
            self.asha.note_start(number)
        assignment = Assignment(number, self._seed_of(number), config, source=source)
        self._open[number] = OpenTrial(assignment)
        return assignment

    def _seed_of(self, number: int) -> int:
        return derive_seed(Stream.TRIAL, self.settings.seed, number)

    def _start(self, assignment: Assignment) -> Assignment:
        self._notify("started", self._open[assignment.number])
        return assignment

    # --- writing --------------------------------------------------------------------------------------------------------

    def _set_value(self, trial: OpenTrial, epoch: int, value: float) -> None:
        self._storage.set_trial_intermediate_value(self._trial_id(trial.assignment.number), epoch, value)
        trial.epoch = epoch
        trial.values[epoch] = value

    def _end(
        self,
        trial: OpenTrial,
        status: str,
        *,
        weights_epoch: int | None = None,
        error: str | None = None,
        reason: str | None = None,
    ) -> None:
        number = trial.assignment.number
        value = None
        if status == "completed":
            # The objective of the weights that are kept: those of the last epoch, or of the best one.
            value = trial.values[weights_epoch or trial.epoch]
        self._write_attrs(number, status=status, ended=now(), error=error, reason=reason)
        self._study.tell(number, values=value, state=ENDED_STATES[status])
        del self._open[number]
        self._count(number, status, value)
        if status in ("failed", "lost") and error:
            self._failures.ended(error)
            self.winding_down = self.winding_down or self.bug is not None
        if status == "stopped" and reason is None and self._audit.chooses(number):
            self._audit.add(trial)
        else:
            storage.delete(self.folder.checkpoint(number))
        self._notify("ended", trial, status=status, value=value, record={"error": error} if error else {})

    def _count(self, number: int, status: str, value: float | None) -> None:
        self.counts[status] = self.counts.get(status, 0) + 1
        if value is not None and status == "completed" and self._beats_best(value):
            self.best = (number, value)

    def _beats_best(self, value: float) -> bool:
        return self.best is None or self.asha.is_better(value, self.best[1])

    def _keep_quota(self) -> None:
        if isinstance(self.asha, Pausing):
            for number in self._quota.beyond(self._paused, self.asha):
                self._paused.discard(number)
                self._end(self._open[number], "stopped")

    def _retry_in_pieces(self, trial: OpenTrial) -> None:
        trial.assignment = replace(trial.assignment, micro_batches=MICRO_BATCHES)
        self._write_attrs(trial.assignment.number, micro_batches=MICRO_BATCHES)
        self._readopted.append(replace(trial.assignment, recorded=trial.epoch))

    def _write_attrs(self, number: int, **attrs: Any) -> None:
        trial_id = self._trial_id(number)
        for key, value in attrs.items():
            if value is not None:
                self._storage.set_trial_user_attr(trial_id, key, value)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _notify(self, kind: str, trial: OpenTrial, **more: Any) -> None:
        self.listener(Event(kind, trial.assignment.number, trial.assignment.config, **more))

    # --- rebuilding at the start ------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        self._num_trials = len(trials)
        for config in self._history.warm_configs:
            self._suggester.note_known(config)
        for frozen in trials:
            attrs, inside = frozen.user_attrs, self._history.is_inside(frozen)
            if (multiply_adds := attrs.get("multiply_adds")) is not None:
                self.asha.note_cost(frozen.number, multiply_adds)
            if attrs["source"].startswith(START_FROM):
                self.asha.note_start(frozen.number)
            for epoch, value in frozen.intermediate_values.items() if inside else ():
                self.asha.record(frozen.number, epoch, value)
            not_before(attrs.get("ended", attrs["started"]))
            of_this_space = attrs.get("space", 0) == self._history.version
            self._suggester.note(attrs["config"], attrs.get("drafts", 0) if of_this_space else 0)
            if frozen.state != TrialState.RUNNING:
                self._count(frozen.number, attrs["status"], frozen.value if inside else None)
                continue
            self._adopt(frozen)
            if not inside:
                self._end(self._open[frozen.number], "stopped", reason=OUTSIDE)
        named = [(START_FROM + name, raw) for name, raw in self.space.start_from_named()]
        outside = [frozen for frozen in trials if not self._history.is_inside(frozen)]
        further = to_run_further(self.space, outside, self.settings.direction)
        tried = {frozen.user_attrs["source"] for frozen in trials}
        self._suggester.given.extend(given for given in [*named, *further] if given[0] not in tried)
        self._settle()
        self._audit.rebuild(filter(self._history.is_inside, trials), self._seed_of)

    def _adopt(self, frozen: optuna.trial.FrozenTrial) -> None:
        """A trial that an earlier start left open goes on under its own number."""
        values, attrs = dict(frozen.intermediate_values), frozen.user_attrs
        epoch = max(values, default=0)
        assignment = Assignment(
            frozen.number,
            self._seed_of(frozen.number),
            attrs["config"],
            epoch,
            attrs["source"],
            attrs.get("micro_batches", 1),
        )
        self._open[frozen.number] = OpenTrial(assignment, epoch, values, attrs.get("worker_losses", 0))
        self._readopted.append(assignment)

    def _settle(self) -> None:
        """Take over what `epochs.jsonl` knows of open trials and the study does not: the driver died between the two writes."""
        decisions: dict[int, str] = {}
        for line in read_json_lines(self.folder.epochs):
            not_before(line.get("time", 0.0))
            trial = self._open.get(line.get("trial", -1))
            if trial is None or line.get("phase") != "search":
                continue
            number, epoch, value = line["trial"], line["epoch"], line.get(self.settings.objective)
            if value is not None and epoch == trial.epoch + 1:
                self.asha.record(number, epoch, value)
                self._set_value(trial, epoch, value)
            decisions[number] = line["decision"]
            if line["decision"] == "stop" and epoch >= trial.epoch:
                self._end(trial, ending(line), weights_epoch=line.get("weights_epoch"))
        waiting = [self._open[assignment.number] for assignment in self._readopted if assignment.number in self._open]
        if isinstance(self.asha, Pausing):
            numbers = (trial.assignment.number for trial in waiting)
            self._paused = {number for number in numbers if decisions.get(number) == "pause"}
        self._readopted = deque(
            replace(trial.assignment, recorded=trial.epoch)
            for trial in waiting
            if trial.assignment.number not in self._paused
        )
