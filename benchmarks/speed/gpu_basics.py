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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from benchmarks import REPOSITORY
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.resources.gpus import gpus_of_this_machine
from winnow.search.study.trials import Assignment
from winnow.search.training.errors import RankLost, release_memory
from winnow.search.training.speed_probe import measure

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.spaces.schema import Config

PATIENCE_SECONDS = 80.0
"""For each check that trains; four of them and the tests end within 9 minutes."""
LEFT_BYTES = 64 * 2**20
"""Bytes of a GPU that are left free where a lack of memory is provoked. The context of CUDA and cuDNN alone need more."""
TEST_SECONDS = 200.0
ALLOWANCE = 1.1
"""Factor by which a trial may reserve more memory than the probe."""


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


def basics(config: Config, data: ImageData, device: str, with_tests: bool) -> Iterator[dict[str, Any]]:
    """Run all checks and print a table of them. Yields each check as soon as it is done.

    Args:
        config: A config of one epoch.
        data: Its images.
        device: `cuda` or `cpu`.
        with_tests: Whether to run the tests that are marked `gpu` as well.
    """
    expected = {
        "a training": "completed",
        "a lack of memory": "out_of_memory, then completed",
        "a device-side assert": "DeviceLost, then SpoiledProcess" if device == "cuda" else "failed, then completed",
        **({"memory of a trial": "as probed, released after it"} if device == "cuda" else {}),
    }
    print(f"\n{gpus_of_this_machine().line}\n\n| check | result | expected | seconds |\n|---|---|---|---|", flush=True)
    for name, words in expected.items():
        yield _report(name, words, partial(_in_process, name, config, data, device))
    if with_tests:
        yield _report("tests marked gpu", "passed, exit code 0", _tests)
    else:
        print("| tests marked gpu | left out: only on a GPU | | |")


def _report(name: str, expected: str, run: Callable[[], str]) -> dict[str, Any]:
    began = time.monotonic()
    check = Check(name, run(), expected, round(time.monotonic() - began, 1))
    mark = "" if check.right else " **wrong**"
    print(f"| {name} | {check.result}{mark} | {expected} | {check.seconds} |", flush=True)
    return {**asdict(check), "right": check.right}


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
    """Provoke an error in one trial, then train another trial in the same process. Without an error: train one trial."""
    plain = config.model_dump(mode="json")
    if name == "a training":
        answers.put(_trial(plain, data, device))
    elif name == "memory of a trial":
        answers.put(_memory(config, data, device))
    elif name == "a lack of memory":
        huge = {**plain, "model": {"name": "mlp", "hidden": [10**10]}}
        ballast = None
        if device == "cuda":
            free, _ = torch.cuda.mem_get_info()
            ballast = torch.empty(ballast_bytes(free), dtype=torch.uint8, device=device)
        first = _trial(plain if ballast is not None else huge, data, device)
        del ballast
        if device == "cuda":
            torch.cuda.empty_cache()
        answers.put(f"{first}, then {_trial(plain, data, device)}")
    else:
        with patch.object(torch.optim.Adam, "step", lambda self: _index_out_of_range(device)):
            first = _trial(plain, data, device)
        answers.put(f"{first}, then {_trial(plain, data, device)}")


def ballast_bytes(free: int) -> int:
    """Return the bytes to occupy so that no training fits into the rest, however large the GPU.

    Args:
        free: Free bytes of the GPU.
    """
    return max(free - LEFT_BYTES, 0)


def _memory(config: Config, data: ImageData, device: str) -> str:
    """Compare what torch's allocator reserves for a trial on a shared GPU with what the probe reserved."""
    probed = measure(config, data, torch.device(device), seconds=0.2).memory_mb
    release_memory()
    held = torch.cuda.memory_reserved() / 2**20  # the images
    status = _trial(config.model_dump(mode="json"), data, device, gpus=0.5)
    peak, kept = torch.cuda.max_memory_reserved() / 2**20, torch.cuda.memory_reserved() / 2**20
    return memory_words(status, probed, peak, held, kept)


def memory_words(status: str, probed: float, peak: float, held: float, kept: float) -> str:
    """Return in words how the memory of a trial compares with that of the probe.

    Args:
        status: Status of the trial.
        probed: Peak memory that the probe reserved, in MB.
        peak: Peak memory that the trial reserved, in MB.
        held: Memory that was reserved before the trial, in MB.
        kept: Memory that is reserved after it, in MB.
    """
    as_probed = "as probed" if status == "completed" and peak <= ALLOWANCE * probed else "not as probed"
    released = "released after it" if kept <= ALLOWANCE * held else "kept after it"
    return f"{as_probed}, {released}: probe {probed:,.0f} MB, trial {peak:,.0f}; before {held:,.0f}, after {kept:,.0f}"


def _index_out_of_range(device: str) -> float:
    return float(torch.zeros(2, device=device)[torch.tensor([7], device=device)].sum())


def _trial(config: dict[str, Any], data: ImageData, device: str, gpus: float | None = None) -> str:
    """The status that a worker reports for a trial, or that it gives up its process."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(checkpoints=folder, device=device, threads=1, seed=0, gpus=gpus)
        try:
            reports = list(trial_reports(Assignment(0, 1, config), data, job))
        except RankLost as error:  # or SpoiledProcess, after an error that stays
            print(error, file=sys.stderr)
            return type(error).__name__
    return str(reports[-1].get("status", "completed"))


def gpu_tests() -> list[str]:
    """Return the files of the tests marked `gpu`. Other test files cannot be collected on a machine without Ray and Optuna."""
    found = sorted(path for path in (REPOSITORY / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    return [str(path.relative_to(REPOSITORY)) for path in found]


def _tests() -> str:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *gpu_tests()]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not done within {TEST_SECONDS:.0f} s"
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]])[-1]
    words = "passed" if done.returncode == 0 else "failed"
    return f"{words}, exit code {done.returncode}: {last.strip()}"
