"""The stages of a run: how far each is, and one next command, which every command names and which leads in no circle."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from tests.helpers.accepting import ACCEPTED, accept_instead_of_training
from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from tests.search.cli.test_cli import winnow  # noqa: F401
from winnow import reports
from winnow.reports.reading.parquet_reader import fingerprint
from winnow.reports.tables.candidates import candidates, has_candidates
from winnow.reports.text.advice import advice
from winnow.reports.text.next_step import next_step, retraining
from winnow.reports.text.summary import sentences
from winnow.reports.text.written_advice import write_advice, written_advice
from winnow.search.operations.searching import _early_end
from winnow.search.ray_backend.tune import Outcome
from winnow.search.samplers.suggester import Shortage
from winnow.search.settings import Settings
from winnow.search.storage.run_folder import RunFolder, space_of
from winnow.search.study.amendments import write_end, write_start
from winnow.search.study.completed import completed_trials
from winnow.spaces import catalog
from winnow.spaces.trial_status import TrialStatus
from winnow.spaces.winners import baseline_config, may_win

Maker = Callable[[Path], Path]


def with_settings(folder: Path, settings: dict[str, Any], **entries: Any) -> Path:
    file = folder / "study.yaml"
    study = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**study, **entries, "settings": study["settings"] | settings}))
    return folder


def cut_retraining(folder: Path, trainings: int) -> Path:
    """Leave the first trainings, in the order in which a retraining does them: each seed of all configs before the next one."""
    file = make_run(folder) / "retrain.jsonl"
    lines = sorted(file.read_text().splitlines(), key=lambda line: json.loads(line)["seed"])
    file.write_text("".join(line + "\n" for line in lines[:trainings]))
    return folder


def fail_all(folder: Path) -> Path:
    file = make_run(folder) / "retrain.jsonl"
    failed = {
        "status": "failed",
        "error": "ValueError: no",
        "test_accuracy": None,
        "predictions": None,
        "weights": None,
    }
    lines = [json.loads(line) | failed for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def first_lines(folder: Path, num: int) -> Path:
    file = folder / "retrain.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:num]))
    return folder


def all_diverged(folder: Path) -> Path:
    file = make_run(folder, "searched", completed="none") / "study.journal"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if (line.get("user_attrs") or {}).get("status") in ("stopped", "failed", "out_of_memory", "infeasible"):
            line["user_attrs"]["status"] = "diverged"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def audited(folder: Path) -> Path:
    """A retrained run whose audit was interrupted before any of its trials reached the end."""
    file = with_settings(make_run(folder), {"audit": 0.5}) / "study.journal"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if (line.get("user_attrs") or {}).get("status") == "stopped":
            line["user_attrs"]["audited"] = True
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


TOO_FEW = Shortage(3, 10, {"parameters": 4990}, expected=2, every_config=False)
STATES: dict[str, tuple[Maker, str | None]] = {
    "before the first trial": (lambda folder: make_run(folder, "empty"), "resume"),
    "after the first epochs": (lambda folder: make_run(folder, "first_epoch"), "resume"),
    "in the search": (lambda folder: make_run(folder, "searching"), "resume"),
    "extended": (lambda folder: with_settings(make_run(folder), {"trials": 34}), "resume"),
    "nothing completed": (lambda folder: make_run(folder, "searched", completed="none"), "extend"),
    "the baseline completed": (lambda folder: make_run(folder, "searched", completed="baseline"), "extend"),
    "out of time, nothing completed": (
        lambda folder: make_run(folder, "first_epoch", study={"search_ended": "time"}),
        "resume",
    ),
    "exhausted, nothing completed": (
        lambda folder: with_settings(
            make_run(folder, "searched", completed="none"), {"trials": 99}, search_ended="exhausted"
        ),
        "show",
    ),
    "nothing within the limits": (
        lambda folder: with_settings(
            make_run(folder, "searched", completed="none"),
            {"trials": 99},
            search_ended="refused",
            search_shortage=asdict(TOO_FEW),
        ),
        "show",
    ),
    "searched": (lambda folder: make_run(folder, "searched"), "retrain"),
    "out of time": (lambda folder: make_run(folder, "searching", study={"search_ended": "time"}), "retrain"),
    "without gain": (
        lambda folder: with_settings(make_run(folder, "searched"), {"trials": 99}, search_ended="no gain"),
        "retrain",
    ),
    "in the retraining": (lambda folder: cut_retraining(folder, 5), "retrain"),
    "all retrainings failed": (fail_all, None),
    "all failed so far": (lambda folder: first_lines(fail_all(folder), 5), "retrain"),
    "all diverged": (lambda folder: all_diverged(folder), "extend"),
    "audit unfinished": (audited, None),
    "done": (make_run, None),
}
"""State of a run -> what makes it, and the command of its next step."""


@pytest.fixture(params=STATES)
def state(request, tmp_path: Path) -> tuple[Path, str | None]:
    make, verb = STATES[request.param]
    return make(tmp_path / "runs" / "one"), verb


def commands_in(text: str) -> list[str]:
    """The commands that a text advises: those after `next`, or after a sentence and a colon."""
    return re.findall(r"(?:^next +|: )(winnow .*)$", text, re.MULTILINE)


def test_every_command_names_the_same_next_step(state, winnow, monkeypatch):  # noqa: F811
    """In each state, show, export, load and mistakes name one command; it is accepted, and no command sends the user back."""
    accept_instead_of_training(monkeypatch)
    path, verb = state
    run = reports.read(path)
    step = next_step(run)
    assert (None if step is None else step.command.split()[1]) == verb
    named = {}
    for words in (["show", "one"], ["show", "one", "--mistakes"], ["retrain", "one"]):
        done = winnow(*words)
        named[words[-1]] = commands_in(done.stdout + done.stderr)
        if ACCEPTED not in done.stderr:
            assert done.returncode in (0, 2), done.stderr
    if step is None:
        assert not any(named.values())
        return
    expected = step.command.replace(str(path), "runs/one")
    assert named["one"] in ([expected], []), "retrain is accepted, or says the same"
    assert named["--mistakes"] in ([expected], []), "there are mistakes, or the way to them is named"
    assert commands_in(winnow("show", "one").stdout) == [expected]
    done = winnow(*shlex.split(expected)[1:])
    assert ACCEPTED in done.stderr or (verb == "show" and done.returncode == 0), done.stderr


def test_the_first_advice_is_the_next_step_and_is_accepted(state, winnow, monkeypatch):  # noqa: F811
    accept_instead_of_training(monkeypatch)
    run = reports.read(state[0])
    step, pieces = next_step(run), advice(run)
    if run.trial_rows():
        assert pieces
        assert step in (None, pieces[0])
        done = winnow(*shlex.split(pieces[0].command)[1:])
        assert ACCEPTED in done.stderr or done.returncode == 0, done.stderr


def test_advice_that_no_longer_applies_is_not_shown(tmp_path, monkeypatch):
    path = make_run(tmp_path / "one")
    run = reports.read(path)
    (path / "report").mkdir()
    assert written_advice(run) is None
    write_advice(advice(run)[0], run, path / "report", fingerprint(path))
    assert written_advice(run) == advice(run)[0]
    (path / "report" / "advice.json").write_text("{")
    assert written_advice(run) is None
    monkeypatch.chdir(path.parent)
    near = reports.read(Path("one"))
    write_advice(advice(near)[0], near, path / "report", fingerprint(path))
    assert written_advice(run) == advice(near)[0]
    monkeypatch.chdir(path)
    assert written_advice(run) is None, "the command names the run by a path that leads nowhere from here"
    monkeypatch.chdir(path.parent)
    with (path / "retrain.jsonl").open("a") as file:
        file.write("\n")
    assert written_advice(run) is None


def test_show_ends_with_the_first_advice_and_its_reason(state, winnow):  # noqa: F811
    """Also if the run is finished, so that no stage is left."""
    path = state[0].relative_to(Path.cwd())
    run = reports.read(path)
    first = next(iter(advice(run)), next_step(run))
    assert first is not None
    (path / "report").mkdir()
    if advice(run):
        write_advice(first, run, path / "report", fingerprint(path))
    words = winnow("show", "one").stdout.split()
    assert " ".join(words).endswith(" ".join(f"{first.text} next {first.command}".split()))


@pytest.mark.parametrize("completed", ["all", "baseline", "none"])
def test_reports_know_the_candidates_that_retraining_chooses_from(tmp_path, completed):
    folder = RunFolder(make_run(tmp_path / "one", "searched", completed=completed))
    run = reports.read(folder.path)
    chosen = completed_trials(folder, space_of(folder), Settings.from_dict(folder.read_study()["settings"])).winners
    known = candidates(run, run.trial_rows(), [])
    assert [row["trial"] for row in known] == [trial.number for trial in chosen]
    assert bool(known) is (completed == "all")


@pytest.mark.parametrize(
    ("trainings", "options", "counts", "words"),
    [
        (5, {}, (4, 5, 2), "4 of 9 trainings of the winners are done, 5 are still to come"),
        (10, {}, (8, 1, 1), "8 of 9 trainings of the winners are done, 1 is still to come"),
        (5, {"top": 1, "seeds": 2}, (2, 0, 1), "1 training of the baseline is still to come"),
        (5, {"top": 1, "seeds": 3}, (2, 1, 2), "2 of 3 trainings of the winners are done, 1 is still to come"),
    ],
)
def test_a_report_says_how_far_retraining_is(tmp_path, winnow, trainings, options, counts, words):  # noqa: F811
    folder = cut_retraining(tmp_path / "runs" / "one", trainings)
    if options:
        with_settings(folder, {}, retraining={**options, "keep_validation": False})
    run = reports.read(folder)
    state = retraining(run, run.trial_rows())
    assert (state.done, state.left, state.baseline_left) == counts
    assert any(words in sentence for sentence in sentences(run))
    shown = " ".join(winnow("show", "one").stdout.split())
    assert words in shown
    own = "".join(f" --{key} {value}" for key, value in options.items() if value != 3)
    assert shown.endswith(f"next winnow retrain runs/one{own}")
    page = page_text(reports.write(folder).read_text())
    assert page.count(words) >= 3, "summary, next step and winners"
    assert f"winnow retrain {folder}{own}" in page


def test_a_better_trial_of_an_extended_search_is_still_to_be_retrained(tmp_path):
    folder = make_run(tmp_path / "one")
    assert next_step(reports.read(folder)) is None
    file = folder / "retrain.jsonl"
    lines = [line for line in file.read_text().splitlines() if json.loads(line)["rank"] != 1]
    file.write_text("".join(line + "\n" for line in lines))  # as if the best trial had come later
    step = next_step(reports.read(folder))
    assert step is not None
    assert "6 of 9 trainings" in step.text


def test_why_a_search_ended_is_recorded_until_the_next_start(tmp_path):
    folder = RunFolder(make_run(tmp_path / "one", "searching"))
    ends = [
        ((False, True, None, 1.0), None, "time"),
        ((False, False, None, 1.0, False, "too little"), None, "no gain"),
        ((False, False, None, 1.0), asdict(replace(TOO_FEW, every_config=True)), "exhausted"),
        ((False, False, None, 1.0), asdict(TOO_FEW), "refused"),
        ((False, False, None, 1.0), None, None),
        ((True, True, None, 1.0), asdict(TOO_FEW), None),
        ((False, True, "an error", 1.0), asdict(TOO_FEW), None),
    ]
    assert [_early_end(Outcome(*outcome), shortage) for outcome, shortage, _ in ends] == [end for *_, end in ends]
    write_end(folder, "time")
    assert "time budget was used up" in " ".join(sentences(reports.read(folder.path)))
    write_end(folder, "refused", asdict(TOO_FEW))
    words = (
        "The search ended because no further possible config was found (of the last 5,003 suggestions 4,990 exceed "
        "search.limits.parameters, 10 cannot be built and 3 were tried before; 2 of those beyond a limit are only expected to be, "
        "judged by other trials)."
    )
    assert words in sentences(reports.read(folder.path))
    write_start(folder, folder.read_study(), {})
    assert not folder.read_study().keys() & {"search_ended", "search_shortage"}
    assert "can be resumed" in " ".join(sentences(reports.read(folder.path)))


def test_the_cause_of_failures_comes_before_more_trials(tmp_path, winnow):  # noqa: F811
    """Trials that failed alike are one line, and a search in which most failed is not simply given more trials."""
    folder = make_run(tmp_path / "runs" / "one", "searched", completed="none")
    file = folder / "study.journal"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if (line.get("user_attrs") or {}).get("status") == "stopped":
            line["user_attrs"] |= {"status": "failed", "error": "Traceback\nValueError: no such head"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = winnow("show", "one").stdout
    assert shown.count("ValueError: no such head") == 2, "the line of these trials, and the next step"
    assert re.search(r"failed trials 1, 3, 4, 7, 8, and \d+ more: ValueError: no such head", shown)
    step = next_step(reports.read(folder))
    assert step is not None
    assert "Mend the cause first" in step.text


def test_stopped_trials_do_not_hide_that_all_others_failed(tmp_path):
    step = next_step(reports.read(make_run(tmp_path / "one", "searched", completed="none")))
    assert step is not None
    assert re.search(r"(\d+) of \1 trials not stopped early failed, \d+ of them with: RuntimeError", step.text)
    assert "Mend the cause first" in step.text


@pytest.mark.parametrize("trial", [0, None])
def test_no_repeat_of_the_baseline_is_a_winner(trial: int | None) -> None:
    """With `--repeats` several trials may have the config of the baseline, also spelled differently; a front is chosen without all of them."""
    run = SimpleNamespace(study={"space": {"baseline": "mine"}}, space_changed=False, maximize=True, further=())
    space = catalog.load("digits")
    baseline = baseline_config(space)
    assert baseline is not None
    reordered = dict(reversed(baseline.items()))
    without_effect = baseline | {"early_stopping": {"patience": baseline["epochs"]}}
    other = baseline | {"batch_size": 2 * baseline["batch_size"]}
    configs = [json.dumps(config) for config in (baseline, reordered, without_effect, other)]
    rows = [
        {"trial": number, "status": TrialStatus.COMPLETED, "in_space": True, "objective": 0.5, "config": config}
        for number, config in enumerate(configs)
    ]
    winners = [{"baseline": True, "trial": trial, "config": configs[1]}]
    assert [row["trial"] for row in candidates(cast(Any, run), rows, winners)] == [3]
    assert [may_win(json.loads(config), baseline) for config in configs] == [False, False, False, True]
    searched = SimpleNamespace(**vars(run) | {"space": space})
    assert has_candidates(cast(Any, searched), rows)
    assert not has_candidates(cast(Any, searched), rows[:3])
