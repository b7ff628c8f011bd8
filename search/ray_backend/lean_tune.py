"""Switches off work that Ray Tune does for features that are not used here; it takes the driver more time than its own work.

Tune (Ray 2.60) has no settings for these. A test checks that each of them still exists where it is patched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import ray
from ray.tune import registry, tune
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


@contextmanager
def lean_tune() -> Iterator[None]:
    """Run Tune without trials in its snapshots, repeated reads of the trainable, and its count of callbacks; and with processes that wait.

    - Its snapshots hold all past trials as text, in the memory and in a file. Nobody reads them: every start is a fresh `fit`.
    - Each trial read the trainable five times from the server of Ray, over the network on a cluster. It never changes.
    - To count callbacks, for statistics of usage that are off, Tune imports MLflow if it is installed: seconds, and 100 MB.
    """
    lookup = cache(registry._global_registry.get)

    def contains(category: str, key: str) -> bool:
        try:
            lookup(category, key)
        except ValueError:  # not cached: it may be registered later
            return False
        return True

    with (
        patch.object(TuneController, "_get_trial_checkpoints", lambda controller: {}),
        patch.object(registry._global_registry, "get", lookup),
        patch.object(registry._global_registry, "contains", contains),
        patch.object(tune.air_usage, "tag_callbacks", lambda callbacks: False),
        _in_waiting_processes(),
    ):
        yield


def forget_results(trial: Trial) -> None:
    """Drop the statistics of all metrics that Tune keeps of a trial that ended, 49 kB of each."""
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
    trial.run_metadata.last_result = {}


@contextmanager
def _in_waiting_processes() -> Iterator[None]:
    """Give trials the processes that wait in a Ray of this machine (`winnow.search.ray_backend.preload`).

    Tune gives its workers environment variables, and Ray starts other processes for whoever brings some. Here they inherit
    them from the driver; on a cluster, whose jobs bring an environment anyway, Tune's are needed.
    """
    theirs: Any = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    if not ray.get_runtime_context().runtime_env:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = theirs
