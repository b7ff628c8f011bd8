"""A command goes on although nobody reads its output, and on terminals that do not know all characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import os, sys
from winnow.search.cli.common import console
paper = console(lasts=True)
for number in range(3000):
    paper.print("a line of the view")
print("what others print is dropped too")
sys.stdout.flush()
open("ended", "w").close()
"""


def ends(tmp_path: Path, stdout: int) -> bool:
    subprocess.run([sys.executable, "-c", WRITE], cwd=tmp_path, stdout=stdout, check=True)
    return (tmp_path / "ended").exists()


def test_a_closed_pipe(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    assert ends(tmp_path, writer)
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        assert ends(tmp_path, full.fileno())


def test_a_terminal_without_utf_8():
    script = "from winnow.search.cli import main\nmain.replace_unknown_characters()\nprint('▁▃█ ✓')"
    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert (ended.returncode, ended.stdout) == (0, b"??? ?\n")
