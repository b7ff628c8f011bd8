"""Runs that go on otherwise than they began, start warm, or are trained again: the real commands on real Ray and real data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.search.operations.test_search import QUICK, lines_of, study_of
from winnow import reports
from winnow.search.cli.main import main

FIGURES = ("trial", "epoch", "seed", "train_loss", "validation_loss", "validation_accuracy", "rung", "decision")


def winnow(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


def curves(run: Path) -> list[tuple]:
    return [tuple(line[key] for key in FIGURES) for line in lines_of(run)]


def configs(run: Path) -> list[dict]:
    return [trial.user_attrs["config"] for trial in study_of(run).trials]


def study_yaml(run: Path) -> dict:
    return yaml.safe_load((run / "study.yaml").read_text())


@pytest.fixture(scope="module")
def searched(shared_ray, tmp_path_factory) -> Path:
    """A finished search of six trials by one worker; tests copy it."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "quick.yaml").write_text(QUICK)
    command = ["search", str(folder / "quick.yaml"), "--trials", "6", "--concurrent", "1", "--runs-dir", str(folder)]
    assert winnow(*command, "--seed", "2", "--name", "r") == 0
    return folder / "r"


@pytest.fixture
def run(searched, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(QUICK)
    return Path(shutil.copytree(searched, "runs/r"))


@pytest.fixture
def refused(run, capsys) -> Callable[..., str]:
    """The message of a command that must end with 2 and leave the run as it was."""

    def call(*arguments: str) -> str:
        before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        assert winnow(*arguments) == 2
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
        return capsys.readouterr().err

    return call


@pytest.mark.slow
def test_the_same_seed_gives_the_same_search(run, capsys):
    """With one worker: suggestions, verdicts and every figure of every epoch, bit for bit. And each trial alone once more."""
    assert winnow("search", "quick.yaml", "--trials", "6", "--concurrent", "1", "--seed", "2", "--name", "again") == 0
    assert configs(Path("runs/again")) == configs(run)
    assert curves(Path("runs/again")) == curves(run)
    capsys.readouterr()
    for number in range(6):
        assert winnow("rerun", "r", "--trial", str(number)) == 0
        epochs = sum(line["trial"] == number for line in lines_of(run))
        assert f"trial {number}: all figures of {epochs} epochs are bit-for-bit equal" in capsys.readouterr().out


def test_a_rerun_says_where_and_why_it_differs(run, capsys):
    """A recorded figure that is off by little, and a run that was made elsewhere."""
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    longest = max(lines, key=lambda line: line["epoch"])["trial"]
    third = next(line for line in lines if line["trial"] == longest and line["epoch"] == 3)
    third["validation_loss"] += 1e-6
    (run / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = study_yaml(run)
    study["versions"]["torch"] = "1.0"
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    assert winnow("rerun", "r", "--trial", str(longest)) == 1
    said = capsys.readouterr().out
    assert f"trial {longest}: first difference at epoch 3: validation_loss was" in said
    assert "(difference -1e-06)" in said
    assert "torch: 1.0 then" in said
    assert winnow("rerun", "r", "--trial", str(longest), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["equal"], found["first"]["epoch"], found["first"]["figure"]) == (False, 3, "validation_loss")
    assert winnow("rerun", "r", "--trial", "99") == 2


@pytest.mark.slow
def test_more_trials_and_longer_ones(run):
    before = curves(run)
    ended = {trial.number: trial.value for trial in study_of(run).trials if trial.value is not None}
    assert winnow("extend", "r", "--trials", "2") == 0
    assert len(study_of(run).trials) == 8
    study = study_yaml(run)
    assert study["settings"]["trials"] == 8
    assert [amendment["before"]["settings"] for amendment in study["amendments"]] == [{"trials": 6}]
    assert "extend r --trials 2" in study["amendments"][0]["command"] or study["amendments"][0]["versions"]
    assert curves(run)[: len(before)] == before
    assert winnow("retrain", "r", "--seeds", "1") == 0

    assert winnow("extend", "r", "--max-epochs", "10") == 0
    study = study_yaml(run)
    assert (study["settings"]["max_epochs"], study["settings"]["rungs"]) == (10, [1, 3, 9])
    assert study["amendments"][-1]["changes"] == ["epochs: changed from 4 to 10"]
    trials = study_of(run).trials
    completed = [t for t in trials if t.number < 8 and t.user_attrs["status"] == "completed"]
    again = [t for t in trials if t.user_attrs["source"].startswith("further:")]
    assert {t.number: t.value for t in trials if t.number in ended} == ended  # what was is as it was
    assert {t.user_attrs["source"] for t in again} == {f"further:{t.number}" for t in completed}
    best = max(completed, key=lambda t: t.value)
    assert again[0].user_attrs["config"] == {**best.user_attrs["config"], "epochs": 10}
    assert len(trials) == 8 + len(again)
    rows = reports.read(run).trials.to_pylist()
    assert [row["in_space"] for row in rows] == [row["trial"] >= 8 for row in rows]

    assert winnow("retrain", "r", "--seeds", "1") == 0
    lines = [json.loads(line) for line in (run / "retrain.jsonl").read_text().splitlines()]
    assert {line["config"]["epochs"] for line in lines} == {10}
    assert all(line["trial"] >= 8 or line["baseline"] for line in lines)
    assert (run / "retrain.earlier.jsonl").read_text().count('"epochs":4')
    assert reports.winners_table(run)[0]["trial"] >= 8


@pytest.mark.slow
def test_time_alone_asks_for_as_many_trials_as_fit(run, capsys):
    assert winnow("extend", "r", "--time-budget", "2s") == 0
    assert len(study_of(run).trials) > 6
    study = study_yaml(run)
    assert (study["settings"]["trials"], study["settings"]["time_budget_seconds"]) == (None, 2)
    assert "time budget used up" in capsys.readouterr().out


NARROWER = (
    "--set",
    "optimizer.name=adam",
    "--set",
    "model.dropout={float: [0.0, 0.1]}",
    "--set",
    "gradient_clip={float: [1, 2]}",
)


def test_a_changed_space_must_be_accepted(run, refused):
    for command in ("resume", "extend"):
        message = refused(command, "r", *NARROWER)
        for words in (
            "optimizer: narrowed by sgd",
            "model.dropout: narrowed from {float: [0.0, 0.3]} to {float: [0.0, 0.1]}",
            "gradient_clip: added {float: [1.0, 2.0]} (had its default)",
            "0 of 6 trials lie in it",
            "--accept-space-change",
        ):
            assert words in message
    assert "other images" in refused("resume", "r", "--set", "data.validation=0.3", "--accept-space-change")
    assert "above the 4 epochs" in refused("extend", "r", "--max-epochs", "3")
    assert "optimiser" in refused("resume", "r", "--set", "optimiser.lr=1", "--accept-space-change")
    assert "give --trials, --time-budget or --max-epochs" in refused("extend", "r")


@pytest.mark.slow
def test_a_changed_space_hides_what_lies_outside(run):
    """Trials of an optimizer that is gone stay in the report; sampler, rungs, incumbent and winners are of what is searched now."""
    gone = configs(run)[0]["optimizer"]["name"]
    given = {"sgd": "sgd: {lr: {log: [0.01, 0.1]}}", "adam": "adam: {lr: {log: [0.001, 0.01]}}"}[gone]
    assert QUICK.count(given) == 1
    (Path("adam.yaml")).write_text(QUICK.replace(given, "adamw: {lr: {log: [0.001, 0.1]}}"))
    assert winnow("extend", "r", "--space", "adam.yaml", "--accept-space-change", "--trials", "5") == 0
    trials = study_of(run).trials
    outside = {t.number for t in trials if t.user_attrs["config"]["optimizer"]["name"] == gone}
    assert len(trials) == 11
    assert outside
    assert max(outside) < 6
    names = {t.user_attrs["config"]["optimizer"]["name"] for t in trials if t.number >= 6}
    assert names <= {"adam", "sgd", "adamw"} - {gone}
    rows = reports.read(run).trials.to_pylist()
    assert {row["trial"] for row in rows if not row["in_space"]} == outside
    for row, trial in zip(rows, trials, strict=True):
        assert row["optimizer.name"] == trial.user_attrs["config"]["optimizer"]["name"]
        assert row["optimizer.lr"] == trial.user_attrs["config"]["optimizer"]["lr"]
    assert (run / "report" / "report.html").exists()
    assert winnow("retrain", "r", "--seeds", "1") == 0
    assert not {row["trial"] for row in reports.winners_table(run)} & outside
    assert winnow("resume", "r") == 0  # complete: nothing more to do
    assert len(study_of(run).trials) == 11


@pytest.mark.slow
def test_a_warm_start(run, refused):
    """Old trials inform the sampler from the first trial on; they are not run again, and are no trials of the new run."""
    assert winnow("search", "quick.yaml", "--warm-start", "r", "--trials", "3", "--seed", "2", "--name", "warm") == 0
    warm = Path("runs/warm")
    facts = study_yaml(warm)["warm_start"]
    assert (facts["run"], facts["trials_taken_over"]) == ("r", 6)
    assert facts["data_fingerprint"] == study_yaml(run)["data"]["fingerprint"]
    old = [json.dumps(config) for config in configs(run)]
    assert len(configs(warm)) == 3
    assert not set(map(json.dumps, configs(warm))) & set(old)
    assert len(reports.read(warm).trials) == 3
    shutil.rmtree(run)  # what was taken over is the new run's
    assert winnow("extend", "warm", "--trials", "1") == 0
    assert len(configs(warm)) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "1"], "validation images: 2 there, 1 here"),
        (["--seed", "2", "--set", "epochs=5"], "epochs: 4 there, 5 here"),
        (
            ["--seed", "2", "--objective", "validation_loss"],
            "objective: validation_accuracy there, validation_loss here",
        ),
        (["--seed", "2", "--set", "data.validation=0.3"], "validation split: 0.2 there, 0.3 here"),
        (["--seed", "2", "--set", "data.limit=500"], "data fingerprint"),
        (["--seed", "2", "--set", "batch_size=64"], "none of its 6 ended trials lies in this space"),
    ],
)
def test_a_warm_start_of_what_does_not_compare(refused, arguments, expected):
    assert expected in refused("search", "quick.yaml", "--warm-start", "r", "--name", "new", *arguments)
    assert not Path("runs/new").exists()
