"""Trials that hang: noticed by their silence, ended as `timed_out`, and their workers killed and replaced.

A sign of life is a report, or the heartbeat of the training loop (`winnow.search.training.heartbeat`), so a long epoch is no silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.storage import remote as storage
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.training.heartbeat import seconds_between
from winnow.spaces.trial_status import TrialStatus

EPOCHS_OF_SILENCE = 20
"""The default timeout is this many of the longest epochs so far."""
SHORTEST_DEFAULT = 300.0
"""Seconds. No default timeout is shorter; and before its first sign of life every worker has this long to import and read."""
NOTHING_MEASURED = 1800.0
"""Seconds of the default timeout before the first epoch of a search is measured."""
MISSED_BEATS = 5
"""After a signal, a trial that missed this many heartbeats is not waited for."""


@dataclass
class _Sign:
    """The last sign of life of a running trial, as the driver knows it.

    Attributes:
        seen: Time of its last sign of life.
        asked: Time at which its heartbeat was last read.
        beat: What was read then.
        alive: Whether its training has given a sign at all; until then its worker starts.
    """

    trial: Trial
    seen: float
    asked: float
    beat: bytes | None = None
    alive: bool = False


class HangWatch(NotPickled, tune.Callback):
    """Watches the running trials.

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
        self._signs: dict[str, _Sign] = {}
        self._longest_epoch: float | None = None
        self._patience = MISSED_BEATS * seconds_between(checkpoints)

    @property
    def timeout(self) -> float:
        """Seconds of silence after which a trial hangs."""
        if self._ledger.settings.trial_timeout is not None:
            return self._ledger.settings.trial_timeout
        if self._longest_epoch is None:
            return NOTHING_MEASURED
        return max(SHORTEST_DEFAULT, EPOCHS_OF_SILENCE * self._longest_epoch)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._signs[trial.trial_id] = _Sign(trial, self._now(), self._now())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._longest_epoch = max(self._longest_epoch or 0.0, result.get("wall_seconds") or 0.0)
        if (sign := self._signs.get(trial.trial_id)) is not None:
            sign.seen, sign.alive = self._now(), True

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._signs.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._signs.pop(trial.trial_id, None)

    def check(self) -> None:
        """End the trials that hang. Called in each step of Tune's loop.

        Raises:
            OSError: The end of a trial cannot be written.
        """
        for sign in list(self._signs.values()):
            silent = self._silence(sign)
            limit = self.timeout if sign.alive else max(self.timeout, SHORTEST_DEFAULT)
            if silent > limit:
                self._end(sign, silent)
            elif self._ledger.winding_down and silent > self._patience:
                self._give_up(sign)

    def _silence(self, sign: _Sign) -> float:
        """Seconds since the last sign of life. The heartbeat is read only after some silence, since that may be a request."""
        now = self._now()
        interval = self._patience / MISSED_BEATS if self._ledger.winding_down else min(self.timeout / 4, 30.0)
        if now - max(sign.seen, sign.asked) > interval:
            sign.asked = now
            beat = self._read_beat(sign.trial)
            if beat is not None and beat != sign.beat:
                sign.beat, sign.seen, sign.alive = beat, now, True
        return now - sign.seen

    def _read_beat(self, trial: Trial) -> bytes | None:
        try:
            return storage.read(storage.join(self._checkpoints, heartbeat_name(_number(trial))))
        except OSError:
            return None

    def _end(self, sign: _Sign, silent: float) -> None:
        number = _number(sign.trial)
        error = f"no sign of life for {silent:.0f} s (the limit is {self.timeout:.0f} s, see --trial-timeout); its worker was killed"
        self._ledger.record(number, {"status": TrialStatus.TIMED_OUT, "error": error})
        self._drop(sign)

    def _give_up(self, sign: _Sign) -> None:
        self._say(f"trial {_number(sign.trial)} gives no sign of life, so the end of its epoch is not waited for")
        self.given_up.add(sign.trial.trial_id)
        self._drop(sign)

    def _drop(self, sign: _Sign) -> None:
        del self._signs[sign.trial.trial_id]
        self._kill(sign.trial)
        storage.delete(storage.join(self._checkpoints, heartbeat_name(_number(sign.trial))))


def _kill_worker(trial: Trial) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)  # also one that is stopped or in a loop: Tune then reports the trial's error


def _number(trial: Trial) -> int:
    """The study's number of a Tune trial."""
    return int(trial.config["number"])
