"""`winnow serve` in headless Chromium while a real search runs: the page follows it, and the server writes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.reports.test_browser import CHROMIUM, needs_chromium

WINNOW = [sys.executable, "-m", "winnow"]
SECONDS = 240
"""A busy machine takes a minute to start Ray."""


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*WINNOW, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def num_ended(address: str, profile: Path) -> int:
    """The trials that the page in the browser counts as completed or stopped early."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader",
        f"--user-data-dir={profile}", "--dump-dom", address,
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Winnow report" in text, text[:500]
    return sum(
        int(number)
        for number in re.findall(r"(\d+) (?:completed|stopped early)(?= )", text.split("Trials by status")[0])[-2:]
    )


@pytest.mark.slow
@needs_chromium
def test_the_page_follows_a_real_search(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "live"
    epochs = run / "epochs.jsonl"
    with running(tmp_path, "search", "digits", "--name", "live", "--trials", "200") as search:
        wait_until(lambda: epochs.is_file() and epochs.read_text().count("\n") > 20)
        with running(tmp_path, "serve", "live", "--port", "0") as server:
            assert server.stdout is not None
            line = server.stdout.readline()
            address = line.split()[1] + "live"
            before = num_ended(address, tmp_path / "profile")
            with urlopen(address, timeout=SECONDS) as answer:
                assert int(answer.headers["Refresh"]) <= 15, "the browser loads the page of a running search again"
            size = epochs.stat().st_size
            wait_until(lambda: epochs.stat().st_size > 2 * size)
            after = num_ended(address, tmp_path / "profile")
            assert after > before
            assert search.poll() is None, "the search goes on meanwhile"
            assert not (run / "report").exists(), "the server writes nothing"
            assert [path.name for path in (tmp_path / "runs").iterdir()] == ["live"]
