"""Detects trials that hang, which are those without a heartbeat. They end as `timed_out`, and their workers are killed and replaced.

A worker may also stop before its first trial or between two trials. It is killed too, and its trial starts in another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.ray_backend.silence import MISSED_BEATS, STARTING, Silence, Stopwatch, limit
from winnow.search.storage import remote as storage
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.training.heartbeat import seconds_between
from winnow.spaces.trial_status import TrialStatus

PATIENCE = 10.0
"""Seconds without a sign for which a trial is waited for at least after a signal, beside `MISSED_BEATS`."""


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
        kill_actor: Callable[[Any], None] = ray.kill,
    ) -> None:
        self.given_up: set[str] = set()
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._say = say
        self._now = now
        self._kill = kill or self._kill_worker
        self._kill_actor = kill_actor
        self._starting: dict[str, tuple[Trial, Any, Stopwatch]] = {}
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
        self._starting.pop(trial.trial_id, None)
        self._running[trial.trial_id] = trial, Silence(self._heartbeat(trial), self._now)

    def note_starting(self, controller: Any) -> None:
        """Note the trials whose workers have their resources but are not ready. Must be called in each step of Tune's loop.

        Such a worker is a new process, or one that is still busy with the end of its last trial.

        Args:
            controller: Tune's controller (Ray 2.60).
        """
        before, self._starting = self._starting, {}
        actors = controller._actor_manager._live_actors_to_ray_actors_resources
        for trial in controller._pending_trials:
            actor, _ = actors.get(controller._trial_to_actor.get(trial), (None, None))
            if actor is not None:
                known = before.get(trial.trial_id)
                watch = known[2] if known is not None and known[1] is actor else Stopwatch(self._now)
                self._starting[trial.trial_id] = trial, actor, watch

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
        """End the trials that hang, and kill the workers that do not become ready. Must be called in each step of Tune's loop.

        Raises:
            OSError: The end of a trial, or a sign of life in its place, cannot be written.
        """
        for trial, silence in list(self._running.values()):
            if (message := silence.overdue(self.timeout)) is not None:
                self._end(trial, message)
            elif self._ledger.winding_down and silence.is_silent(self._patience, self._interval):
                self._give_up(trial)
        allowed = max(self.timeout, STARTING)
        for trial, actor, watch in self._starting.values():
            if watch.seconds() > allowed:
                watch.restart()
                self._say(
                    f"trial {_number(trial)}: its worker was not ready for {allowed:.0f} s and was killed; it had stopped, or did not "
                    "end its last trial"
                )
                self._kill_actor(actor)  # Tune then reports an error of the trial, which stays open

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

    def _kill_worker(self, trial: Trial) -> None:
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            self._kill_actor(
                actor
            )  # works for a worker that is stopped or in a loop too; Tune then reports an error of the trial

    def _heartbeat(self, trial: Trial) -> str:
        return storage.join(self._checkpoints, heartbeat_name(_number(trial)))


def _number(trial: Trial) -> int:
    """Return the number in the study of a Tune trial."""
    return int(trial.config["number"])
