"""Child processes found by name, also while others end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from winnow.search.resources.child_processes import child_processes


@pytest.fixture
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_children_are_found_by_name(sleeping):
    assert sleeping.pid in [process.pid for process in child_processes(["sleep"])]
    assert child_processes(["no-such-program"]) == []


def test_children_of_children_only_count_if_asked_for():
    with subprocess.Popen(["sh", "-c", "sleep 60; true"]) as shell:
        while not psutil.Process(shell.pid).children():
            pass
        assert not [process for process in child_processes(["sleep"]) if process.ppid() == shell.pid]
        (child,) = child_processes(["sleep"], recursive=True)
        assert child_processes(["sleep"], shell.pid) == [child]
        shell.kill()
        child.kill()


def test_a_child_that_ends_meanwhile_is_left_out(sleeping, monkeypatch):
    """`psutil` lists the children first and asks for their names afterwards."""
    with subprocess.Popen(["sleep", "0"]) as short:
        gone = psutil.Process(short.pid)
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [gone, psutil.Process(sleeping.pid)])
    with pytest.raises(psutil.NoSuchProcess):
        gone.name()
    assert [process.pid for process in child_processes(["sleep"])] == [sleeping.pid]
