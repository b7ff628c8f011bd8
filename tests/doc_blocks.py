"""The code blocks of README and docs, and how a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = {
    page.relative_to(REPOSITORY).as_posix(): page for page in [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
}
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    page: str
    """Its path in the repository."""
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}-{self.language}"

    @property
    def file(self) -> str | None:
        """The name in its first line, where the reader is to save it: `# space.yaml`."""
        named = re.match(r"# (\w[\w.-]*\.(?:yaml|py))\b", self.text)
        return named[1] if named else None


def blocks(page: str | None = None) -> list[Block]:
    """All blocks, or those of one page, in order."""
    return [
        Block(name, number, found[1], found[3])
        for name, path in PAGES.items()
        if page in (None, name)
        for number, found in enumerate(FENCE.finditer(path.read_text(encoding="utf-8")), start=1)
    ]


def commands(text: str) -> list[str]:
    """The `winnow` lines of a shell block, continued lines joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("winnow ")]


@dataclass
class Reader:
    """Follows a page in `folder`: saves files, applies patches, runs Python, shell and SQL. What they print is kept."""

    folder: Path
    source: Path = REPOSITORY
    """Where `import search` finds it; a patch is applied to a copy."""
    cheap: dict[str, str] = field(default_factory=dict)
    """Options added to a command (`search`, `run`), so that an example for a GPU ends here."""
    output: str = ""

    def follow(self, block: Block, skipped: Set[str]) -> None:
        if block.file:
            (self.folder / block.file).write_text(block.text)
        elif block.language == "python":
            self._run([sys.executable, "-c", block.text], block)
        elif block.language == "sql":
            query = f"import duckdb\nprint(duckdb.sql({block.text.rstrip().rstrip(';')!r}).df())"
            self._run([sys.executable, "-c", query], block)
        elif block.language == "diff":
            # The line numbers of a hunk are left out in the docs: git needs them, its own search does the rest.
            self._patch(block)
        elif block.language == "sh":
            lines = [line for line in block.text.splitlines() if line.split("  ")[0].strip() not in skipped]
            self._run(["bash", "-ec", "\n".join(lines)], block)
        elif block.language != "text":
            raise AssertionError(f"{block}: no reader knows {block.language}")

    def shell(self, line: str) -> None:
        self._run(["bash", "-ec", line], line)

    def _run(self, command: list[str], block: Block | str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        shown = block if isinstance(block, str) else f"{block}\n{block.text}"
        assert done.returncode == 0, f"{shown}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        self.output += done.stdout

    def _environment(self) -> dict[str, str]:
        commands = self.folder.parent / "bin"
        commands.mkdir(exist_ok=True)
        added = "".join(f'{name}) set -- "$@" {options};; ' for name, options in self.cheap.items())
        _write_command(commands / "winnow", f'case "$1" in {added}esac\nexec "{sys.executable}" -m search "$@"\n')
        _write_command(commands / "python", f'exec "{sys.executable}" "$@"\n')
        return os.environ | {
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.source),
            "HOME": str(self.folder.parent),
            "COLUMNS": "100",
        }

    def _patch(self, block: Block) -> None:
        """Each hunk's old lines are replaced by its new ones; they must be there exactly once."""
        assert self.source != REPOSITORY, f"{block}: a patch is applied to a copy only"
        for part in re.split(r"^--- a/", block.text, flags=re.M)[1:]:
            file = self.source / part.splitlines()[0]
            for hunk in re.split(r"^@@.*\n", part, flags=re.M)[1:]:
                old = "".join(line[1:] + "\n" for line in hunk.splitlines() if line[0] in " -")
                new = "".join(line[1:] + "\n" for line in hunk.splitlines() if line[0] in " +")
                text = file.read_text(encoding="utf-8")
                assert text.count(old) == 1, f"{block}: does not apply to {file.name}:\n{old}"
                file.write_text(text.replace(old, new), encoding="utf-8")


def _write_command(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}")
    file.chmod(0o755)
