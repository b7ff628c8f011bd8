"""What a model prints is kept beside its checkpoint, and nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from winnow.search.training.prints import CUT, MOST_CHARACTERS, printing_to


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_prints_are_kept_and_added_to(tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "trial-00007.log"
    before = sys.stdout
    for text in ("first", "größer"):
        with printing_to(f"{scheme}{file}"):
            print(text)
    assert file.read_text(encoding="utf-8") == "first\ngrößer\n"
    assert sys.stdout is before


def test_nothing_printed_is_no_file(tmp_path: Path) -> None:
    with printing_to(str(tmp_path / "a.log")):
        pass
    assert not list(tmp_path.iterdir())


def test_prints_do_not_fill_the_disk(tmp_path: Path) -> None:
    with printing_to(str(tmp_path / "a.log")):
        for _ in range(30):
            print("x" * 100_000)
    text = (tmp_path / "a.log").read_text()
    assert text.endswith(CUT)
    assert len(text) == MOST_CHARACTERS + len(CUT)


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    with printing_to(str(tmp_path / "no" / "folder.log")):
        print("lost")


def test_a_stream_that_a_module_keeps_serves_the_next_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `def log(text, out=sys.stdout)` of a module that the first trial imports, or in a handler of `logging`."""
    with printing_to(str(tmp_path / "a.log")):
        kept = sys.stdout
        kept.close()
    print("between", file=kept, flush=True)
    with printing_to(str(tmp_path / "b.log")):
        print("second", file=kept)
        with printing_to(str(tmp_path / "c.log")):
            print("inner", file=kept)
        print("third")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "b.log": "second\nthird\n",
        "c.log": "inner\n",
    }
    assert capsys.readouterr().out == "between\n"
