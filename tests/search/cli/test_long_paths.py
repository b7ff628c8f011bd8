"""A name or path that the file system does not take is refused in one sentence by every command, before anything else happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cases import tree
from tests.helpers.make_run import make_run
from winnow.search.cli.main import main

TOO_LONG = {"ascii": "a" * 300, "utf8": "ü" * 150, "path": "/".join(["d" * 200] * 25)}
WORDS = ("longer than the file system allows", "File name too long", "a name has at most", "use at most")
RUN = [
    "show LONG",
    "show LONG --trial 1",
    "show LONG --follow",
    "query LONG trials",
    "compare LONG run",
    "compare run LONG",
    "serve LONG",
    "report LONG",
    "export LONG",
    "rerun LONG --trial 0",
    "verify LONG --trial 0",
    "resume LONG",
    "extend LONG --trials 1",
    "retrain LONG",
]
SPACE = ["search LONG", "run LONG", "train LONG", "spaces LONG", "plan LONG --no-probe", "launch LONG --on slurm"]
OTHERS = [
    "search digits --name LONG",
    "run digits --name LONG",
    "search digits --runs-dir LONG",
    "run digits --runs-dir LONG",
    "run digits --runs-dir LONG --name x",
    "search digits --warm-start LONG",
    "search digits --learn-from LONG",
    "search digits --storage LONG",
    "resume run --space LONG",
    "train recipes/digits-baseline --output LONG",
    "bench-recipes cifar10-c1 --output LONG",
    "launch digits --on slurm --output LONG",
    "export run --output LONG",
    "predict LONG x.png",
    "predict run LONG",
    "predict mine x.png --output LONG.csv",
    "init LONG",
    "init images --output LONG",
    "prepare LONG",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    make_run(folder / "run", "searched")
    tree(folder / "images")
    return folder


@pytest.mark.parametrize("what", TOO_LONG)
@pytest.mark.parametrize("command", [*RUN, *SPACE, *OTHERS])
def test_a_path_that_is_too_long_is_one_sentence(
    command: str, what: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    with pytest.raises(SystemExit) as exit_:
        main([word.replace("LONG", TOO_LONG[what]) for word in command.split()])
    output = capfd.readouterr()
    assert exit_.value.code == 2
    assert len(output.err.splitlines()) == 1, output.err[-2000:]
    assert any(words in output.err for words in WORDS)
    assert sorted(place.rglob("*")) == before
