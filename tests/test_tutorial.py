"""docs/tutorial.md as a reader follows it: every block, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8"), re.S)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_block_runs(tmp_path):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    commands = tmp_path / "bin"  # `winnow` on the path, whatever this Python is called
    commands.mkdir()
    (commands / "winnow").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m search "$@"\n')
    (commands / "winnow").chmod(0o755)
    folder = tmp_path / "reader"
    folder.mkdir()
    output = "".join(_follow(language, block, folder, commands) for language, block in BLOCKS)
    assert {language for language, _ in BLOCKS} == {"python", "yaml", "sh"}
    assert "Retrained, tested once" in output
    assert "'flower'" in output
    assert "test accuracy" in output
    assert (folder / "runs" / "mine" / "report" / "report.html").stat().st_size > 1_000_000
    card = (folder / "temple-or-flower" / "README.md").read_text()
    assert "48 x 48 pixels and 3 channels, 2 classes (flower, temple)" in card


def _follow(language: str, block: str, folder: Path, commands: Path) -> str:
    if language == "yaml":
        name = re.match(r"# (\S+\.yaml)", block)
        assert name is not None
        (folder / name[1]).write_text(block)
        return ""
    runner = [sys.executable, "-c", block] if language == "python" else ["sh", "-ec", block]
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "100",
    }
    done = subprocess.run(runner, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
