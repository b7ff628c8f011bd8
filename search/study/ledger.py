"""Decides what a search does next: which trial runs, whether it continues, and when the search is over.

Results are stored in the study and in `epochs.jsonl` only (`winnow.search.study.record`). Rungs,
open trials and the state of the sampler are rebuilt from them at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from winnow.search.samplers.feasibility import Feasibility
from winnow.search.samplers.suggester import START_FROM, Shortage, Suggester, Suggestion
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import Settings
from winnow.search.status import STORAGE_FAILED
from winnow.search.storage.clock import not_before
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.checkpoint_quota import Quota
from winnow.search.study.earlier_runs import recollect
from winnow.search.study.epoch_times import EpochTimes
from winnow.search.study.gain_rule import GainRule
from winnow.search.study.goal import Goal
from winnow.search.study.paused import PausedTrials
from winnow.search.study.record import ending
from winnow.search.study.space_changes import OUTSIDE, History
from winnow.search.study.time_left import TimeLeft
from winnow.search.study.trial_book import TrialBook
from winnow.search.study.trials import Assignment, Event, OpenTrial
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus


class Ledger(TrialBook):
    """Gets trials from the sampler, lets the scheduler judge them, and records everything.

    It must be used by only one thread of one process at a time.

    Attributes:
        scheduler: Judges trials at the rungs.
        shortage: Why the sampler finds no new config in the space; None while it does.
        goal: Decides what the winners still need; `note_time_left` updates the remaining time.
        gain: Decides whether the search is still worth its time (`search.stop_when`).
    """

    def __init__(
        self,
        folder: RunFolder,
        space: Space,
        settings: Settings,
        image_shape: tuple[int, int, int],
        listener: Callable[[Event], None] = lambda event: None,
    ) -> None:
        super().__init__(folder, space, settings, image_shape, listener)
        self.scheduler = make_scheduler(settings, spec_of(settings.sampler).pauses)
        self.shortage: Shortage | None = None
        study = folder.read_study()
        self._history = History(folder, space, study)
        self._paused = PausedTrials(self.scheduler, Quota(folder, settings.checkpoint_quota))
        self._time = TimeLeft(settings.time_budget_seconds)
        self.goal = Goal(settings, self._tally, self._open, self._paused.numbers, self._time, self._num_not_begun)
        self.gain = GainRule(settings)
        self._times = EpochTimes(settings, self._record, self.scheduler)
        num_classes = (study.get("data") or {}).get("num_classes", 1)
        rungs = [*self.scheduler.rungs, settings.max_epochs]
        feasibility = Feasibility(settings.limits, image_shape, num_classes)
        recollection = recollect(folder, space, feasibility.filter(space))
        self._suggester = Suggester(space, settings, image_shape, rungs, num_classes, recollection)
        self._rebuild(self._record.trials())
        self.commit()

    # --- what the searcher and the scheduler call -------------------------------------------------------------------------

    def ask(self) -> Assignment | None:
        """Return the next trial to run: one that an earlier start left open, a paused one, or a new one; None if there is none now.

        A trial is on the disk before it runs, because its checkpoint is found by its number.
        """
        assignment = self._next()
        self.settle()
        self._record.commit_trials()
        return assignment

    def _next(self) -> Assignment | None:
        if self.winding_down:
            return None
        if self._readopted:
            return self._start(self._readopted.popleft())
        sampler = self._suggester.sampler(self._num_trials)
        may_start = self._may_start and not self.goal.enough_open
        if self.no_gain:
            self._stop_paused(self._paused.numbers)
        elif self._paused.possible and not (may_start and self._suggester.queued):
            in_time = self._time.in_time(self._paused.numbers, self.goal.epochs_left)
            resumed = self._paused.resume(sampler, self._shown, may_start, self.goal.num_missing, in_time)
            if resumed is not None:
                return self._start(self._open[resumed].continued)
            if not self._may_start and len(self._paused.numbers) == len(self._open):
                self._stop_paused(self._paused.numbers)
        if not self.goal.enough_open and (audited := self._audit.ask()) is not None:
            self.commit()  # no line holds the end of a paused trial, so it must be on the disk before the lines of its audit
            return audited
        if may_start:
            suggestion = self._suggester.next(self._shown(), sampler, self._num_trials)
            if isinstance(suggestion, Suggestion):
                return self._start(self._begin(suggestion))
            self.shortage = suggestion
        return None

    @property
    def no_gain(self) -> bool:
        """Whether the search ends because more is not worth its time, and enough trials have completed for the requested winners."""
        return self.gain.reached and not self.goal.num_wanted

    @property
    def finished(self) -> bool:
        """Whether `ask` will return no further trial, whatever the running trials report."""
        # `ask` may return an open trial again: after a pause, after a worker was lost, or after it ran out of memory.
        return self.winding_down or not (self._may_start or self._open or self._audit.unfinished)

    def record(self, number: int, report: dict[str, Any]) -> bool:
        """Record one report from a worker.

        Args:
            number: Number of the trial.
            report: An epoch's figures, or `{"status": ..., "error": ...}`. A worker reports an epoch again after a
                crash; one that is recorded already changes nothing.

        Returns:
            Whether the trial continues.

        Raises:
            OSError: The worker could not write or read its checkpoint.
        """
        if report.get("status") == STORAGE_FAILED:
            raise OSError(report["error"])
        continues = self._judge(number, report)
        self.settle()
        return continues

    def _judge(self, number: int, report: dict[str, Any]) -> bool:
        trial = self._open.get(number)
        if trial is None:
            return self._audit.record(number, report) and not self.winding_down
        if "status" not in report:
            return report["epoch"] <= trial.epoch or self._record_epoch(trial, report)
        status = TrialStatus(report["status"])
        if status == TrialStatus.OUT_OF_MEMORY and trial.assignment.micro_batches == 1:
            self._repeat_in_micro_batches(trial)
        elif status == TrialStatus.INFEASIBLE:
            self._end(trial, status, reason=report["error"])
        else:
            self._end(trial, status, error=report.get("error"))
        return False

    def note_size(self, number: int, sizes: Mapping[str, Any]) -> None:
        """Record the size of an open trial's network, and where the trial trains.

        Args:
            number: Number of the trial; one that is not open is ignored.
            sizes: What the worker reports once it has built the network, such as `multiply_adds`.
        """
        if number in self._open:
            self._record.write_sizes(number, sizes)
            self.settle()
            self.scheduler.note_figures(number, sizes)

    # --- deciding ---------------------------------------------------------------------------------------------------------

    @property
    def _may_start(self) -> bool:
        limit = self.settings.trials
        return (limit is None or self._num_trials < limit) and self.shortage is None and not self.no_gain

    def _num_not_begun(self) -> int:
        return self.settings.num_trials - self._num_trials if self._may_start else 0

    def _shown(self) -> optuna.Study:
        """Return the study that the sampler reads."""
        return self._suggester.readable(self._history.for_sampler(self._record.study))

    def _begin(self, suggestion: Suggestion) -> Assignment:
        assignment = self._create(suggestion, self._history.version)
        self._suggester.note(assignment.config, suggestion.num_drafts)
        if assignment.source.startswith(START_FROM):
            self.scheduler.note_start(assignment.number)
        return assignment

    def _record_epoch(self, trial: OpenTrial, report: dict[str, Any]) -> bool:
        number, epoch = trial.assignment.number, report["epoch"]
        objectives = self._record.objectives_of(trial, report)
        self._time.note_epoch(number, report.get("wall_seconds", 0.0))
        self.scheduler.note_figures(number, self._record.figures_of(objectives, epoch))
        excess = self._times.excess(number, report)  # first, since the time of an epoch may be an objective
        continues = self._may_continue(number, report, objectives) and not report["last"]
        ends = report["last"] or not objectives or not self._paused.possible or excess is not None
        decision = "continue" if continues and excess is None else "stop" if ends else "pause"
        rung = self.scheduler.rung_index(epoch)
        line = self._record.write_epoch("search", trial, report, objectives, rung=rung, decision=decision)
        self.gain.note_epoch(line)
        self._notify("epoch", trial, record=line, value=self._record.value_of(objectives))
        if decision == "pause":
            self._paused.numbers.add(number)
            self._notify("paused", trial)
            self._stop_paused(self._paused.beyond_quota())
        elif decision == "stop":
            self._end_after(trial, line, excess)
            return not self.winding_down and self._audit.continues_at_worker(number)
        return continues and not self.winding_down

    def _may_continue(self, number: int, report: Mapping[str, Any], objectives: Mapping[str, float]) -> bool:
        epoch = report["epoch"]
        if objectives:
            value = self._record.value_of(objectives)
            return self.scheduler.judge(number, epoch, value) or self.goal.must_complete(number)
        # A metric may have no value in an epoch, which matters only where the trial is compared with others.
        return not (report["diverged"] or self.scheduler.compares(number, epoch))

    def _end_after(self, trial: OpenTrial, line: Mapping[str, Any], excess: str | None) -> None:
        """End a trial after the epoch in `line`; `excess` describes the limit that it exceeded, if any."""
        status = ending(line, trial.objectives.get(line["epoch"], {}))
        if excess is None or status == TrialStatus.DIVERGED:
            error = self._record.no_value(line) if status == TrialStatus.FAILED else None
            # A metric that has a value for other networks has no bug that every further trial would meet.
            self._end(trial, status, error=error, may_be_bug=not self._any_value)
            if status == TrialStatus.COMPLETED:
                self._continue_at_rungs(trial)
                self.gain.note_completed(self._record.value_of(trial.objectives[trial.epoch]))
        else:
            self.scheduler.forget(trial.assignment.number)
            self._end(trial, TrialStatus.INFEASIBLE, reason=excess)

    def _continue_at_rungs(self, trial: OpenTrial) -> None:
        """Compare later trials with a completed one also at rungs that its training did not need: its weights stay as they are."""
        number, objectives = trial.assignment.number, trial.objectives[trial.epoch]
        for rung in (*self.scheduler.rungs, self.settings.max_epochs):
            if rung > trial.epoch:
                self.scheduler.note_figures(number, self._record.figures_of(objectives, rung))
                self.scheduler.record(number, rung, self._record.value_of(objectives))

    @property
    def _any_value(self) -> bool:
        """Whether any trial has a value at a rung or at its end."""
        return bool(self._tally.values) or any(self.scheduler.table().values())

    def _stop_paused(self, numbers: Sequence[int] | set[int]) -> None:
        for number in sorted(numbers):
            self._paused.numbers.discard(number)
            self._end(self._open[number], TrialStatus.STOPPED)

    # --- rebuilding at the start ------------------------------------------------------------------------------------------

    def _rebuild(self, trials: Sequence[FrozenTrial]) -> None:
        self._num_trials = len(trials)
        for config in self._history.warm_configs:
            self._suggester.note_known(config)
        for frozen in trials:
            self._replay(frozen)
        self._suggester.queued.extend(self._history.to_begin_with(trials, self.settings))
        self._catch_up()
        self._audit.rebuild(filter(self._history.is_inside, trials))
        self._discard_left()
        self.gain.rebuild(self.folder, self._tally.values)

    def _replay(self, frozen: FrozenTrial) -> None:
        """Restore a trial from the study."""
        number, attrs, inside = frozen.number, frozen.user_attrs, self._history.is_inside(frozen)
        self.scheduler.note_figures(number, attrs)
        if attrs["source"].startswith(START_FROM):
            self.scheduler.note_start(number)
        is_rival = inside and attrs.get("status") != TrialStatus.INFEASIBLE
        for epoch, value in frozen.intermediate_values.items() if is_rival else ():
            self.scheduler.record(number, epoch, value)
        not_before(attrs.get("ended", attrs["started"]))
        of_this_space = attrs.get("space", 0) == self._history.version
        self._suggester.note(attrs["config"], attrs.get("drafts", 0) if of_this_space else 0)
        if frozen.state.is_finished():
            self._tally.add(number, TrialStatus(attrs["status"]), frozen.value if inside else None, attrs["config"])
            if inside and attrs["status"] == TrialStatus.COMPLETED:
                self._continue_at_rungs(self._record.open_trial(frozen))
            return
        self._open[number] = self._record.open_trial(frozen)
        if not inside:
            self._end(self._open[number], TrialStatus.STOPPED, reason=OUTSIDE)

    def _catch_up(self) -> None:
        """Restore open trials from `epochs.jsonl`, and decide which of them stay paused and which run again."""
        decisions: dict[int, str] = {}
        for trial, line, is_new in self._record.catch_up(self._open):
            number, epoch = line["trial"], line["epoch"]
            if is_new:
                objectives = trial.objectives[epoch]
                self.scheduler.note_figures(number, self._record.figures_of(objectives, epoch))
                self.scheduler.record(number, epoch, self._record.value_of(objectives))
            decisions[number] = line.get("decision") or ""
            excess = self._times.excess(number, line)
            if decisions[number] == "stop" and epoch >= trial.epoch:
                self._end_after(trial, line, excess)
        if self._paused.possible:
            self._paused.numbers |= {number for number in self._open if decisions.get(number) == "pause"}
        self._readopted.extend(t.continued for number, t in self._open.items() if number not in self._paused.numbers)
