"""Advice can be followed: each piece prints a command, and every command is accepted when it is pasted."""

from __future__ import annotations

import ast
import html
import json
import math
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.search_quality.importance import crossing
from tests.helpers.accepting import ACCEPTED, accept_instead_of_training
from tests.helpers.html import CONSTANTS
from tests.helpers.make_run import MAX_EPOCHS, make_run
from tests.reports.test_next_step import STATES, audited
from tests.search.cli.test_cli import winnow  # noqa: F401
from winnow import reports
from winnow.reports.tables.candidates import best_first
from winnow.reports.text import advice, advice_ranges, next_step
from winnow.reports.text.next_step import Advice
from winnow.reports.text.queries import queries
from winnow.reports.writing import write_spaces


def rising_run(folder: Path) -> Path:
    """A searched run whose completed trials improve until their last epoch."""
    run = make_run(folder, "searched")
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    for line in lines:
        line["validation_accuracy"] = line["epoch"] / (MAX_EPOCHS + 1)
    (run / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def run_without_baseline(folder: Path) -> Path:
    run = make_run(folder)
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["space"] = {key: value for key, value in study["space"].items() if key not in ("baseline", "start_from")}
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    return run


def diverged_rows() -> list[dict[str, Any]]:
    """Ten trials with SGD, of which those with a rate above 0.05 diverged."""
    row = {"in_space": True, "optimizer.name": "sgd", "trial": 0}
    rates = [0.004, 0.006, 0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 0.25, 0.3]
    return [{**row, "optimizer.lr": lr, "status": "diverged" if lr > 0.05 else "completed"} for lr in rates]


def rows_at(path: str, value: float) -> list[dict[str, Any]]:
    """Eight completed trials with one parameter at a value."""
    ended = {
        "status": "completed",
        "in_space": True,
        "estimated_end": None,
        "schedule.name": "one_cycle",
        "optimizer.name": "sgd",
        path: value,
    }
    return [{**ended, "objective": 0.9 + i / 100, "trial": i} for i in range(8)]


def crossing_rows(final_of_fast: float, estimated: bool) -> list[dict[str, Any]]:
    """Five completed trials and sixty stopped after one epoch, half of them fast: dropout near 0.6 gives a good first epoch, not a good end."""
    rows = []
    for number in range(65):
        completed, fast = number < 5, number >= 5 and number % 2 == 0
        params = {"final": final_of_fast if fast else 0.8, "speed": 0.97 if fast else 0.3}
        values = crossing(params, np.arange(1, 28)).tolist()
        row = {"trial": number, "in_space": True, "status": "completed" if completed else "stopped"}
        row |= {"objective": values[-1 if completed else 0], "model.dropout": 0.6 * params["speed"]}
        rows.append(row | {"estimated_end": None if completed or not estimated else values[-1]})
    return rows


WINNER = {
    "rank": 1, "baseline": False, "num_parameters": 9000, "objective_gap": 0.05, "search_objective": 0.99, "num_seeds": 3,
    "test_objective_low": 0.9, "test_objective_high": 0.95, "objective_gain_low": -0.01, "objective_gain_high": 0.02,
}  # fmt: skip


def all_advice(folder: Path) -> list[Advice]:
    """Every piece of advice that there is, from runs and rows that call for it."""
    retrained, bare, rising = (
        make_run(folder / "a run"),
        run_without_baseline(folder / "bare"),
        rising_run(folder / "up"),
    )
    given = [
        make_run(folder / "searching", "searching"),
        make_run(folder / "searched", "searched"),
        make_run(folder / "out of time", study={"search_ended": "time"}),
        audited(folder / "audited"),
    ]
    pieces = [piece for run in (*given, retrained, bare, rising) for piece in advice.advice(reports.read(run))]
    run = reports.read(retrained)
    pieces += advice._on_failures(run, [{"status": "failed", "optimizer.lr": None}] * 3)
    pieces += advice._on_failures(run, diverged_rows())
    baseline = {**WINNER, "rank": None, "baseline": True, "num_parameters": 20000}
    pieces += advice._on_winners(run, [WINNER, {**WINNER, "rank": 2, "num_parameters": 100}, baseline])
    pieces += advice._on_a_better_baseline(run, [{}] * 10, [{**WINNER, "objective_gain_high": -0.005}])
    pieces += advice._on_failed_retraining(run, [{**WINNER, "num_seeds": 0}])
    pieces += advice._on_trials(run, [{}] * 10, [{"trial": 9, "status": "completed"}])
    for path, value in (("model.dropout", 0.59), ("model.depth", 4), ("optimizer.lr", 0.29)):
        pieces += [advice._from_change(run, change) for change in advice_ranges.wider_ranges(run, rows_at(path, value))]
    for place, (make, _) in enumerate(STATES.values()):
        given.append(make(folder / f"state {place}"))
        state = reports.read(given[-1])
        pieces += [*advice.advice(state), *filter(None, [next_step.next_step(state)])]
    for one in (retrained, bare, *given, rising):
        (one / "report").mkdir(exist_ok=True)
        write_spaces(reports.read(one), one / "report")
    return pieces


def calls(module: ModuleType) -> set[tuple[str, int]]:
    """The places, as (module, line), at which a module makes a piece of advice."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return {(module.__name__, node.lineno) for node in found if node.func.id == "Advice"}


def test_every_command_is_accepted_when_pasted(tmp_path, monkeypatch, winnow):  # noqa: F811
    accept_instead_of_training(monkeypatch)
    made: set[tuple[str, int]] = set()

    def recorded(*arguments: Any) -> Advice:
        frame = sys._getframe(1)
        made.add((frame.f_globals["__name__"], frame.f_lineno))
        return Advice(*arguments)

    for module in (advice, next_step):
        monkeypatch.setattr(module, "Advice", recorded)
    pieces = all_advice(Path("runs"))
    assert made == calls(advice) | calls(next_step), "a kind of advice is not pasted here"
    verbs = set()
    for line in dict.fromkeys(line for piece in pieces for line in piece.command.split(" && ")):
        words = shlex.split(line)
        assert words[0] == "winnow"
        done = winnow(*words[1:])
        accepted = done.returncode == 0 if words[1] in ("show", "report") else ACCEPTED in done.stderr
        assert accepted, f"{line}\n{done.stdout}\n{done.stderr}"
        verbs.add(words[1])
    assert verbs >= {"resume", "retrain", "extend", "show", "export", "run"}
    kinds = ("not finished", "Retrain", "time budget", "of the audit were not trained", "A search with --audit", "trials failed", "have it above", "no baseline", "last epoch", "more trials", "Widen",
             "larger validation", "interval of the gain contains 0", "worse than the baseline", "retrainings of the winners failed", "intervals of the winners", "Importance rests", "Start the next")  # fmt: skip
    for kind in kinds:
        assert any(kind in piece.text for piece in pieces), kind


def test_numbers_in_advice_cite_a_query(tmp_path: Path) -> None:
    pieces = all_advice(tmp_path)
    known = queries(reports.read(tmp_path / "a run")).keys() | {""}
    for piece in pieces:
        assert piece.query in known
        assert piece.query or not re.search(r"\d", CONSTANTS.sub("", piece.text)), piece.text


def test_every_command_of_the_page_is_accepted_when_pasted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    winnow: Any,  # noqa: F811
) -> None:
    """Also those that are no advice: the list of mistakes, the training of the winner, the start of the run."""
    accept_instead_of_training(monkeypatch)
    text = reports.write(make_run(Path("runs/one"))).read_text()
    found = [html.unescape(line) for line in re.findall(r'<pre class="command">(.*?)</pre>', text, re.DOTALL)]
    verbs = set()
    for words in (shlex.split(line) for lines in found for line in lines.split(" && ")):
        assert words[0] == "winnow"
        done = winnow(*words[1:])
        own = "runs/one: this run folder exists already" in done.stderr  # the command that started it
        accepted = done.returncode == 0 if words[1] == "show" else ACCEPTED in done.stderr or own
        assert accepted, f"{words}\n{done.stdout}\n{done.stderr}"
        verbs.add(words[1])
    assert {"show", "train", "run"} <= verbs
    assert any("--mistakes" in line for line in found)
    code = html.unescape(re.findall(r'<pre class="">(import pandas.*?)</pre>', text, re.DOTALL)[0])
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert len(scope["trials"]) == len(reports.read(Path("runs/one")).rows("trials"))


@pytest.mark.parametrize(
    ("path", "value", "override"),
    [
        ("model.dropout", 0.01, None),  # the schema ends at 0
        ("model.dropout", 0.59, 'model.dropout={"float": [0.0, 0.78]}'),
        ("model.depth", 1, None),
        ("model.depth", 4, 'model.depth={"int": [1, 5]}'),
        ("schedule.peak", 0.4, 'schedule.one_cycle.peak={"float": [0.1, 0.49]}'),
        ("optimizer.lr", 3.1e-3, 'optimizer.sgd.lr={"log": [0.00075, 0.3]}'),  # of SGD alone, whose range begins there
    ],
)
def test_a_range_is_widened_as_far_as_the_schema_allows(tmp_path, path, value, override):
    run = reports.read(make_run(tmp_path / "run", "searched"))
    changes = [change.override for change in advice_ranges.wider_ranges(run, rows_at(path, value))]
    assert changes == ([] if override is None else [override])


def test_a_range_is_not_widened_towards_what_only_learns_faster(tmp_path):
    run = reports.read(make_run(tmp_path / "run", "searched"))
    by_first_epochs = sorted(
        crossing_rows(0.2, False), key=lambda row: (row["status"] != "completed", -row["objective"])
    )[:16]
    assert sum(row["model.dropout"] > 0.54 for row in by_first_epochs) > 8
    for estimated in (False, True):
        assert list(advice_ranges.wider_ranges(run, crossing_rows(0.2, estimated))) == []
    (change,) = advice_ranges.wider_ranges(run, crossing_rows(1.0, True))
    assert change.override == 'model.dropout={"float": [0.0, 0.78]}'
    assert "of the best 16 trials are close to the upper end" in change.text
    assert change.text.endswith("Trials that did not complete count by their estimated value after the full training.")
    (change,) = advice_ranges.wider_ranges(run, rows_at("model.dropout", 0.59))
    assert "4 of the best 4 completed trials are close to the upper end" in change.text
    assert "estimated" not in change.text
    assert list(advice_ranges.wider_ranges(run, rows_at("model.dropout", 0.59)[:3])) == [], "too few trials"


def test_more_trials_are_advised_only_by_a_completed_one(tmp_path):
    run = reports.read(make_run(tmp_path / "run"))
    pieces = [list(advice._on_trials(run, [{}] * 10, [{"trial": 9, "status": s}])) for s in ("completed", "stopped")]
    assert [len(each) for each in pieces] == [1, 0]


def test_the_range_that_diverges_is_named(tmp_path):
    run = reports.read(make_run(tmp_path / "run", "searched"))
    change = advice_ranges.converging_range(run, diverged_rows())
    assert change is not None
    assert change.override == 'optimizer.sgd.lr={"log": [0.003, 0.069]}'
    assert "5 of the 5 diverged" in change.text
    mixed = [{**row, "status": "diverged" if i % 2 else "completed"} for i, row in enumerate(diverged_rows())]
    assert advice_ranges.converging_range(run, mixed) is None, "no value separates them"


def test_lower_rates_if_every_trial_diverged(tmp_path: Path) -> None:
    """No other trial says where trainings converge, so the range begins below the lowest rate that diverged."""
    run = reports.read(make_run(tmp_path / "run", "searched"))
    rows = [row | {"status": "diverged"} for row in diverged_rows()]
    change = advice_ranges.converging_range(run, rows)
    assert change is not None
    assert change.override.startswith('optimizer.sgd.lr={"log": [')
    low, high = json.loads(change.override.partition("=")[2])["log"]
    assert low < high < min(row["optimizer.lr"] for row in rows)
    assert "All 10 trials that ran diverged" in change.text
    assert advice_ranges.converging_range(run, rows[:2]) is None, "two trials say little"


def with_study(folder: Path, **entries: Any) -> reports.RunData:
    run = reports.read(folder)
    run.study.update(entries)
    return run


def test_no_trials_are_advised_where_every_config_was_tried(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    commands = [
        [each.command for each in advice.advice(run)]
        for run in (reports.read(folder), with_study(folder, search_ended="exhausted"))
    ]
    plain = [[line for line in lines if "--trials" in line and "--set" not in line] for lines in commands]
    assert plain[0]
    assert not plain[1]


def test_no_longer_trainings_are_advised_where_the_space_leaves_epochs_open(tmp_path: Path) -> None:
    """`extend --max-epochs` would be refused."""
    run = reports.read(rising_run(tmp_path / "run"))
    ranked = best_first(run, run.rows("trials"))
    assert list(advice._on_epochs(run, ranked))
    run = reports.read(tmp_path / "run")
    run.study["space"] = run.study["space"] | {"epochs": {"choice": [3, MAX_EPOCHS]}}
    assert not list(advice._on_epochs(run, ranked))


@pytest.mark.parametrize(
    ("side", "recipe"), [(8, "digits"), (16, "digits"), (28, "cifar10"), (32, "cifar10"), (96, "cifar10")]
)
def test_the_baseline_that_is_advised_suits_the_size_of_the_images(tmp_path: Path, side: int, recipe: str) -> None:
    run = reports.read(run_without_baseline(tmp_path / "run"))
    run.study["data"]["image_shape"] = [3, side, side]
    (found,) = advice._on_the_baseline(run, [])
    assert f"baseline=recipes/{recipe}-baseline" in found.command


def test_advice_reads_no_file_that_is_not_written_yet(tmp_path: Path) -> None:
    """`run` retrains before it writes the report, and `serve` shows the page meanwhile."""
    folder = make_run(tmp_path / "run")
    before = advice._on_reuse(reports.read(folder), [WINNER]).command
    assert before.startswith(f"winnow report {folder} && winnow run {folder}/report/space.yaml")
    reports.write(folder)
    assert advice._on_reuse(reports.read(folder), [WINNER]).command == before.partition(" && ")[2]


def test_longer_trainings_only_for_curves_that_rise(tmp_path):
    rising, level = (
        reports.read(rising_run(tmp_path / "rising")),
        reports.read(make_run(tmp_path / "level", "searched")),
    )
    advised = [list(advice._on_epochs(run, best_first(run, run.rows("trials")))) for run in (rising, level)]
    assert [len(pieces) for pieces in advised] == [1, 0]
    assert advised[0][0].command.endswith(f"--max-epochs {2 * MAX_EPOCHS}")


def test_the_weights_that_are_kept_decide_whether_curves_rise(tmp_path: Path) -> None:
    """The last epochs are better than those before, but the weights of an early epoch are kept."""
    folder = rising_run(tmp_path / "rising")
    journal = (folder / "study.journal").read_text()
    assert '"weights":"last"' in journal
    (folder / "study.journal").write_text(journal.replace('"weights":"last"', '"weights":"lowest_validation_loss"'))
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    lines = [line | {"validation_loss": line["epoch"] * 1.0} for line in lines]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(folder)
    assert not list(advice._on_epochs(run, best_first(run, run.rows("trials"))))


@pytest.mark.parametrize(
    ("objective", "value", "noise"),
    [
        ("validation_accuracy", 0.9, math.sqrt(0.9 * 0.1 / 287)),
        ("validation_macro_f1", 0.9, math.sqrt(0.9 * 0.1 / 287)),
        ("validation_accuracy", 1.0, 1 / 287),
        ("validation_loss", 0.5, 0.005),
        ("validation_own_metric", -40.0, 0.4),
    ],
)
def test_the_noise_of_a_metric_without_a_known_scale_is_a_hundredth(
    tmp_path: Path, objective: str, value: float, noise: float
) -> None:
    run = reports.read(make_run(tmp_path / "run", "searched"))
    run.study["settings"]["objective"] = objective
    assert advice._noise(run, value) == pytest.approx(noise)


def test_a_baseline_is_better_only_beyond_chance(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    worse = [{**WINNER, "objective_gain_low": -0.05, "objective_gain_high": -0.01}]
    assert len(list(advice._on_a_better_baseline(run, [{}], worse))) == 1
    for high in (0.0, 0.02, None):
        assert not list(advice._on_a_better_baseline(run, [{}], [{**WINNER, "objective_gain_high": high}]))


def test_a_retraining_that_was_cut_after_the_baseline_is_continued(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "retrain.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines() if '"rank": null' in line))
    first = advice.advice(reports.read(folder))[0]
    assert first.text.startswith("Retraining has not finished: 0 of 9 trainings of the winners are done")
    assert first.command == f"winnow retrain {folder}"


def test_the_advice_on_failures_shows_all_that_failed(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    (found,) = [each for each in advice.advice(run) if "trials failed" in each.text]
    words = shlex.split(found.command)
    shown = reports.select(run.path, words[words.index("--where") + 1])
    assert found.text.startswith(f"{len(shown)} of ")
    assert {row["status"] for row in shown} == {"diverged", "out_of_memory", "failed"}


def test_what_makes_the_report_more_certain_comes_last(tmp_path: Path) -> None:
    """How to go on from the winner is worth more than a search of ten trials for each parameter."""
    texts = [each.text for each in advice.advice(reports.read(make_run(tmp_path / "run")))]
    reuse, stops, importance = (
        next(i for i, text in enumerate(texts) if kind in text)
        for kind in ("Start the next", "--audit", "Importance rests")
    )
    assert 0 < reuse < stops < importance


def test_the_advice_on_sizes_shows_sizes_of_networks_that_can_be_chosen(tmp_path: Path, winnow) -> None:  # noqa: F811
    run = reports.read(make_run(tmp_path / "runs" / "one"))
    baseline = {**WINNER, "rank": None, "baseline": True, "num_parameters": 20_000}
    (found,) = [each for each in advice._on_winners(run, [WINNER, baseline]) if "contains 0" in each.text]
    assert "The winner has 9,000 weights, the baseline 20,000" in found.text
    words = shlex.split(found.command)
    rows = reports.select(run.path, words[words.index("--where") + 1], words[words.index("--sort") + 1])
    lines = [line.split() for line in winnow(*words[1:]).stdout.splitlines() if "completed" in line][1:]
    assert [(line[0], line[5]) for line in lines] == [(str(row["trial"]), str(row["num_parameters"])) for row in rows]
    assert {row["status"] for row in rows} == {"completed"}


def test_a_search_with_several_objectives_is_not_advised_an_audit(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run", "searched"))
    assert list(advice._on_stops(run, run.rows("trials")))
    run.study["settings"]["objectives"] = ["validation_accuracy", {"minimize": "parameters"}]
    assert not list(advice._on_stops(run, run.rows("trials")))
