"""A command goes on although nobody reads its output, and on terminals that do not know all characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")

WRITE = """
import os, sys
from winnow.search.cli.common import console
from winnow.search.cli.lasting_stream import lasting_output
with lasting_output():
    paper = console()
    for number in range(3000):
        paper.print("a line of the view")
    print("what others print is dropped too")
    sys.stdout.buffer.write(b"also by this way")
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


@needs_dev_full
def test_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        assert ends(tmp_path, full.fileno())


def test_a_terminal_without_utf_8():
    script = "from winnow.search.cli import main\nmain.replace_unknown_characters()\nprint('▁▃█ ✓')"
    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert (ended.returncode, ended.stdout) == (0, b"??? ?\n")


SEARCH = """
import click, json, sys
from pathlib import Path
from typing import Any
from types import SimpleNamespace
from winnow.search.cli import main, search_commands
from winnow.search.cli.outcome import print_outcome
from winnow.search.storage.run_folder import RunFolder

def search(space, overrides, options):
    click.echo("note: a note", err=True)
    outcome = SimpleNamespace(bug=None, interrupted=False, out_of_time=False, wall_seconds=1.0, no_gain="", at_once=False)
    code = print_outcome(RunFolder(Path("run")), outcome, options["as_json"])
    open("ended", "w").close()
    raise SystemExit(code)

search_commands._search = search
main.main(["search", "digits", *sys.argv[1:]])
"""
INCOMPLETE = (
    "winnow: what the command printed is incomplete: standard output cannot be written (No space left on device)\n"
)


def search(folder: Path, *options: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    """Run `winnow search` with a search that only prints how it ended."""
    command = [sys.executable, "-c", SEARCH, *options]
    ended = subprocess.run(command, cwd=folder, text=True, **{"stderr": subprocess.PIPE, **streams})
    assert (folder / "ended").exists()
    return ended


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_command_whose_output_nobody_reads_goes_on(tmp_path, options):
    reader, writer = os.pipe()
    os.close(reader)
    ended = search(tmp_path, *options, stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "note: a note\n")


@needs_dev_full
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_command_whose_output_does_not_fit_goes_on_and_fails(tmp_path, options):
    with open("/dev/full", "w") as full:
        ended = search(tmp_path, *options, stdout=full)
    assert (ended.returncode, ended.stderr) == (1, "note: a note\n" + INCOMPLETE)


@needs_dev_full
def test_a_command_whose_notes_do_not_fit_succeeds(tmp_path):
    with open("/dev/full", "w") as full:
        ended = search(tmp_path, stderr=full, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stdout) == (0, "search complete after 1 s\n")


def test_a_closed_standard_output_is_no_error(tmp_path):
    command = 'exec "$@" >&-'
    ended = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-c", SEARCH], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "note: a note\n")


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path, closed, options):
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", SEARCH, *options]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "ended").exists()
    if closed == "<&- >&- 2>&-":
        assert ended.stdout == ""
    elif options:
        assert json.loads(ended.stdout)["event"] == "outcome"
    else:
        assert ended.stdout == "search complete after 1 s\n"


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """A library in C would write its messages into it."""
    script = (
        "import os\nfrom winnow.search.cli.lasting_stream import open_closed_streams\nopen_closed_streams()\n"
        "with open('file', 'w') as file:\n    os.write(1, b'one')\n    os.write(2, b'two')\n    os.system('echo three')\n"
        "    print(file.fileno() > 2, file=file)\n"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == "True\n"


LIVE = """
import sys
from winnow.search.cli.lasting_stream import replace_unknown_characters
from winnow.search.views.console import VisibleConsole
from winnow.search.views.live import LiveView
replace_unknown_characters()
with LiveView(VisibleConsole(file=sys.stdout, force_terminal=True, width=80)) as view:
    view.step("▁▂█ ✓")
    view.message("▁▂█ ✓")
    view.progress(1, 2)
print("ended")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_pictures_on_a_terminal_without_utf_8(tmp_path, encoding):
    run = make_run(tmp_path / "rün")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120"}

    def printed(*command: str) -> str:
        ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, cwd=REPOSITORY)
        assert (ended.returncode, ended.stderr) == (0, b"")
        return ended.stdout.decode(encoding)

    assert "Best 10 trials" in printed("-m", "winnow", "show", str(run))
    assert "trial 0" in printed("-m", "winnow", "show", str(run), "--trial", "0")
    live = printed("-c", LIVE)
    assert "??? ?" in live
    assert live.endswith("ended\n")


@needs_dev_full
@pytest.mark.slow
def test_a_run_whose_output_does_not_fit_is_retrained_and_reported(tmp_path):
    words = "run digits --trials 2 --set epochs=1 --quiet"
    command = [sys.executable, "-m", "winnow", *words.split()]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=tmp_path, text=True, stdout=full, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr.splitlines()[-1] + "\n") == (1, INCOMPLETE)
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "retrain.jsonl").read_text().count("\n") > 0
    assert (run / "report" / "report.html").exists()
