"""Faults on real Ray, one search each: the damage is done by `benchmarks.reliability.reliability`, and nothing may be lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from benchmarks.reliability.faulty import TRIALS
from benchmarks.reliability.faulty_search import Ours
from benchmarks.reliability.processes import members, seconds_until_gone
from benchmarks.reliability.reliability import FAULTS, measure
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def can_mount(folder) -> bool:
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True
    )
    return bool(mounted) and mounted.returncode == 0 and subprocess.run(["umount", str(folder)]).returncode == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost(tmp_path, fault):
    if fault == "disk_full" and not can_mount(tmp_path):
        pytest.skip("a small file system cannot be mounted here (needs root)")
    if fault == "clock_jumps" and not shutil.which("cc"):
        pytest.skip("there is no C compiler here, which makes the clock jump")
    loss = measure(fault, "ours", tmp_path / "search", seed=0)
    assert loss.finished, loss
    assert loss.provoked
    assert (loss.trials_missing, loss.epochs_lost, loss.epochs_twice) == (0, 0, 0)
    # An epoch that was running is trained again: at most one for each worker of each start that was killed.
    assert loss.epochs_trained_again <= 2 * (loss.provoked + 1)
    assert loss.notes.get("equal_to_undisturbed", True)
    assert loss.notes.get("seconds_until_no_process", 0) < 15
    expected = {"ctrl_c": 130, "ctrl_c_twice": 130, "sigterm": 130, "disk_full": 2, "kill": -9}
    if fault == "sigterm_all":  # Ray, whose servers are gone, may end the driver before it has seen its own signal
        assert loss.notes["exit_code"] in (1, 130)
    else:
        assert loss.notes.get("exit_code") == expected.get(fault)


def test_a_trial_that_kills_its_worker_ends_alone(tmp_path):
    """As a segfault does it: it ends as lost after four workers, the others complete."""
    poison = tmp_path / "poison"  # names the width of the trial that trained first, on either of the workers
    search = Ours(tmp_path, environment={"POISON": str(poison)})
    assert search.start().wait(600) == 0
    statuses = Counter(trial[-1] for trial in search.outcome())
    assert statuses["lost"] == 1
    assert statuses["completed"] + statuses["stopped"] == TRIALS - 1
    [params] = [params for *_, params, _, status in search.outcome() if status == "lost"]
    assert params["model.width"] == int(poison.read_text())


def test_two_searches_at_once(tmp_path):
    """On one machine, started together: both end right, neither knows of the other's Ray."""
    searches = [Ours(tmp_path / name, concurrent=1) for name in ("a", "b")]
    drivers = [search.start() for search in searches]
    for search in searches:
        assert search.wait_for_epochs(2)
    drivers[0].kill()
    drivers[0].wait()
    assert seconds_until_gone(drivers[0].pid) < 15
    assert members(drivers[1].pid)
    assert drivers[1].wait(300) == 0
    assert searches[0].finish()
    for search in searches:
        assert search.num_ended() == TRIALS
        assert max(Counter(search.epochs()).values()) == 1
    assert searches[0].outcome() == searches[1].outcome()  # the same seed, one worker each


SHARED_GPU = """
from pathlib import Path

from benchmarks.reliability.faulty import SPACE
from winnow.search.storage.run_folder import create
from winnow.search.study.ledger import Ledger
from winnow.search.data.source import Source, describe_data, load_data
from winnow.search.ray_backend.session import ray_session
from winnow.search.settings import settings_for
from winnow.search.ray_backend.tune import Resources, run_search
from winnow.search.ray_backend.shared_data import Job, SharedData
from winnow.spaces import catalog

Path("space.yaml").write_text(SPACE)
space = catalog.load("space.yaml", ["epochs=3"])
settings = settings_for(space, trials=4)
data = load_data(space, Source(Path("data")))
facts = describe_data(data, space, settings.seed)
folder = create(Path(), "r", "r", {"schema_version": 1, "space": space.tree, "settings": settings.to_dict(), "data": facts})
with ray_session(num_cpus=2, num_gpus=1) as ray:
    ledger = Ledger(folder, space, settings, data.image_shape)
    job = Job(checkpoints=str(folder.checkpoints.resolve()), device="cpu", threads=1, seed=0)
    run_search(ledger, SharedData(ray.put(data)), job, Resources(cpus=1, gpus=0.5), 2, print)
    ledger.close()
"""


def test_the_second_try_shares_its_gpu(tmp_path):
    """Two trials share a GPU in Ray's books; a batch of 256 is too much, a quarter of it is not: all end well, none waits for ever."""
    search = Ours(tmp_path, environment={"MEMORY": "100"})
    environment = {**os.environ, **search.environment, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", SHARED_GPU]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {trial[-1] for trial in search.outcome()} <= {"completed", "stopped"}
    assert len(search.outcome()) == 4
    journal = (search.run / "study.journal").read_text()
    assert journal.count('"micro_batches":4') == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [2, 6])
def test_a_signal_before_the_first_trial(tmp_path, number, seconds):
    """While data are read or Ray starts: the same exit code, no traceback, no process left, and a search that ends if started again."""
    search = Ours(tmp_path)
    driver = search.start()
    time.sleep(seconds)
    driver.send_signal(number)
    assert driver.wait(120) == 130, (tmp_path / "log.txt").read_text()
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    assert seconds_until_gone(driver.pid) < 15
    assert search.finish()
    assert search.num_ended() == TRIALS
