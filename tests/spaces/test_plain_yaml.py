"""A received study.yaml or config.yaml is refused in words within a second, whatever it does with aliases and depth."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
import yaml

from tests.helpers.make_run import make_run
from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.run import read_study
from winnow.reports.reading.training import read_training
from winnow.search.cli.main import main
from winnow.search.operations.trust import check_export_code
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import read_journal
from winnow.search.winners.winner import load_export
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import MAX_BYTES, MAX_HEIGHT, MAX_NODES, load_plain

LETTERS = "abcdefghijkl"
LAUGHS = "\n".join(
    [
        f"a: &a [{', '.join('x' * 10)}]",
        *(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(LETTERS)),
    ]
)
HOSTILE = {
    "aliases": (LAUGHS, f"expand to more than {MAX_NODES:,} values"),
    "merges": (LAUGHS.replace("[x", "{x: 1, y: [x").replace("x]", "x]}"), "expand to more than"),
    "itself": ("a: &a {b: [*a]}", "contains itself"),
    "deep": ("a: " + "[" * 150 + "]" * 150, f"nested more than {MAX_HEIGHT} deep"),
    "deeper": ("a: " + "[" * 5000 + "]" * 5000, f"nested more than {MAX_HEIGHT} deep"),
    "deep by aliases": (
        "a0: &a0 [x]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [*a{n}]" for n in range(150)),
        f"nested more than {MAX_HEIGHT} deep",
    ),
    "flat": ("a: [" + "1, " * 5_000_000 + "1]", f"has more than {MAX_NODES:,} values"),
    "no date": ("a: 2001-99-99", "month must be in 1..12"),
    "digits": ("a: " + "9" * 5000, "integer string conversion"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(kind: str, tmp_path: Path) -> None:
    text, problem = HOSTILE[kind]
    begin = time.process_time()
    with pytest.raises(yaml.YAMLError, match=problem):
        load_plain(text)
    assert time.process_time() - begin < 1
    (tmp_path / "study.yaml").write_text(f"schema_version: 1\nspace: {{}}\nsettings: {{}}\ndata: {{}}\n{text}\n")
    with pytest.raises(InputError, match=problem):
        read_study(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    check_export_code(tmp_path, trusted=False)  # what loads it next refuses it:
    (tmp_path / "model.json").write_text('{"export_version": 1}')
    for load in (load_export, read_training):
        with pytest.raises(InputError, match=problem):
            load(tmp_path)


def test_a_large_file_and_a_pipe_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"export_version": 1}')
    (tmp_path / "study.yaml").write_text("a: b\n")
    for name, load in (("study.yaml", read_study), ("config.yaml", load_export), ("config.yaml", read_training)):
        with (tmp_path / name).open("w") as file:
            file.truncate(MAX_BYTES + 1)
        with pytest.raises(InputError, match="larger than 20 MB"):
            load(tmp_path)
    (tmp_path / "config.yaml").unlink()
    os.mkfifo(tmp_path / "config.yaml")
    check_export_code(tmp_path, trusted=False)
    for load in (load_export, read_training):
        with pytest.raises(InputError, match="not a file"):
            load(tmp_path)


def test_every_command_on_a_run_refuses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", stage="searched")
    study = run / "study.yaml"
    study.write_text(study.read_text() + LAUGHS)
    for command in ("show", "report", "resume", "retrain", "export"):
        with pytest.raises(SystemExit) as ended:
            main([command, str(run)])
        assert ended.value.code == 2
        assert "study.yaml: cannot be read as YAML: its aliases expand" in capsys.readouterr().err


def test_other_files_are_read_as_before(tmp_path: Path) -> None:
    tree = {"a": [1, 2.5, None, True, "x"], "b": {"c": "1e-4"}}
    tree["again"] = tree["b"]  # PyYAML writes an alias for it
    assert load_plain(yaml.safe_dump(tree)) == tree
    assert load_plain("") is None
    text = (make_run(tmp_path / "run", stage="searched") / "study.yaml").read_text()
    assert load_plain(text) == yaml.safe_load(text)


def test_a_line_that_is_nested_too_deeply_is_a_damaged_one(tmp_path: Path) -> None:
    file = tmp_path / "epochs.jsonl"
    file.write_text('{"epoch": 1}\n' + "[" * 100_000 + '\n{"epoch": 2}\n')
    assert list(read_json_lines(file)) == [{"epoch": 1}, {"epoch": 2}]
    lines, notes = read_lines(file, {"epoch": (int,)})
    assert (len(lines), notes) == (2, ["epochs.jsonl: 1 damaged lines were left out (line 2)"])
    with pytest.raises(InputError, match="line 2: not JSON"):
        list(read_journal(file))
