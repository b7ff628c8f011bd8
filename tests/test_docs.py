"""Every `winnow` line in the documentation is a command that exists, with options that exist."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from search.cli import cli
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def _commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line) for line in lines if line.startswith("winnow ")]
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_commands_of_the_docs_parse(page, line):
    words = shlex.split(line, comments=True)
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, words[1]
    command.make_context(words[1], words[2:])


def test_there_are_commands():
    assert {page for page, _ in _commands()} >= {"README.md", "tutorial.md", "daily-use.md"}
