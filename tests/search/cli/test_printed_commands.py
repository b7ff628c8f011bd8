"""Commands that are printed can be pasted into a shell, also if the run lies in a folder with a space in its name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from tests.reports.test_training import write
from winnow import reports
from winnow.search.cli.main import main
from winnow.search.winners import exporting


def printed(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> list[str]:
    """Run a command; return the words of the command that it prints as the next one, as a shell would take them."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    (line,) = re.findall(rf"winnow {command} .*", capsys.readouterr().out)
    return shlex.split(line)


def test_the_command_that_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "my runs; rm" / "one", stage="searched")
    assert printed(capsys, "report", "show", str(run)) == ["winnow", "report", str(run)]


@pytest.mark.parametrize("system", ["slurm", "kuberay", "sky"])
def test_the_command_that_starts_a_launch_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], system: str) -> None:
    file = tmp_path / "my jobs; rm" / "it's a $file"
    file.parent.mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["launch", "digits", "--on", system, "--output", str(file)])
    assert ended.value.code == 0
    command = capsys.readouterr().out.partition("review it, then: ")[2]
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    assert str(file) in words
    assert file.read_text()


def test_the_command_that_uses_an_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = make_run(tmp_path / "one"), tmp_path / "my $winner"
    folder.mkdir()
    monkeypatch.setattr(exporting, "export", lambda *arguments: folder)
    assert printed(capsys, "predict", "export", str(run)) == ["winnow", "predict", str(folder), "IMAGE..."]


def test_the_command_of_a_report_before_any_retraining(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my runs" / "one", stage="searched")
    page = page_text(reports.write(run).read_text())
    assert f"winnow train '{run / 'report' / 'winner.yaml'}'" in page


def test_the_command_of_the_report_of_a_training_that_runs(tmp_path: Path) -> None:
    folder = write(tmp_path / "my training")
    page = page_text(reports.write_training(folder).read_text())
    assert f"winnow train '{folder / 'config.yaml'}'" in page
