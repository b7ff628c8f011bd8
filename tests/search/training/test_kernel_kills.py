"""A process that the kernel killed for its memory is recognised by the counter of such kills, here in files that stand for the kernel's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from winnow.search.training import kernel_kills
from winnow.search.training.heartbeat import beat, beating, is_training, kernel_kill, process_of
from winnow.search.training.kernel_kills import killed_since, note_counter

V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"
MIXED = "8:pids:/\n4:cpu,memory:/jobs/7\n1:name=systemd:/x\n0::/\n"

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path, monkeypatch) -> Write:
    monkeypatch.setattr(kernel_kills, "ROOT", tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("groups", "counter", "text"),
    [
        ("0::/jobs/7\n", f"{V2}/jobs/7/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill {}\noom_group_kill 9\n"),
        ("0::/jobs/7\n", f"{V2}/memory.events", "max 3\noom_kill {}\n"),
        ("0::/\n", f"{V2}/memory.events", "oom_kill {}\n"),
        (MIXED, f"{V1}/jobs/7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
        (MIXED, f"{V1}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
        (None, "proc/vmstat", "nr_free_pages 1\noom_kill {}\n"),
        (MIXED, "proc/vmstat", "oom_kill {}\n"),
    ],
)
def test_a_rise_of_the_counter_is_a_kill(write, groups, counter, text):
    if groups is not None:
        write("proc/self/cgroup", groups)
    write(counter, text.format(2))
    note = note_counter()
    assert killed_since(note) is None
    write(counter, text.format(3))
    assert str(killed_since(note)).startswith("it used ")


def test_the_counter_of_the_group_goes_before_that_of_the_machine(write):
    """Another container of the machine does not count."""
    write("proc/self/cgroup", "0::/jobs/7\n")
    write(f"{V2}/jobs/7/memory.events", "oom_kill 0\n")
    write("proc/vmstat", "oom_kill 0\n")
    note = note_counter()
    write("proc/vmstat", "oom_kill 5\n")
    assert killed_since(note) is None


@pytest.mark.parametrize("text", [None, "", "oom_kill_disable 0\nunder_oom 0\n", "oom_kill many\n", "a line\nx\n"])
def test_without_a_counter_nothing_is_known(write, text):
    if text is not None:
        write("proc/vmstat", text)
    assert note_counter() == ""
    assert killed_since("") is None


def test_the_smallest_limit_and_the_memory_in_use_are_told(write):
    write("proc/self/cgroup", "0::/jobs/7\n")
    write("proc/self/statm", "999999 250000 1 1 0 1 0")
    write(f"{V2}/jobs/7/memory.events", "oom_kill 0\n")
    write(f"{V2}/jobs/7/memory.max", "max\n")
    write(f"{V2}/jobs/memory.max", "2000000000\n")
    note = note_counter()
    write(f"{V2}/jobs/7/memory.events", "oom_kill 1\n")
    assert killed_since(note) == "it used 1.02 GB a little earlier, and the limit for all processes is 2.00 GB"


def test_a_heartbeat_holds_the_counter(tmp_path, write):
    write("proc/vmstat", "oom_kill 2\n")
    file = tmp_path / "with space" / "alive"
    file.parent.mkdir()
    with beating(str(file)):
        beat()
        last = file.read_bytes()
    assert is_training(last)
    assert process_of(last) is not None
    assert kernel_kill(last) is None
    write("proc/vmstat", "oom_kill 3\n")
    assert kernel_kill(last) is not None
    assert kernel_kill(last.replace(b"\n", b" elsewhere\n", 1)) is None  # the counter of another machine cannot be read
    for end in range(len(last)):  # by a kill in the middle of the write
        assert (process_of(last[:end]) is None) == (end < last.index(b"\n"))
        assert kernel_kill(last[:end]) is None
    assert kernel_kill(b"\xff \xff \xff") is None
    assert kernel_kill(None) is None
    assert kernel_kill(b"7 1 elsewhere") is None


def test_a_training_that_cannot_be_tried_in_pieces_does_not_note_the_counter(tmp_path, write):
    """It would end for good where the kernel killed another process."""
    write("proc/vmstat", "oom_kill 2\n")
    with beating(str(tmp_path / "alive"), divisible=False):
        last = (tmp_path / "alive").read_bytes()
    write("proc/vmstat", "oom_kill 3\n")
    assert process_of(last) is not None
    assert kernel_kill(last) is None


def test_the_real_counter_can_be_read():
    if Path("/proc/vmstat").exists() and "oom_kill " in Path("/proc/vmstat").read_text():
        assert note_counter()
    assert killed_since(note_counter()) is None
