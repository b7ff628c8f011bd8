"""Detects trials that hang, which are those without a heartbeat. They end as `timed_out`, and their workers are killed and replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.ray_backend.silence import Silence, limit
from winnow.search.storage import remote as storage
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.training.heartbeat import seconds_between
from winnow.spaces.trial_status import TrialStatus

MISSED_BEATS = 2
"""After a signal, the search does not wait for a trial that has missed this many heartbeats, and given no sign for `PATIENCE`."""
PATIENCE = 10.0
"""Seconds without a sign for which a trial is waited for at least."""


class HangWatch(NotPickled, tune.Callback):
    """Watches the running trials, and ends those that hang.

    Attributes:
        given_up: Tune's ids of trials that a halted search does not wait for.
    """

    def __init__(
        self,
        ledger: Ledger,
        checkpoints: str,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        kill: Callable[[Trial], None] | None = None,
    ) -> None:
        self.given_up: set[str] = set()
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._say = say
        self._now = now
        self._kill = kill or _kill_worker
        self._running: dict[str, tuple[Trial, Silence]] = {}
        self._longest_epoch: float | None = None
        self._interval = seconds_between(checkpoints)
        self._patience = max(PATIENCE, MISSED_BEATS * self._interval)

    @property
    def timeout(self) -> float:
        """Seconds without a sign of life after which a trial counts as hanging."""
        return limit(self._ledger.settings.trial_timeout, self._longest_epoch)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Begin to watch a trial. Tune calls this when the worker of the trial is ready.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running[trial.trial_id] = trial, Silence(self._heartbeat(trial), self._now)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Note a report as a sign of life, and the duration of its epoch for the default timeout.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            result: The report; `wall_seconds` is the duration of the epoch.
            **info: Further arguments of Tune; not used.
        """
        self._longest_epoch = max(self._longest_epoch or 0.0, result.get("wall_seconds") or 0.0)
        if trial.trial_id in self._running:
            self._running[trial.trial_id][1].note_report()

    def last_beat(self, trial: Trial) -> bytes | None:
        """Return the heartbeat that the worker of a trial left behind when it died; None if it had none or the trial is not watched."""
        return self._running[trial.trial_id][1].last_beat() if trial.trial_id in self._running else None

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Stop watching a trial that ended.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Stop watching a trial whose worker was lost.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running.pop(trial.trial_id, None)

    def check(self) -> None:
        """End the trials that hang. Must be called in each step of Tune's loop.

        Raises:
            OSError: The end of a trial, or a sign of life in its place, cannot be written.
        """
        for trial, silence in list(self._running.values()):
            if (message := silence.overdue(self.timeout)) is not None:
                self._end(trial, message)
            elif self._ledger.winding_down and silence.is_silent(self._patience, self._interval):
                self._give_up(trial)

    def _end(self, trial: Trial, error: str) -> None:
        self._ledger.record(_number(trial), {"status": TrialStatus.TIMED_OUT, "error": error})
        self._drop(trial)

    def _give_up(self, trial: Trial) -> None:
        self._say(f"trial {_number(trial)} does not respond, so the search does not wait for the end of its epoch")
        self.given_up.add(trial.trial_id)
        self._drop(trial)

    def _drop(self, trial: Trial) -> None:
        del self._running[trial.trial_id]
        self._kill(trial)
        storage.delete(self._heartbeat(trial))

    def _heartbeat(self, trial: Trial) -> str:
        return storage.join(self._checkpoints, heartbeat_name(_number(trial)))


def _kill_worker(trial: Trial) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)  # works for a worker that is stopped or in a loop too; Tune then reports an error of the trial


def _number(trial: Trial) -> int:
    """Return the number in the study of a Tune trial."""
    return int(trial.config["number"])
