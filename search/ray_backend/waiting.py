"""A search that waits for resources says so: without it, a Ray whose CPUs somebody else uses looks like one that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.util import placement_group_table

from winnow.search.ray_backend.not_pickled import NotPickled

PATIENCE = 15.0
"""Seconds without a running trial before that is said; a worker takes some to start."""


class WaitingNotice(NotPickled, tune.Callback):
    """Says once in a row what a search waits for while no trial of it runs."""

    def __init__(
        self, say: Callable[[str], None], per_trial: Mapping[str, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._per_trial = per_trial
        self._now = now
        self._running: set[str] = set()
        self._idle_since: float | None = None
        self._is_said = False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.add(trial.trial_id)
        self._idle_since, self._is_said = None, False

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._running or self._is_said:
            return
        now = self._now()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since > PATIENCE:
            self._is_said = True
            lacking = self._lacking()
            if lacking:
                self._say(f"waiting: {lacking}")

    def _lacking(self) -> str:
        """Name the resource of which the cluster has too little for one trial."""
        states = {group["state"] for group in placement_group_table().values()}
        if "PENDING" not in states or "CREATED" in states:
            return ""  # a trial has its resources, and its worker starts
        total, free = ray.cluster_resources(), ray.available_resources()
        return "; ".join(
            f"Ray has {total.get(key, 0.0):g} {key}s, {free.get(key, 0.0):g} are free, and a trial needs {amount:g}"
            for key, amount in ((name.upper(), amount) for name, amount in self._per_trial.items())
            if free.get(key, 0.0) < amount
        )
