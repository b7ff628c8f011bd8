"""Ctrl-C and SIGTERM in the retraining of a real `winnow run`: it can be continued as printed, or with `resume`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from winnow import reports

WINNOW = [sys.executable, "-m", "winnow"]
SECONDS = 240


@pytest.mark.slow
@pytest.mark.parametrize(("number", "way_on"), [(signal.SIGINT, "retrain"), (signal.SIGTERM, "resume")])
def test_a_run_goes_on_where_its_retraining_was_interrupted(
    tmp_path: Path, number: signal.Signals, way_on: str
) -> None:
    command = [*WINNOW, "run", "digits", "--trials", "2", "--set", "epochs=4"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, deadline = tmp_path / "runs" / "digits" / "retrain.jsonl", time.monotonic() + SECONDS
    while not (lines.is_file() and lines.read_text().count("\n")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, output
    assert "Continue with: winnow retrain runs/digits\n" in output
    assert "Traceback" not in output
    before = lines.read_text().splitlines()

    resumed = subprocess.run(
        [*WINNOW, way_on, "runs/digits"], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    after = lines.read_text().splitlines()
    assert after[: len(before)] == before, "what was trained is not trained again"
    assert (tmp_path / "runs" / "digits" / "report" / "report.html").is_file(), resumed.stdout
    rows = reports.read(tmp_path / "runs" / "digits").rows("retrains")
    assert {row["status"] for row in rows} == {"completed"}
    assert len(rows) == len(after) > len(before)
