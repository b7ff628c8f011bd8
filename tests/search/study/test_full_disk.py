"""A disk that is full for a moment: no half line stays in a file of the run, nothing is written afterwards, and a resume continues."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, report
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.write_guard import WriteGuard
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog


@contextmanager
def room_for(path: Path, more: int) -> Iterator[None]:
    """Let files grow to `more` bytes above the size of this one, so that a longer line is written in part and then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path):
    path = tmp_path / "lines.jsonl"
    lines = JsonLines(path)
    lines.append({"line": 1})
    with room_for(path, 7), pytest.raises(OSError, match="File too large"):
        lines.append({"line": 2})
    assert path.read_bytes() == b'{"line":1}\n'
    with pytest.raises(OSError, match=r"a write failed, so nothing more is written \(File too large\)"):
        lines.append({"line": 3})  # there is room again, but line 2 is missing
    lines.close()
    assert list(read_json_lines(path)) == [{"line": 1}]


def test_files_that_belong_together_fail_together(tmp_path):
    guard = WriteGuard()
    one, other = (JsonLines(tmp_path / name, guard) for name in ("one", "other"))
    one.append({"line": 1})
    with room_for(tmp_path / "one", 3), pytest.raises(OSError, match="File too large"):
        one.append({"line": 2})
    with pytest.raises(OSError, match="nothing more is written"):
        other.append({"line": 1})


def test_a_search_continues_after_a_disk_that_was_full_for_a_moment(tmp_path):
    """A torn line would be in the middle of the journal: the next event is recorded although the write before it failed."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, sampler="random", trials=8)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    first, second = ledger.ask(), ledger.ask()
    assert first is not None
    assert second is not None
    ledger.record(first.number, report(first, 1))
    longest = max(folder.journal, folder.epochs, key=lambda path: path.stat().st_size)
    with room_for(longest, 10), pytest.raises(OSError, match="File too large"):
        ledger.ask()
    assert folder.journal.read_bytes().endswith(b"\n")
    with pytest.raises(OSError, match="nothing more is written"):
        ledger.record(second.number, report(second, 1))
    ledger.close()
    again = Ledger(folder, space, settings, SHAPE)
    resumed = {assignment.number for assignment in (again.ask(), again.ask()) if assignment is not None}
    assert resumed == {first.number, second.number}
    again.close()
