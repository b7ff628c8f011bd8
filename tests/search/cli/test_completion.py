"""Shell completion: what click answers for bash, zsh and fish, and the scripts in the shells that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import blocks
from winnow.search.cli.main import main

WINNOW = Path(sys.executable).with_name("winnow")


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    for name in ("first", "finer", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "study.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def complete(monkeypatch, capsys):
    def ask(shell: str, line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_WINNOW_COMPLETE", f"{shell}_complete")
        # fish hands over the word that is being typed apart, the others its place.
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.splitlines()

    return ask


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("winnow exp", ["export"]),
        ("winnow show fi", ["finer", "first"]),
        ("winnow compare first se", ["second"]),
        ("winnow run dig", ["digits"]),
        ("winnow run digits --samp", ["--sampler"]),
        ("winnow run digits --log t", ["tensorboard"]),
    ],
)
def test_every_shell_gets_commands_runs_spaces_and_options(line, found, runs, complete):
    files = ("file,", "dir,", "file", "dir")
    answers = [answer for answer in complete("bash", line) if not answer.startswith(files)]
    assert answers == [f"plain,{name}" for name in found]
    for name in found:
        assert name in complete("zsh", line)
        assert any(answer.split("\t")[0] in (f"plain,{name}", name) for answer in complete("fish", line))


def _source(shell: str) -> str:
    environment = {**os.environ, "_WINNOW_COMPLETE": f"{shell}_source"}
    return subprocess.run([WINNOW], env=environment, capture_output=True, text=True, timeout=30, check=True).stdout


def _in_shell(shell: str, script: str, folder: Path) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": f"{WINNOW.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.split()


def test_bash_completes(runs):
    ask = """
        COMP_WORDS=(winnow show fi); COMP_CWORD=2
        _winnow_completion winnow; echo "${COMPREPLY[@]}"; complete -p winnow >/dev/null && echo registered
    """
    assert _in_shell("bash", _source("bash") + ask, runs) == ["finer", "first", "registered"]


def test_fish_completes(runs):
    assert _in_shell("fish", _source("fish") + "\ncomplete -C 'winnow show fi'", runs)[:2] == ["finer", "first"]


def test_zsh_takes_the_line(runs):
    # compdef needs compinit; that zsh then asks as click expects is held by the test of the answers.
    (line,) = [
        line
        for block in blocks("docs/how-to/shell-completion.md")
        for line in block.text.splitlines()
        if "zsh_source" in line
    ]
    script = f"autoload -Uz compinit; compinit -D\n{line}\necho $_comps[winnow]"
    assert _in_shell("zsh", script, runs) == ["_winnow_completion"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_commands_of_the_docs_print_a_script(shell):
    assert (
        f"_WINNOW_COMPLETE={shell}_source winnow"
        in (REPOSITORY / "docs" / "how-to" / "shell-completion.md").read_text()
    )
    assert "winnow" in _source(shell)
