"""The code blocks of README and docs, and how a reader would run them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.helpers.nodes import free_port

DOCS = REPOSITORY / "docs"
PAGES = {
    page.relative_to(REPOSITORY).as_posix(): page
    for page in [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
        *sorted(DOCS.rglob("*.md")),
    ]
}
NOT_FOLLOWED = ("text", "mermaid")
"""Languages of blocks that nobody runs."""
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```", re.S | re.M)
SECTION = re.compile(r"^##+ (.*)$", re.M)
EXIT_CODE = re.compile(r"\(exit code (\d+)\)")
SERVERS = ("tensorboard ", "optuna-dashboard ")
NO_REPOSITORY = os.environ | {"GIT_CEILING_DIRECTORIES": tempfile.gettempdir()}
"""In a folder within a repository, `git apply` would leave out files that the repository does not track."""


@dataclass(frozen=True)
class Block:
    page: str
    """Its path in the repository."""
    section: str
    """The heading above it, empty at the top of a page."""
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


def blocks(page: str | None = None, section: str | None = None) -> list[Block]:
    """All blocks, or those of one page, or of one section of it, in order."""
    found = []
    for name, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        for number, fence in enumerate(FENCE.finditer(text), start=1):
            above = SECTION.findall(text, 0, fence.start())
            block = Block(name, above[-1] if above else "", number, fence[1], fence[3])
            if page in (None, name) and section in (None, block.section):
                found.append(block)
    assert found or section is None, f"no block in {page}, {section}"
    return found


def commands(text: str) -> list[str]:
    """The `winnow` lines of a shell block, continued lines joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("winnow ")]


def command_of(line: str) -> str:
    """Without the comment that is set apart by two blanks."""
    return line.split("  ")[0].strip()


@dataclass
class Reader:
    """Follows a page in `folder`: saves files, applies patches, runs Python, shell and SQL. What they print is kept."""

    folder: Path
    source: Path = REPOSITORY
    """The checkout that `import winnow` finds; a patch is applied to a copy, see `copy_source`."""
    cheap: dict[str, str] = field(default_factory=dict)
    """Options added to a command (`search`, `run digits`; the first that fits), so that an example for a GPU ends here."""
    places: dict[str, str] = field(default_factory=dict)
    """What stands here for the folders and addresses of a page (`/shared`, `HEAD:6379`)."""
    preamble: str = ""
    """Python that runs before every `winnow`: where downloads come from."""
    python: Path = Path(sys.executable)
    output: str = ""

    def follow(self, block: Block, skipped: Set[str] = frozenset()) -> None:
        if block.file:
            (self.folder / block.file).write_text(block.text)
        elif block.language == "python":
            self._run([sys.executable, "-c", block.text], str(block))
        elif block.language == "sql":
            query = f"import duckdb\nprint(duckdb.sql({block.text.rstrip().rstrip(';')!r}).df())"
            self._run([sys.executable, "-c", query], str(block))
        elif block.language == "diff":
            self.patch(block)
        elif block.language == "sh":
            self.shell("\n".join(line for line in block.text.splitlines() if command_of(line) not in skipped))
        elif block.language not in NOT_FOLLOWED:
            raise AssertionError(f"{block}: no reader knows {block.language}")

    def shell(self, text: str) -> None:
        """Runs the lines. A server is started, asked until it answers, and ended; what shall fail is held to do so."""
        for said, here in self.places.items():
            text = text.replace(said, here)
        if "pip install" in text:
            self.own_environment()
        script: list[str] = []
        for line in [*text.splitlines(), None]:
            if line is not None and not line.startswith(SERVERS):
                code = EXIT_CODE.search(line)
                script.append(f"if {command_of(line)}; then false; else [ $? = {code[1]} ]; fi" if code else line)
                continue
            if script:
                self._run(["bash", "-ec", "\n".join(script)], "\n".join(script))
                script = []
            if line is not None:
                self._serve(line)

    def own_environment(self) -> None:
        """What `pip install` brings is not for the environment of the tests, whose packages are all found here too."""
        if self.python == Path(sys.executable):
            venv.create(self.folder.parent / "own", with_pip=True, symlinks=True)
            (site,) = (self.folder.parent / "own").glob("lib/python*/site-packages")
            (site / "tests.pth").write_text(sysconfig.get_path("purelib"))
            self.python = self.folder.parent / "own" / "bin" / "python"

    def stand_in(self, name: str, script: str) -> None:
        """A shell script that is found before any other command `name`."""
        file = self._commands() / name
        file.write_text(f"#!/bin/bash\n{script}")
        file.chmod(0o755)

    def environment(self) -> dict[str, str]:
        winnow = self._commands() / "run_winnow.py"  # not winnow.py, which `import winnow` would find
        winnow.write_text(
            f"{self.preamble}\nfrom winnow.search.cli.main import main\nif __name__ == '__main__':\n    main()\n"
        )
        added = "".join(f'"{name} "*) set -- "$@" {options};;\n' for name, options in self.cheap.items())
        self.stand_in("winnow", f'case "$* " in {added}esac\nexec "{self.python}" "{winnow}" "$@"\n')
        for name in ("python", "python3"):
            self.stand_in(name, f'exec "{self.python}" "$@"\n')
        first = (self._commands(), self.python.parent, Path(sys.executable).parent)
        return os.environ | {
            "PATH": os.pathsep.join([*map(str, first), os.environ["PATH"]]),
            "PYTHONPATH": f"{self.source / '.src'}{os.pathsep}{self.source}",
            "HOME": str(self.folder.parent),
            "PIP_CONFIG_FILE": os.environ.get("PIP_CONFIG_FILE", str(Path.home() / ".config" / "pip" / "pip.conf")),
            "COLUMNS": "100",
            "no_proxy": "127.0.0.1",
        }

    def _commands(self) -> Path:
        folder = self.folder.parent / "bin"
        folder.mkdir(exist_ok=True)
        return folder

    def _run(self, command: list[str], shown: str) -> None:
        process = self._start(command)
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == 0, f"{shown}\n{said[-4000:]}"
        self.output += said

    def _serve(self, line: str) -> None:
        port = free_port()
        server = self._start([*shlex.split(line, comments=True), "--port", str(port)])
        try:
            deadline = time.monotonic() + 120
            while not _answers(f"http://127.0.0.1:{port}/"):
                assert server.poll() is None, f"{line}\n{server.communicate()}"
                assert time.monotonic() < deadline, line
                time.sleep(0.5)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def copy_source(self) -> None:
        """Give this reader a checkout of its own, which patches may change."""
        self.source = self.folder.parent / "source"
        for package in (".src", "winnow", "spaces", "models", "search", "reports", "docs"):
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / package, self.source / package, symlinks=True, ignore=unwanted)

    def patch(self, block: Block) -> None:
        """Apply a diff as a reader would, with `git apply`."""
        assert self.source != REPOSITORY, f"{block}: a patch is applied to a copy only"
        done = subprocess.run(
            ["git", "apply", "-"], cwd=self.source, input=block.text, text=True, capture_output=True, env=NO_REPOSITORY
        )
        assert done.returncode == 0, f"{block} does not apply:\n{done.stderr}"


@cache
def index_is_reached() -> bool:
    """Whether pip, as it is set up here, can install anything."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, "optuna-dashboard"]
        return subprocess.run(asked, capture_output=True).returncode == 0


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
