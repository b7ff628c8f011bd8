"""Reports that a search waits for resources. Without the message, a Ray whose CPUs are in use elsewhere would seem to hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.util import placement_group_table

from winnow.search.ray_backend.free_resources import lacking
from winnow.search.ray_backend.not_pickled import NotPickled

PATIENCE = 15.0
"""Seconds without a running trial before the wait is reported; a worker needs several seconds to start."""


class WaitingNotice(NotPickled, tune.Callback):
    """Reports once, while no trial runs, what the search waits for. Another report follows only after a trial has run."""

    def __init__(
        self, say: Callable[[str], None], per_trial: Mapping[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._per_trial = per_trial
        self._now = now
        self._running: set[str] = set()
        self._idle_since: float | None = None
        self._is_reported = False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that a trial runs, so that a later wait is announced again.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running.add(trial.trial_id)
        self._idle_since, self._is_reported = None, False

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that a trial no longer runs.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that a trial no longer runs, since its worker was lost.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        self._running.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Report what the search waits for if no trial has run for `PATIENCE` seconds.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            **info: Further arguments of Tune; not used.
        """
        if self._running or self._is_reported:
            return
        now = self._now()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since > PATIENCE:
            self._is_reported = True
            if words := self._lacking():
                self._say(f"waiting: {words}")

    def _lacking(self) -> str:
        """Describe the resources of which the cluster has too little for one trial; empty if a worker is only starting."""
        states = {group["state"] for group in placement_group_table().values()}
        if "PENDING" not in states or "CREATED" in states:
            return ""  # a trial has its resources, and its worker is starting
        return lacking(ray, self._per_trial, "a trial")
