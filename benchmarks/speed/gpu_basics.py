"""Whether everything runs at all on a GPU: part (a) of `benchmarks.speed.gpu`.

Each check has a process of its own, because an error that sticks ends with its process only. On a CPU the same checks provoke
the errors that a CPU has.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.resources.gpus import gpus_of_this_machine
from winnow.search.study.trials import Assignment
from winnow.search.training.errors import DeviceLost

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.spaces.schema import Config

PATIENCE_SECONDS = 90.0
"""For each check that trains; five of them and the tests end within 9 minutes."""
TEST_SECONDS = 240.0


@dataclass(frozen=True)
class Check:
    """One check: what was tried, its result, and whether that is right."""

    name: str
    result: str
    expected: str
    seconds: float

    @property
    def right(self) -> bool:
        return self.expected in self.result


def basics(config: Config, data: ImageData, device: str, with_tests: bool) -> list[dict[str, Any]]:
    """Run all checks and print a table of them.

    Args:
        config: A config of one epoch.
        data: Its images.
        device: `cuda` or `cpu`.
        with_tests: Whether to run the tests that are marked `gpu` as well.
    """
    sticks = "DeviceLost" if device == "cuda" else "failed"
    expected = {
        "a training": "completed",
        "a lack of memory": "out_of_memory, then completed",
        "a device-side assert": f"{sticks}, then {sticks if device == 'cuda' else 'completed'}",
    }
    print(f"\n{gpus_of_this_machine().line}\n\n| check | result | expected | seconds |\n|---|---|---|---|", flush=True)
    checks = [
        _report(name, words, lambda name=name: _in_process(name, config, data, device))
        for name, words in expected.items()
    ]
    if with_tests:
        checks.append(_report("tests marked gpu", "passed, exit code 0", _tests))
    else:
        print("| tests marked gpu | left out: only on a GPU | | |")
    return [{**asdict(check), "right": check.right} for check in checks]


def _report(name: str, expected: str, run: Callable[[], str]) -> Check:
    began = time.monotonic()
    check = Check(name, run(), expected, round(time.monotonic() - began, 1))
    mark = "" if check.right else " **wrong**"
    print(f"| {name} | {check.result}{mark} | {expected} | {check.seconds} |", flush=True)
    return check


def _in_process(name: str, config: Config, data: ImageData, device: str) -> str:
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_provoke, args=(name, config, data, device, answers))
    process.start()
    try:
        return str(answers.get(timeout=PATIENCE_SECONDS))
    except queue.Empty:
        return f"no answer within {PATIENCE_SECONDS:.0f} s"
    finally:
        process.join(timeout=5)
        process.kill()


def _provoke(name: str, config: Config, data: ImageData, device: str, answers: Any) -> None:
    """Provoke an error in one trial, then train another trial in the same process."""
    plain = config.model_dump(mode="json")
    if name == "a training":
        answers.put(_trial(plain, data, device))
    elif name == "a lack of memory":
        huge = {**plain, "model": {"name": "mlp", "hidden": [10**10]}}
        ballast = None
        if device == "cuda":
            free, _ = torch.cuda.mem_get_info()
            ballast = torch.empty(int(0.99 * free), dtype=torch.uint8, device=device)
        first = _trial(plain if ballast is not None else huge, data, device)
        del ballast
        if device == "cuda":
            torch.cuda.empty_cache()
        answers.put(f"{first}, then {_trial(plain, data, device)}")
    else:
        with patch.object(torch.optim.Adam, "step", lambda self: _index_out_of_range(device)):
            first = _trial(plain, data, device)
        answers.put(f"{first}, then {_trial(plain, data, device)}")


def _index_out_of_range(device: str) -> float:
    return float(torch.zeros(2, device=device)[torch.tensor([7], device=device)].sum())


def _trial(config: dict[str, Any], data: ImageData, device: str) -> str:
    """The status that a worker reports for a trial, or that it gives up its process."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(checkpoints=folder, device=device, threads=1, seed=0)
        try:
            reports = list(trial_reports(Assignment(0, 1, config), data, job))
        except DeviceLost as error:
            return f"DeviceLost ({error})".replace("|", "/")
    return str(reports[-1].get("status", "completed"))


def _tests() -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not done within {TEST_SECONDS:.0f} s"
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]])[-1]
    words = "passed" if done.returncode == 0 else "failed"
    return f"{words}, exit code {done.returncode}: {last.strip()}"
