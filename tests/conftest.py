"""Shared fixtures: one quiet process for all tests, real data where it is at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # beside other work, Ray's 15 would let every time limit pass

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]


def cifar_dir(name: str) -> Path:
    """The folder of `cifar10` or `cifar100` in Hugging Face Parquet; skips the test with a reason where it is absent."""
    root = Path(os.environ.get("WINNOW_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in {root}; set WINNOW_TEST_DATA to a folder that holds it")
    return folder


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory) -> None:
    """What tests trust is not noted in the home of whoever runs them."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def shared_ray():
    """One Ray with two CPUs for all tests that search in this process."""
    from winnow.search.ray_backend.session import ray_session

    with ray_session(num_cpus=2, num_gpus=0) as ray:
        _shared.append(ray)
        yield ray
        _shared.clear()


_shared: list[ModuleType] = []


@pytest.fixture(autouse=True)
def no_test_ends_the_shared_ray():
    """Later tests would not see it: Tune starts a Ray of its own where there is none."""
    yield
    if _shared:
        from winnow.search.ray_backend.session import _session

        assert all(ray.is_initialized() for ray in _shared), "this test has ended the Ray of all tests"
        assert getattr(_session.lock, "is_locked", False), "this test lets others delete the folder of that Ray"
