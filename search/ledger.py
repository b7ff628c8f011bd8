"""The book of a search: which trials were asked for, what every epoch of them gave, how each one ended.

The Optuna study in the journal is the only truth. Nothing else is kept between starts: rungs, open trials and the
sampler's state are rebuilt from it. The order of the writes in `record` is what makes a `kill -9` lose nothing: first
the line in `epochs.jsonl` with the decision, then the study; a start that finds the first without the second repeats
only the second.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from search.asha import Asha
from search.draft import Draft
from search.folder import JsonLines, RunFolder, read_json_lines
from search.forecast import ForecastSampler
from search.pausing import Pausing
from search.samplers import derive_seed, make_sampler
from search.settings import Settings
from search.study import Assignment, Event, OpenTrial, open_study
from spaces.space import Space

MAX_DRAFTS = 200  # the second half of them random; then the space is taken to hold nothing new
IDENTICAL_FAILURES = 3  # then it is a bug, and the rest of the budget would only show it again

ENDED_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "out_of_memory": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


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
        rule = Pausing if settings.sampler == "forecast" else Asha
        self.asha = rule(settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
        self.winding_down = False  # no new trials; running ones end their epoch and stay open
        self.exhausted = False  # the sampler finds nothing new in the space
        self.counts: dict[str, int] = {}
        self.best: tuple[int, float] | None = None
        self.bug: str | None = None  # the traceback that too many trials ended with
        self._open: dict[int, OpenTrial] = {}
        self._seen: set[str] = set()  # hashes of configs
        self._num_trials = 0
        self._start_from: deque[tuple[str, dict[str, Any]]] = deque()
        self._readopted: deque[Assignment] = deque()
        self._paused: set[int] = set()
        self._rungs = [*self.asha.rungs, settings.max_epochs]
        self._failures: Counter[str] = Counter()  # last line of the traceback -> trials
        self._storage, self._study, self._study_id = open_study(folder, settings.direction)
        self._rebuild()
        self._lines = JsonLines(folder.epochs)

    # --- what the searcher and the scheduler call ---------------------------------------------------------------------

    def ask(self) -> Assignment | None:
        """The next trial to run: one that an earlier start left open, a new one, or a paused one; None if there is none now."""
        if self.winding_down:
            return None
        if self._readopted:
            return self._start(self._readopted.popleft())
        sampler = make_sampler(self.settings.sampler, self.settings.seed, self._num_trials, self._rungs)
        if isinstance(self.asha, Pausing) and (resumed := self._resume_paused(sampler, self.asha)) is not None:
            return self._start(resumed)
        if self._may_start:
            assignment = self._ask_study(sampler)
            if assignment is not None:
                return self._start(assignment)
            self.exhausted = True
        return None

    @property
    def finished(self) -> bool:
        """`ask` will give nothing more, whatever the running trials report."""
        return self.winding_down or not (self._readopted or self._may_start or (self._paused and self._open))

    def record(self, number: int, report: dict[str, Any]) -> bool:
        """Write one report of a worker down; True if the trial may go on.

        A report is an epoch's figures, or `{"status": ..., "error": ...}`. An epoch that is known already, as a worker
        reports it again after a crash, changes nothing.
        """
        trial = self._open.get(number)
        if trial is None:
            return False
        if "status" in report:
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
        record = self._epoch_record(trial, {**report, "diverged": diverged}, decision)
        self._lines.append(record)
        if not diverged:
            self._set_value(trial, epoch, value)
        self._notify("epoch", trial, record=record, value=value)
        if pausing:
            self._paused.add(number)
            self._notify("paused", trial)
        elif not going_on:
            self._end(trial, _ending(record), weights_epoch=report["weights_epoch"])
        return going_on and not self.winding_down

    def lose(self, number: int, error: str) -> None:
        """A trial whose worker was lost more often than is allowed."""
        if number in self._open:
            self._end(self._open[number], "failed", error=error)

    def note_size(self, number: int, num_parameters: int, multiply_adds: int) -> None:
        """What the worker found on building the network."""
        if number in self._open:
            trial_id = self._trial_id(number)
            self._storage.set_trial_user_attr(trial_id, "num_parameters", num_parameters)
            self._storage.set_trial_user_attr(trial_id, "multiply_adds", multiply_adds)

    def close(self) -> None:
        self._lines.close()

    # --- figures --------------------------------------------------------------------------------------------------------

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
        return self._num_trials < self.settings.trials and not self.exhausted

    @property
    def started_trials(self) -> list[int]:
        """Open trials with at least one epoch."""
        return [number for number, trial in self._open.items() if trial.epoch]

    # --- asking ---------------------------------------------------------------------------------------------------------

    def _resume_paused(self, sampler: BaseSampler, rule: Pausing) -> Assignment | None:
        """The paused trial that the forecast prefers to any other, old or new. With nothing left to start or to finish, all end."""
        if not isinstance(sampler, ForecastSampler) or (self._may_start and self._start_from):
            return None
        among = None if self._may_start else rule.worth_finishing(self._paused)
        number = sampler.resume(self._study, self._paused, among=among, may_start=self._may_start)
        if number is not None:
            self._paused.discard(number)
            trial = self._open[number]
            return replace(trial.assignment, recorded=trial.epoch)
        if not self._may_start and len(self._paused) == len(self._open):
            for paused in sorted(self._paused):
                self._end(self._open[paused], "stopped")
            self._paused.clear()
        return None

    def _ask_study(self, sampler: BaseSampler) -> Assignment | None:
        """A new trial: a recipe of `start_from` that has not been tried, else the sampler's; None if it finds nothing new."""
        number = self._num_trials
        while self._start_from:
            name, raw = self._start_from.popleft()
            draft = Draft(self._study, sampler, number, known=self.space.encode(raw))
            if (config := self._config_of(draft)) is not None:
                return self._create(draft, config, f"start_from:{name}")
        for attempt in range(MAX_DRAFTS):
            if attempt == MAX_DRAFTS // 2:
                sampler = make_sampler("random", self.settings.seed, number, self._rungs)
            draft = Draft(self._study, sampler, number)
            if (config := self._config_of(draft)) is not None:
                return self._create(draft, config, "sampler")
        return None

    def _config_of(self, draft: Draft) -> dict[str, Any] | None:
        """The complete config of a draft, or None if it cannot be built or was tried before."""
        raw = self.space.suggest(draft)
        if self.space.infeasible(raw, self.image_shape):
            return None
        config = self.space.config(raw).model_dump(mode="json")
        return None if _hash(config) in self._seen else config

    def _create(self, draft: Draft, config: dict[str, Any], source: str) -> Assignment:
        attrs = {"config": config, "source": source, "started": round(time.time(), 3)}
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=draft.to_trial(attrs))
        number = self._storage.get_trial_number_from_id(trial_id)
        self._num_trials = number + 1
        self._seen.add(_hash(config))
        assignment = Assignment(number, self._seed_of(number), config, source=source)
        self._open[number] = OpenTrial(assignment)
        return assignment

    def _seed_of(self, number: int) -> int:
        return derive_seed(self.settings.seed, 1, number)

    def _start(self, assignment: Assignment) -> Assignment:
        self._notify("started", self._open[assignment.number])
        return assignment

    # --- writing --------------------------------------------------------------------------------------------------------

    def _epoch_record(self, trial: OpenTrial, report: dict[str, Any], decision: str) -> dict[str, Any]:
        figures = {key: _finite_or_none(value) for key, value in report.items()}
        return {
            "phase": "search",
            "trial": trial.assignment.number,
            "seed": trial.assignment.seed,
            **figures,
            "rung": self.asha.rung_index(report["epoch"]),
            "decision": decision,
            "time": round(time.time(), 3),
        }

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
    ) -> None:
        number = trial.assignment.number
        value = None
        if status == "completed":
            # The objective of the weights that are kept: those of the last epoch, or of the best one.
            value = trial.values[weights_epoch or trial.epoch]
        self._write_attrs(number, status=status, ended=round(time.time(), 3), error=error)
        self._study.tell(number, values=value, state=ENDED_STATES[status])
        del self._open[number]
        self._count(number, status, value)
        if status == "failed" and error:
            self._note_failure(error)
        self.folder.checkpoint(number).unlink(missing_ok=True)
        self._notify("ended", trial, status=status, value=value, record={"error": error} if error else {})

    def _count(self, number: int, status: str, value: float | None) -> None:
        self.counts[status] = self.counts.get(status, 0) + 1
        if value is not None and status == "completed" and self._beats_best(value):
            self.best = (number, value)

    def _beats_best(self, value: float) -> bool:
        return self.best is None or self.asha.is_better(value, self.best[1])

    def _note_failure(self, error: str) -> None:
        last_line = error.strip().splitlines()[-1]
        self._failures[last_line] += 1
        if self._failures[last_line] >= IDENTICAL_FAILURES:
            self.bug = error
            self.winding_down = True

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
        for frozen in trials:
            for epoch, value in frozen.intermediate_values.items():
                self.asha.record(frozen.number, epoch, value)
            self._seen.add(_hash(frozen.user_attrs["config"]))
            if frozen.state == TrialState.RUNNING:
                self._adopt(frozen)
            else:
                self._count(frozen.number, frozen.user_attrs["status"], frozen.value)
        tried = {frozen.user_attrs["source"] for frozen in trials}
        named = self.space.start_from_named()
        self._start_from = deque((name, raw) for name, raw in named if f"start_from:{name}" not in tried)
        self._settle()

    def _adopt(self, frozen: optuna.trial.FrozenTrial) -> None:
        """A trial that an earlier start left open goes on under its own number."""
        values, attrs = dict(frozen.intermediate_values), frozen.user_attrs
        epoch = max(values, default=0)
        assignment = Assignment(frozen.number, self._seed_of(frozen.number), attrs["config"], epoch, attrs["source"])
        self._open[frozen.number] = OpenTrial(assignment, epoch, values)
        self._readopted.append(assignment)

    def _settle(self) -> None:
        """Take over what `epochs.jsonl` knows of open trials and the study does not: the driver died between the two writes."""
        for line in read_json_lines(self.folder.epochs):
            trial = self._open.get(line.get("trial", -1))
            if trial is None or line.get("phase") != "search":
                continue
            number, epoch, value = line["trial"], line["epoch"], line.get(self.settings.objective)
            if value is not None and epoch == trial.epoch + 1:
                self.asha.record(number, epoch, value)
                self._set_value(trial, epoch, value)
            if line["decision"] == "stop" and epoch >= trial.epoch:
                self._end(trial, _ending(line), weights_epoch=line.get("weights_epoch"))
        waiting = [self._open[assignment.number] for assignment in self._readopted if assignment.number in self._open]
        pausing = isinstance(self.asha, Pausing)
        self._paused = {t.assignment.number for t in waiting if pausing and t.epoch in self.asha.rungs}
        self._readopted = deque(
            replace(trial.assignment, recorded=trial.epoch)
            for trial in waiting
            if trial.assignment.number not in self._paused
        )


def _ending(record: dict[str, Any]) -> str:
    """The status of a trial whose last epoch this is. A trial that ran its last epoch is completed, whatever ASHA says."""
    if record["diverged"]:
        return "diverged"
    return "completed" if record["last"] else "stopped"


def _hash(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _finite_or_none(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
