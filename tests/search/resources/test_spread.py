"""Trials spread over the GPUs of a real Ray, which declares them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.conftest import REPOSITORY

SPREAD = """
import sys, tempfile, time
from winnow.search.ray_backend.session import ray_session
from winnow.search.resources.plan import DeviceOptions, plan_resources

def trial(config):
    import os, ray, time
    with open(config["file"], "a") as file:
        file.write(f"{ray.get_gpu_ids()[0]} {time.time()}\\n")
    while len(open(config["file"]).readlines()) < config["wanted"]:  # until all are there at once
        time.sleep(0.1)

with ray_session(num_cpus=8, num_gpus=4) as ray:
    from ray import tune
    for asked in ({"concurrent": 4}, {"trials_per_gpu": 2}):
        plan = plan_resources(ray, DeviceOptions(**asked), 100)
        file = tempfile.mktemp()
        with tempfile.TemporaryDirectory() as storage:
            tune.Tuner(
                tune.with_resources(trial, plan.per_trial), param_space={"file": file, "wanted": plan.concurrent},
                tune_config=tune.TuneConfig(num_samples=plan.concurrent),
                run_config=tune.RunConfig(storage_path=storage, verbose=0),
            ).fit()
        print("on", *(line.split()[0] for line in open(file)))
"""


@pytest.mark.slow
def test_trials_spread_over_all_gpus_and_fill_none_twice():
    """Through Tune, as trials run. A fraction of 0.25 with four trials would have put all of them on the first GPU."""
    done = subprocess.run(
        [sys.executable, "-c", SPREAD], capture_output=True, text=True, cwd=REPOSITORY, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    found = [line.removeprefix("on ") for line in done.stdout.splitlines() if line.startswith("on ")]
    four, eight = (Counter(line.split()) for line in found)
    assert four == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert eight == {"0": 2, "1": 2, "2": 2, "3": 2}
