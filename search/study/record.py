"""The two-writes protocol, by which a search survives the death of its driver at any point.

Every epoch is written twice, in this order:

1. a line in `epochs.jsonl`, with the decision of the scheduler, on the disk before anything else happens;
2. its value, and the trial's end if it ended, in the Optuna study in `study.journal`.

A driver that dies before the first write has recorded nothing: the epoch is in the trial's checkpoint, and the worker reports it
again. A driver that dies between the two writes leaves a line that is not in the study; the next start (`catch_up`) repeats only
the second write. So no epoch is trained twice, and none is judged twice.

Waiting for the disk takes longer than everything else, so the writes of several events are made together (`commit`): first all
their lines, then all their entries in the study. An event that was not committed counts as not reported: workers report it again.
Two kinds of entries in the study depend on no line and are written before all lines: new trials, and the sizes of networks.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from winnow.search.settings import Settings, attribute
from winnow.search.storage.clock import not_before, now
from winnow.search.storage.json_lines import JsonLines, epoch_line, read_epochs
from winnow.search.storage.run_folder import RunFolder
from winnow.search.storage.write_guard import WriteGuard
from winnow.search.study.journal_file import STUDY_NAME, open_study
from winnow.search.study.trials import Assignment, OpenTrial
from winnow.spaces.errors import InputError
from winnow.spaces.trial_status import TrialStatus

ATTRIBUTES: dict[str, type | tuple[type, ...]] = {"config": dict, "source": str, "seed": int, "started": (int, float)}
"""Types of the attributes that every trial of a search has from its beginning."""
ENDED_STATES = {
    TrialStatus.COMPLETED: TrialState.COMPLETE,
    TrialStatus.STOPPED: TrialState.PRUNED,
    TrialStatus.DIVERGED: TrialState.FAIL,
    TrialStatus.OUT_OF_MEMORY: TrialState.FAIL,
    TrialStatus.LOST: TrialState.FAIL,
    TrialStatus.FAILED: TrialState.FAIL,
    TrialStatus.INFEASIBLE: TrialState.FAIL,
    TrialStatus.TIMED_OUT: TrialState.FAIL,
}


class Record:
    """Writes what happens to the trials of a run, and reads it back at the next start. Nothing is written before `commit`."""

    def __init__(self, folder: RunFolder, settings: Settings) -> None:
        self.folder = folder
        self._metrics = settings.metrics
        guard = WriteGuard()
        self._journal, self._storage, self.study = open_study(folder, settings.direction, guard)
        self._study_id = self._storage.get_study_id_from_name(STUDY_NAME)
        self._lines = JsonLines(folder.epochs, guard)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study, in order of their numbers.

        Raises:
            InputError: An earlier version of Winnow began the run with different random streams, so
                the trials could not be continued exactly. Or the run is damaged.
        """
        trials = self.study.get_trials(deepcopy=False)
        if any("seed" not in trial.user_attrs for trial in trials):
            raise InputError(
                f"{self.folder.path}: an earlier version of Winnow began this run and derived its random seeds differently, so "
                "the search cannot be continued. Its report and winners remain usable. To build on its results, start a new "
                f"search: winnow search SPACE --warm-start {shlex.quote(str(self.folder.path))}"
            )
        for trial in trials:
            kinds = ATTRIBUTES | ({"status": str} if trial.state.is_finished() else {})
            if wrong := [key for key, kind in kinds.items() if not isinstance(trial.user_attrs.get(key), kind)]:
                raise InputError(
                    f"{self.folder.journal}: damaged: trial {trial.number} has no {' and no '.join(wrong)}"
                )
        return trials

    def open_trial(self, frozen: FrozenTrial) -> OpenTrial:
        """Return a trial of the study in the form in which the ledger continues it, with the same number and seed."""
        attrs = frozen.user_attrs
        epoch = max(frozen.intermediate_values, default=0)
        pieces = attrs.get("micro_batches", 1)
        assignment = Assignment(frozen.number, attrs["seed"], attrs["config"], epoch, attrs["source"], pieces)
        first, *further = self._metrics
        objectives = {
            each: {first: value, **{name: attrs[attribute(name, each)] for name in further}}
            for each, value in frozen.intermediate_values.items()
        }
        return OpenTrial(assignment, epoch, objectives, attrs.get("worker_losses", 0))

    def create(self, number: int, trial: FrozenTrial) -> None:
        """Add a new trial. `commit_trials` puts it on the disk.

        Args:
            number: Number of the trial, which must be the next one of the study.
            trial: The trial as Optuna stores it, with its parameters and attributes.
        """
        with self._journal.ahead():
            trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        assert self._storage.get_trial_number_from_id(trial_id) == number

    def objectives_of(self, trial: OpenTrial, report: Mapping[str, Any]) -> dict[str, float]:
        """Return the objectives of a trial after an epoch that are metrics: those of the weights kept so far.

        Rungs, sampler, ledger and tables all use these values. They are the values of the epoch itself,
        unless `weights` keeps the best.

        Args:
            trial: The open trial, with the objectives of its earlier epochs.
            report: The figures of the epoch.

        Returns:
            Values by the names in `Settings.metrics`; empty if the training diverged, or if one of them is not a finite number for
            these weights.
        """
        if report.get("diverged"):
            return {}
        kept = _kept_epoch(report)
        if kept in trial.objectives:  # that epoch's own: its weights were kept when it was recorded
            return trial.objectives[kept]
        values = {name: report.get(name) for name in self._metrics}
        own = {name: float(value) if isinstance(value, Real) else math.nan for name, value in values.items()}
        return own if all(map(math.isfinite, own.values())) else {}

    def value_of(self, objectives: Mapping[str, float]) -> float:
        """Return the first objective, by which trials are ranked; NaN if there are no values."""
        return objectives.get(self._metrics[0], math.nan)

    def figures_of(self, objectives: Mapping[str, float], epoch: int) -> dict[str, float]:
        """Return the objectives besides the first one by the attributes that hold them in the study.

        Args:
            objectives: The objectives of a trial after an epoch, from `objectives_of`.
            epoch: The epoch.
        """
        return {attribute(name, epoch): objectives[name] for name in self._metrics[1:] if objectives}

    def no_value(self, line: Mapping[str, Any]) -> str:
        """Return the error of a trial that ends because an objective has no value.

        Args:
            line: The line of its last epoch.
        """
        return (
            f"{' or '.join(self._metrics)} has no value for the weights of epoch {_kept_epoch(line)}: it is not a finite number "
            "there, so the trial cannot be compared with others"
        )

    def write_epoch(
        self,
        phase: str,
        trial: OpenTrial,
        report: Mapping[str, Any],
        objectives: dict[str, float],
        *,
        rung: int | None = None,
        decision: str | None = None,
    ) -> dict[str, Any]:
        """Record an epoch: its line, and in phase `search` its objectives if they have values.

        Args:
            phase: `search` or `audit`.
            trial: The trial; in phase `search` its epoch and objectives are updated.
            report: The figures of the epoch.
            objectives: The objectives of the trial after the epoch, from `objectives_of`.
            rung: Index of the rung at the epoch. Default: there is none.
            decision: `continue`, `pause` or `stop`. Default: nothing was decided.

        Returns:
            The line.
        """
        assignment = trial.assignment
        line = epoch_line(phase, assignment.seed, report, trial=assignment.number, rung=rung, decision=decision)
        self._lines.add(line)
        if phase == "search" and not line.get("diverged"):
            self._write_objectives(trial, line["epoch"], objectives)
        return line

    def _write_objectives(self, trial: OpenTrial, epoch: int, objectives: dict[str, float]) -> None:
        """Make the second write of an epoch. The first objective comes last: once it is in the study, the epoch counts as recorded.

        An epoch without values counts, but the study has nothing of it.
        """
        if objectives:
            number = trial.assignment.number
            self.write_attrs(number, **self.figures_of(objectives, epoch))
            self._storage.set_trial_intermediate_value(self._trial_id(number), epoch, self.value_of(objectives))
        trial.epoch = epoch
        trial.objectives[epoch] = objectives

    def write_attrs(self, number: int, **attrs: Any) -> None:
        """Set attributes of a trial. Those that are None are skipped.

        Args:
            number: Number of the trial.
            **attrs: Values by attribute name.
        """
        trial_id = self._trial_id(number)
        for key, value in attrs.items():
            if value is not None:
                self._storage.set_trial_user_attr(trial_id, key, value)

    def write_sizes(self, number: int, sizes: Mapping[str, Any]) -> None:
        """Set the attributes that the worker reports once, before its first epoch.

        They are on the disk before the line of that epoch.

        Args:
            number: Number of the trial.
            sizes: Attributes by name; those that are None are left out.
        """
        with self._journal.ahead():
            self.write_attrs(number, **sizes)

    def end(self, number: int, status: TrialStatus, value: float | None, **attrs: Any) -> None:
        """End a trial.

        Args:
            number: Number of the trial.
            status: How it ended.
            value: Its objective; None unless it was completed.
            **attrs: Further attributes, such as `error`; those that are None are left out.
        """
        self.write_attrs(number, status=status.value, ended=now(), **attrs)
        self.study.tell(number, values=value, state=ENDED_STATES[status])

    def catch_up(self, open_trials: Mapping[int, OpenTrial]) -> Iterator[tuple[OpenTrial, dict[str, Any], bool]]:
        """Repeat the second writes that a driver's death prevented.

        Args:
            open_trials: The open trials, by number. The caller may end a trial while it iterates.

        Yields:
            An open trial, one of its lines, and whether the objectives after that line were only now written to the study.
        """
        for line in read_epochs(self.folder.epochs):
            not_before(line.get("time") or 0.0)
            trial = open_trials.get(line["trial"])
            if trial is None or line["phase"] != "search":
                continue
            objectives = self.objectives_of(trial, line)
            is_next = line["epoch"] == trial.epoch + 1 and not line.get("diverged")
            if is_next:
                self._write_objectives(trial, line["epoch"], objectives)
            else:
                trial.objectives.setdefault(line["epoch"], objectives)  # of an epoch without values
            yield trial, line, is_next and bool(objectives)

    def commit(self) -> None:
        """Put everything recorded since the last commit on the disk.

        Raises:
            OSError: Something cannot be written; all of it is discarded, and nothing more is written.
        """
        try:
            self._journal.flush_ahead()
            self._lines.flush()
        except OSError:
            self._journal.drop()  # the study never knows more than the lines
            raise
        self._journal.flush()

    def commit_trials(self) -> None:
        """Put new trials on the disk, but not results, which can wait.

        Raises:
            OSError: The trials cannot be written; nothing more is written.
        """
        self._journal.flush_ahead()

    def close(self) -> None:
        self._lines.close()

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def ending(line: Mapping[str, Any], objectives: Mapping[str, float]) -> TrialStatus:
    """Return the status with which a trial ends after the epoch in this line.

    A trial that trained its last epoch is completed, whatever the scheduler decided. A trial without a value where it needs one
    failed: its loss is finite, so it did not diverge.

    Args:
        line: The line of the epoch.
        objectives: The objectives of the trial after the epoch, from `Record.objectives_of`.
    """
    if line.get("diverged"):
        return TrialStatus.DIVERGED
    if not objectives:
        return TrialStatus.FAILED
    return TrialStatus.COMPLETED if line.get("last") else TrialStatus.STOPPED


def _kept_epoch(report: Mapping[str, Any]) -> int:
    """Return the epoch whose weights a training keeps after the epoch of a report."""
    kept: int = report.get("weights_epoch", report["epoch"])
    return kept
