"""Winners, importance, words and the terminal view."""

from __future__ import annotations

import io
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from rich.console import Console

from tests.helpers.make_run import Stage, make_run
from winnow import reports
from winnow.reports.reading.journal import State, Trial
from winnow.reports.schemas import TABLES
from winnow.reports.tables import importance
from winnow.reports.text import summary
from winnow.reports.text import wording as words

# --- winners ---------------------------------------------------------------------------------------------------------


def test_winners_stand_beside_the_baseline(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = reports.winners_table(folder)
    assert [(row["rank"], row["baseline"], row["num_seeds"], row["num_failed"]) for row in rows] == [
        (1, False, 3, 0), (2, False, 3, 0), (3, False, 2, 1), (None, True, 3, 0)
    ]  # fmt: skip
    baseline = rows[-1]
    assert baseline["trial"] is None
    assert baseline["gain"] is None
    for row in rows[:-1]:
        assert row["gain"] == pytest.approx(row["test_accuracy"] - baseline["test_accuracy"])
        assert row["gap"] == pytest.approx(row["search_accuracy"] - row["test_accuracy"])
        assert row["gain_low"] < row["gain"] < row["gain_high"]
    columns = {column.name for column in TABLES["winners"].columns}
    assert set(rows[0]) == columns


# --- importance ------------------------------------------------------------------------------------------------------


def _trials(n: int = 80) -> tuple[list[Trial], dict[int, float]]:
    """`lr` exists in one branch only and there decides all; `noise` is in every trial and decides nothing."""
    generator = random.Random(0)
    trials, targets = [], {}
    for number in range(n):
        sgd = number % 2 == 0
        params: dict[str, Any] = {"optimizer": "sgd" if sgd else "adam", "noise": generator.random()}
        distributions = {"optimizer": CategoricalDistribution(["sgd", "adam"]), "noise": FloatDistribution(0, 1)}
        if sgd:
            params["optimizer.sgd.lr"] = 10 ** generator.uniform(-4, 0)
            distributions["optimizer.sgd.lr"] = FloatDistribution(1e-4, 1.0, log=True)
        value = -abs(math.log10(params["optimizer.sgd.lr"]) + 2) if sgd else -1.0
        domains = {name: distribution_to_json(domain) for name, domain in distributions.items()}
        trials.append(Trial(number, State.COMPLETE, [value], params, domains, {}, {}, None, None))
        targets[number] = value
    return trials, targets


def test_importance_of_a_conditional_parameter_is_over_its_own_trials() -> None:
    trials, targets = _trials()
    found = importance.importances_of(trials, targets, maximize=True)
    assert found["optimizer.sgd.lr"].share > 0.9
    assert found["noise"].share < 0.2
    assert 0 < found["optimizer.sgd.lr"].deviation < 0.2
    few = importance.importances_of(trials[: 2 * importance.MIN_TRIALS - 2], targets, maximize=True)
    assert "optimizer.sgd.lr" not in few
    assert "noise" in few


def test_importance_of_the_same_trials_is_the_same_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    trials, targets = _trials(20)
    before = optuna.logging.get_verbosity()
    assert importance.importances_of(trials, targets, maximize=True) == importance.importances_of(
        trials, targets, maximize=True
    )
    assert optuna.logging.get_verbosity() == before
    assert not caplog.records
    assert set(importance.importances_of(trials, dict.fromkeys(targets, 1.0), maximize=True).values()) == {(0.0, 0.0)}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importance_is_that_of_optuna_where_all_parameters_are_in_all_trials() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(
        lambda trial: (
            trial.suggest_float("x", 0, 1) ** 2
            + trial.suggest_float("y", -2, 3)
            + {"a": 0, "b": 1, "c": 3}[trial.suggest_categorical("z", ["a", "b", "c"])]
        ),
        n_trials=60,
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, max_depth=importance.MAX_DEPTH, seed=0)
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    trials = []
    for frozen in study.trials:
        domains = {name: distribution_to_json(domain) for name, domain in frozen.distributions.items()}
        trials.append(Trial(frozen.number, State.COMPLETE, frozen.values, frozen.params, domains, {}, {}, None, None))
    ours = importance.importances_of(trials, {trial.number: trial.value for trial in study.trials}, maximize=True)
    assert {name: each.share for name, each in ours.items()} == pytest.approx(theirs)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importance_is_that_of_the_public_evaluator_on_the_same_inputs() -> None:
    """Holds Optuna's private `_Fanova` to its public evaluator, on inputs with logarithms and inactive parameters."""
    trials, targets = _trials()
    inputs = {name: importance._input(trials, name) for name in ("noise", "optimizer", "optimizer.sgd.lr")}
    domains: dict[str, Any] = {
        name: FloatDistribution(*map(float, bounds[0]))
        if len(bounds) == 1
        else CategoricalDistribution(range(len(bounds)))
        for name, (_, bounds) in inputs.items()
    }
    study = optuna.create_study()
    for i, trial in enumerate(trials):
        params = {
            name: float(columns[i, 0]) if columns.shape[1] == 1 else int(columns[i].argmax())
            for name, (columns, _) in inputs.items()
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=domains, value=targets[trial.number]))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, max_depth=importance.MAX_DEPTH, seed=0)
    theirs = evaluator.evaluate(study)
    ours = importance._fanova(trials, ["noise", "optimizer"], targets)
    assert {name: each.share for name, each in ours.items()} == pytest.approx(
        {name: theirs[name] for name in ours}, abs=1e-12
    )


def test_importance_table_has_each_parameter_of_the_space(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run", "searched", trials=40))
    rows = run.table("importance").to_pylist()
    assert sorted(row["parameter"] for row in rows) == sorted(p.study_name for p in run.space.parameters())
    by_name = {row["parameter"]: row for row in rows}
    assert by_name["optimizer.sgd.lr"]["condition"] == "optimizer = sgd"
    assert by_name["model.stages.2.pool"]["condition"] == "model.depth >= 3"
    assert by_name["batch_size"]["condition"] is None
    assert all((row["importance"] is None) == (row["num_trials"] < importance.MIN_TRIALS) for row in rows)
    assert all((row["importance"] is None) == (row["note"] is not None) for row in rows)


# --- words and the terminal --------------------------------------------------------------------------------------------


def test_parameters_are_short_where_that_is_clear() -> None:
    params = {
        "model.stages.0.filters": 16,
        "model.stages.1.filters": 32,
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.12345,
    }
    assert words.parameters_text(params) == "filters=16,32 optimizer=sgd lr=0.123"
    assert words.parameters_text({"a.dropout": 0.1, "b.dropout": 0.2}) == "a.dropout=0.1 b.dropout=0.2"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (8.34, "8.3 s"), (59.9, "59.9 s"), (245, "4 min 05 s"), (7980, "2 h 13 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds).replace("\u00a0", " ") == text


def _shown(folder: Path, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    reports.show(folder, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().replace("\u00a0", " ")


def test_show_has_counts_winners_and_places(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", torn=True)
    text = _shown(folder)
    assert "24 trials: 4 completed, 16 stopped early, 1 diverged, 1 out of memory, 1 failed, 1 skipped" in text
    first = reports.winners_table(folder)[0]
    low, high = 100 * first["test_accuracy_low"], 100 * first["test_accuracy_high"]
    assert f"{100 * first['test_accuracy']:.2f} % ({low:.2f} to {high:.2f})" in text
    assert "baseline" in text
    assert "CUDA out of memory" in text
    assert "[b]" not in text
    assert "<b>worker</b> died & was not replaced" in text
    assert f"winnow report {folder}" in text
    assert "epochs.jsonl is incomplete" in text
    reports.show(folder, Console(file=io.StringIO()))  # A second call: the function is not hidden by a module.


@pytest.mark.parametrize("stage", ["empty", "first_epoch", "searching"])
def test_show_of_a_run_that_was_cut_short(tmp_path: Path, stage: str) -> None:
    text = _shown(make_run(tmp_path / "run", stage))
    assert {"empty": "0 trials", "first_epoch": "2 unfinished", "searching": "of 24 requested"}[stage] in text


@pytest.mark.parametrize("stage", ["searching", "searched", "retrained"])
def test_show_waits_for_no_heavy_import(tmp_path: Path, stage: Stage) -> None:
    folder = make_run(tmp_path / "run", stage)
    heavy = "{'torch', 'ray', 'plotly', 'pandas', 'pyarrow', 'scipy', 'sklearn', 'pydantic'}"
    code = f"import sys; from winnow import reports; from rich.console import Console; reports.show({str(folder)!r}, Console()); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_nights_do_not_count_as_time_spent(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stage="searched")
    before = summary._seconds_at_work(reports.read(run))
    trials = reports.read(run).rows("trials")
    ran = [row for row in trials if row["started"] and row["ended"]]
    lasted = max(row["ended"] for row in ran) - min(row["started"] for row in ran)
    assert before == pytest.approx(lasted.total_seconds(), rel=0.1)
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    for line in lines[len(lines) // 2 :]:
        line["time"] += 9 * 3600
    (run / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert summary._seconds_at_work(reports.read(run)) == pytest.approx(before, abs=5)


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [("diverged", None, "infinite"), ("failed", "  boom\n", "boom"), ("failed", None, "without an error message")],
)
def test_a_failure_without_a_message_is_explained(status: str, error: str | None, text: str) -> None:
    assert text in words.failure_text({"status": status, "error": error})
