"""Switches off work that Ray Tune does for features that are not used here. It would take more of the driver's time than Winnow's own work.

Tune (Ray 2.60) has no settings for this. A test checks that each patched function still exists.
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
    """Run Tune without some of its work, and with processes that Ray has started in advance.

    - Tune's snapshots hold all past trials as text, in memory and in a file. Nothing reads them: every start is a fresh `fit`.
    - Each trial reads the trainable five times from Ray's server, over the network on a cluster, although it never changes.
    - To count callbacks for usage statistics, which are off, Tune imports MLflow if it is installed. That takes seconds and 100 MB.
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
    """Discard the statistics of all metrics that Tune keeps for a trial that has ended, 49 kB per trial."""
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
    trial.run_metadata.last_result = {}


@contextmanager
def _in_waiting_processes() -> Iterator[None]:
    """Let trials use the processes that a local Ray has started in advance (`winnow.search.ray_backend.preload`).

    Tune sets environment variables for its workers, and Ray starts separate processes for workers with their own environment.
    Locally, workers inherit the variables from the driver. On a cluster, where jobs have their own environment anyway, Tune's
    variables are needed.
    """
    theirs: Any = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    if not ray.get_runtime_context().runtime_env:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = theirs
