"""One rule for what a trial is worth: the objective of the weights that `weights` keeps, in rungs, sampler, tables and text."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from rich.console import Console

from benchmarks.search_quality.kept_weights import drive, loss_at, overfits
from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow import reports
from winnow.reports.figures import progress
from winnow.reports.figures.learning_curves import learning_curves
from winnow.reports.tables.query import query
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.queries import queries
from winnow.reports.text.summary import sentences
from winnow.search.settings import settings_for
from winnow.search.study.earlier_runs import learn_from
from winnow.search.study.ledger import Ledger
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.winners.candidates import choose_candidates
from winnow.spaces import catalog


@pytest.mark.parametrize("sampler", ["tpe", "forecast"])
def test_configs_whose_kept_weights_are_better_are_finished(tmp_path, sampler: str) -> None:
    adam = "optimizer={choice: {adam: {lr: {log: [0.001, 0.1]}}}}"
    space = catalog.load("digits", ["epochs=27", "weights=lowest_validation_loss", adam])
    settings = settings_for(space, trials=20, sampler=sampler, objective="validation_loss", seed=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    drive(ledger, loss_at)
    rows = reports.read(folder.path).trial_rows()
    completed = [overfits(json.loads(row["config"])) for row in rows if row["status"] == "completed"]
    assert sum(completed) > len(completed) / 2
    assert ledger.best is not None
    assert ledger.best[1] == pytest.approx(0.67, abs=0.02)
    for trial in study_of(folder).trials:
        values = list(trial.intermediate_values.values())
        assert values == sorted(values, reverse=True)  # the kept weights never get worse
        assert trial.value == values[-1]


@pytest.mark.parametrize("sampler", ["forecast", "random"])
def test_a_training_that_ends_early_counts_at_the_later_rungs(tmp_path, sampler: str) -> None:
    """Early stopping ends the first trial after 5 of 27 epochs; at epochs 9 and 27 it is still worth what it was then."""
    further = "search.objectives=[validation_accuracy, validation_macro_f1]"
    space = catalog.load("digits", ["epochs=27", "start_from={}", "search.grace_epochs=1", further])
    settings = settings_for(space, trials=9, sampler=sampler)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert assignment is not None
    for epoch in range(1, 6):
        figures = {"validation_macro_f1": 0.01 * epoch, "last": epoch == 5}
        ledger.record(assignment.number, report(assignment, epoch, 0.1 * epoch, **figures))
    ledger.close()
    again = Ledger(folder, space, settings, SHAPE)
    for each in (ledger, again):
        assert {rung: values[0] for rung, values in each.scheduler.table().items()} == pytest.approx(
            {1: 0.1, 3: 0.3, 9: 0.5}
        )
        assert each.scheduler._objectives._figures[0]["validation_macro_f1@9"] == pytest.approx(0.05)
    assert max(study_of(folder).trials[0].intermediate_values) == 5
    again.close()


def test_what_the_report_says_of_a_winner_is_of_the_kept_weights(tmp_path) -> None:
    """Accuracy 0.62 at the kept epoch 3, 0.40 at the last: both figures, in two adjacent sentences, were once given."""
    space = catalog.load("digits", ["epochs=9", "weights=lowest_validation_loss"])
    settings = settings_for(space, trials=3, sampler="random", objective="validation_accuracy")
    folder = make_folder(tmp_path, space, settings)
    drive(Ledger(folder, space, settings, SHAPE), lambda _, epoch: 4 * (1 - (0.62 if epoch == 3 else 0.40)))
    candidate = choose_candidates(folder, space, settings)[0]
    line = {"rank": 1, "trial": candidate.trial, "seed": 1, "baseline": False, "config": candidate.config}
    line |= {"search_value": candidate.search_value, "status": "completed", "test_accuracy": 0.61, "time": 0.0}
    folder.retrained.write_text(json.dumps(line) + "\n")
    run = reports.read(folder.path)
    (row,) = run.winner_rows()
    assert (row["search_objective"], row["search_accuracy"]) == (pytest.approx(0.62), pytest.approx(0.62))
    assert row["gap"] == pytest.approx(0.01)
    assert {trial["best_epoch"] for trial in run.trial_rows()} == {3}
    said = [sentence.replace("\u00a0", " ") for sentence in sentences(run)]
    assert [text for text in said if "62.00 %" in text] == [
        next(text for text in said if text.startswith("The best completed trial is")),
        next(text for text in said if text.startswith("In the search the validation accuracy of the winner was")),
    ]
    assert "40.00 %" not in " ".join(said)


def test_a_completed_trial_counts_whose_last_epoch_has_no_value(tmp_path) -> None:
    """The weights of epoch 2 are kept, and after it the objective is not defined."""
    space = catalog.load("digits", ["epochs=9", "weights=lowest_validation_loss"])
    settings = settings_for(space, trials=1, sampler="random")
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert assignment is not None
    for epoch in range(1, 10):
        value = {} if epoch <= 2 else {"validation_accuracy": None}
        ledger.record(assignment.number, report(assignment, epoch, weights_epoch=min(epoch, 2), **value))
    ledger.close()
    run = reports.read(folder.path)
    (trial,) = run.trial_rows()
    assert trial["status"] == "completed"
    info = progress._best_info(run)
    assert sorted(info.values_inside) == sorted(line["validation_accuracy"] for line in run.epochs_of_trial(0)[:2])
    assert (len(info.values), info.best[-1]) == (9, trial["objective"])
    (figure,) = progress.best_so_far(run)
    assert not figure.caption.startswith("No trial has completed yet")
    dots, line = figure.plot.data
    assert (len(dots.y), len(line.y)) == (2, 9)
    pytest.importorskip("duckdb", reason="the extra `query` is not installed")
    rows = query(run, queries(run)["best-so-far"]).to_pylist()
    assert (len(rows), rows[-1]["best_so_far"]) == (9, trial["objective"])


@pytest.mark.parametrize("rule", ["lowest_validation_loss", "last"])
def test_values_of_single_epochs_say_that_rungs_judge_the_kept_weights(tmp_path, rule: str) -> None:
    space = catalog.load("digits", ["epochs=9", f"weights={rule}"])
    settings = settings_for(space, trials=3, sampler="random", objective="validation_accuracy")
    folder = make_folder(tmp_path, space, settings)
    drive(Ledger(folder, space, settings, SHAPE), lambda _, epoch: 4 * (1 - (0.62 if epoch == 3 else 0.40)))
    run, output = reports.read(folder.path), io.StringIO()
    (figure,) = learning_curves(run)
    show_trial(run, Console(file=output, width=200), 0)
    told = "shows each epoch's own value; rungs and tables use that of the weights kept until then"
    assert (f" A curve {told}" in figure.caption) == (rule != "last")
    assert (f"\nA line {told}" in output.getvalue()) == (rule != "last")


def test_an_earlier_run_teaches_what_its_rungs_saw(tmp_path) -> None:
    """Also if only its report is left, and at the epochs before a trial's last one."""
    space = catalog.load("digits", ["epochs=9", "weights=lowest_validation_loss"])
    settings = settings_for(space, trials=4, sampler="random", objective="validation_accuracy")
    folder = make_folder(tmp_path, space, settings)
    drive(Ledger(folder, space, settings, SHAPE), lambda _, epoch: 4 * (1 - (0.62 if epoch == 3 else 0.40)))
    reports.write(folder.path)
    alone = shutil.copytree(folder.path / "report", tmp_path / "alone")
    at_rungs = [{str(epoch): value for epoch, value in t.intermediate_values.items()} for t in study_of(folder).trials]
    for run in (folder.path, alone):
        taught = json.loads(learn_from([str(run)], space).lines[0])["trials"]
        assert [trial["values"] for trial in taught] == at_rungs


def test_the_winner_is_retrained_for_the_epochs_that_the_search_chose(tmp_path) -> None:
    space = catalog.load("digits", ["epochs=9", "weights=lowest_validation_loss"])
    settings = settings_for(space, trials=3, sampler="random")
    folder = make_folder(tmp_path, space, settings)
    drive(Ledger(folder, space, settings, SHAPE), lambda _, epoch: 4 * (1 - (0.62 if epoch == 3 else 0.40)))
    candidates = choose_candidates(folder, space, settings)
    assert [candidate.config.get("stop_after") for candidate in candidates] == [3] * len(candidates)
    config = tiny_config(epochs=4, stop_after=3, schedule={"name": "cosine"})
    data = DeviceData.build(tiny_data(), config.data, CPU, seed=0, use="retrain")
    shorter = list(train(config, data, CPU, 0))
    full = list(train(tiny_config(epochs=4, schedule={"name": "cosine"}), data, CPU, 0))
    assert [result.last for result in shorter] == [False, False, True]
    assert [result.train_loss for result in shorter] == [result.train_loss for result in full[:3]]
    assert "stop_after" not in tiny_config().model_dump(mode="json")
