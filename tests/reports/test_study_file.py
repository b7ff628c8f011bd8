"""A `study.yaml` of somebody else, or a damaged one: whatever a key holds, commands work or say which key is wrong."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.reading.study_file import check_study
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.terminal import show
from winnow.search.cli.main import main
from winnow.search.operations.execution import recorded_gpus
from winnow.spaces.errors import InputError

KeyPath = tuple[str | int, ...]
MORE = {
    "git_revision": None,
    "data_dir": "data",
    "storage": None,
    "log": ["wandb"],
    "then_retrain": True,
    "search_ended": "the time budget ended",
    "search_shortage": {
        "repeated": 3,
        "not_built": 0,
        "beyond": {"parameters": 9},
        "expected": 0,
        "every_config": False,
    },
    "devices": {
        "device": "cuda",
        "gpus_per_trial": 0.5,
        "threads": 2,
        "kinds": {"A100": {"trials_per_gpu": 2, "memory_mb": 40000}},
    },
    "own_code": {"my.net:build": "1a2b"},
    "retraining": {"top": None, "seeds": 3},
    "warm_start": {"run": "old", "trials_taken_over": 3},
    "earlier_runs": [
        {
            **dict.fromkeys(("data", "data_fingerprint", "machine", "winnow_version")),
            "run": "old",
            "family": ["cnn"],
            "trials_taken_over": 3,
        }
    ],
    "amendments": [
        {
            "time": "2026-09-21T15:00:00+00:00",
            "command": None,
            "changes": ["epochs: 8, not 6"],
            "before": {"settings": {"trials": 5}},
        }
    ],
}
WRONG = (None, "text", [], {}, -1, 3, math.nan, [1], {"a": 1}, 10**30, True)


def paths(tree: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The key paths of a tree; of a list only the first entry."""
    if path:
        yield path
    children = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:1] if isinstance(tree, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def changed(study: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    new = copy.deepcopy(study)
    place: Any = new
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return new


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "run")
    file = run / "study.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **MORE}))
    return run


@pytest.fixture(scope="module")
def study(run: Path) -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((run / "study.yaml").read_text())
    return whole


def test_what_winnow_writes_is_accepted(study: dict[str, Any]) -> None:
    check_study(study, "study.yaml")
    check_study({**study, "of_a_newer_version": 1, "settings": {"of_a_newer_version": 1}}, "study.yaml")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("settings", "trials"), "many", "settings.trials must be a whole number from 0 to .*, but got 'many'"),
        (("settings", "trials"), True, "settings.trials must be a whole number from 0 to .*, but got True"),
        (("settings", "objective"), "speed", "settings.objective must be one of validation_loss, .*, but got 'speed'"),
        (("settings", "objectives"), ["validation_accuracy"], "settings.objectives: `objectives` needs at least"),
        (("settings", "rungs", 0), -1, "settings.rungs.0 must be a whole number from 0 .*, but got -1"),
        (("data", "image_shape"), [1, 8], "data.image_shape must be a list of 3 values, but got"),
        (("data", "class_names"), ["0"], "data.summary.splits.train.by_class has 10 numbers, but there are 1 class_names"),
        (("data", "summary", "majority_share"), math.nan, "data.summary.majority_share must be a number from 0 to 1, but got nan"),
        (("devices", "kinds", "A100"), {}, "devices.kinds.A100.trials_per_gpu is missing"),
        (("amendments", 0), {}, "amendments.0.before is missing"),
        (("earlier_runs", 0, "family"), "cnn", "earlier_runs.0.family must be a list, but got 'cnn'"),
        (("retraining",), [], r"retraining must be a mapping, but got \[\]"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(study: dict[str, Any], path: KeyPath, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"study.yaml: {message}.*; take it from a copy of the run$"):
        check_study(changed(study, path, value), "study.yaml")


@settings(max_examples=60, deadline=None)
@given(choice=st.data())
def test_no_value_crashes_a_command(run: Path, study: dict[str, Any], choice: st.DataObject) -> None:
    known = [path for path in paths(study) if path[0] != "space"]
    path, value = choice.draw(st.sampled_from(known)), choice.draw(st.sampled_from(WRONG))
    other = changed(study, path, value)
    (run / "study.yaml").write_text(yaml.safe_dump(other))
    console = Console(file=io.StringIO(), width=100)
    with suppress(InputError):
        read = reports.read(run)
        show(read, console)
        show_trial(read, console, 17)
        recorded_gpus(other)
        for name in ("data", "environment", "memory", "winners"):
            read.rows(name)


@pytest.mark.parametrize("command", ["show", "report", "retrain", "resume"])
def test_commands_refuse_it_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    file = make_run(tmp_path / "run") / "study.yaml"
    file.write_text(yaml.safe_dump(changed(yaml.safe_load(file.read_text()), ("data", "summary"), "none")))
    with pytest.raises(SystemExit) as ended:
        main([command, str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert (ended.value.code, "Traceback" in error) == (2, False), error
    assert re.search("study.yaml: damaged or cut short: data.summary must be a mapping, but got 'none'", error)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("winnow.provenance", "{", "metadata is damaged .JSONDecodeError"),
        ("winnow.provenance", "[]", "metadata is damaged .TypeError"),
        ("winnow.provenance", json.dumps({"settings": {"trials": "many"}, "data": {}}), "metadata is damaged: settings.trials must be "),
        ("winnow.notes", "7", "metadata is damaged .TypeError"),
    ],
)  # fmt: skip
def test_a_table_whose_metadata_is_damaged_is_refused(tmp_path: Path, key: str, text: str, message: str) -> None:
    file = reports.write(make_run(tmp_path / "run")).parent / "trials.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key.encode(): text.encode()}), file)
    file.parent.rename(tmp_path / "report")
    with pytest.raises(InputError, match=rf"trials\.parquet: the provenance in its {message}"):
        reports.read(tmp_path / "report")


def test_secrets_that_an_earlier_version_recorded_reach_no_report(tmp_path: Path) -> None:
    """Versions before 0.2 took them in `--storage`. The run itself still needs the URI."""
    path = make_run(tmp_path / "a")
    uri, shown = "s3://AKIA:123/s3cr3t@bucket/runs", "s3://***@bucket/runs"
    study = yaml.safe_load((path / "study.yaml").read_text())
    study |= {"storage": f"{uri}/a", "command": f"winnow run digits --storage {uri} --trials 3"}
    before = {"settings": study["settings"], "space": study["space"]}
    command = f"winnow resume a --set data.path={uri}"
    study["amendments"] = [{"time": study["created"], "command": command, "before": before}]
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    report = reports.write(path)
    tables = list(report.parent.glob("*.parquet"))
    assert tables
    for file in tables:
        metadata = pq.read_metadata(file).metadata
        assert b"s3cr3t" not in b"".join(metadata.values())
        assert f"{shown}/a" in json.loads(metadata[b"winnow.provenance"])["storage"]
        assert "s3cr3t" not in str(pq.read_table(file).to_pylist())
    assert "s3cr3t" not in report.read_text()
    assert uri in (path / "study.yaml").read_text()
