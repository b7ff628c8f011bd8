"""What a sampler is shown of a run whose space was changed, or that started warm. Without Ray."""

from __future__ import annotations

import json

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tests.helpers.ledgers import make_folder, report, run_to_the_end, study_of
from winnow import reports
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import progress as figures_progress
from winnow.search.settings import settings_for
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.amendments import RunChanges, amend
from winnow.search.study.ledger import Ledger
from winnow.search.study.space_changes import OUTSIDE, History
from winnow.spaces.space import Space

SHAPE = (1, 8, 8)
TREE = {
    "data": "digits",
    "epochs": 4,
    "batch_size": {"choice": [32, 64, 128]},
    "model": {"name": "mlp", "hidden": [8], "dropout": {"float": [0.0, 0.6]}},
    "optimizer": {"choice": {"sgd": {"lr": {"log": [0.01, 1.0]}}, "adam": {"lr": {"log": [0.001, 0.1]}}}},
}
# Options change places, one goes, one comes; a range becomes narrower.
CHANGED = RunChanges(
    overrides=["batch_size={choice: [256, 128, 64]}", "model.dropout={float: [0.0, 0.4]}"], accepted=True
)


def change(folder: RunFolder, changes: RunChanges) -> tuple[Space, object]:
    """What `winnow extend` does to a run, without training."""
    study = folder.read_study()
    amended = amend(folder, study, Space.from_tree(study["space"], "run"), changes)
    folder.study.write_text(yaml.safe_dump(amended.study))
    return amended.space, amended.settings


def searched(tmp_path, **settings) -> RunFolder:
    space = Space.from_tree(TREE, "run")
    chosen = settings_for(space, **{"trials": 12, **settings})
    folder = make_folder(tmp_path, space, chosen)
    run_to_the_end(Ledger(folder, space, chosen, SHAPE))
    return folder


def test_trials_inside_are_shown_in_the_words_of_the_new_space(tmp_path):
    folder = searched(tmp_path)
    space, _ = change(folder, CHANGED)
    history, study = History(folder, space, folder.read_study()), study_of(folder)
    shown = {trial.number: trial for trial in history.for_sampler(study).get_trials()}
    for trial in study.trials:
        config = trial.user_attrs["config"]
        inside = config["batch_size"] != 32 and config["model"]["dropout"] <= 0.4
        assert history.is_inside(trial) == inside == (trial.number in shown)
        if inside:
            seen = shown[trial.number]
            assert seen.distributions["batch_size"] == CategoricalDistribution([256, 128, 64])
            assert seen.distributions["model.dropout"] == FloatDistribution(0.0, 0.4)
            assert seen.params == trial.params
            assert (seen.value, seen.state, seen.intermediate_values) == (
                trial.value,
                trial.state,
                trial.intermediate_values,
            )
    assert 0 < len(shown) < 12


@pytest.mark.parametrize(
    "sampler", ["tpe", "forecast", *(pytest.param(s, marks=pytest.mark.slow) for s in ("gp", "qmc"))]
)
def test_every_sampler_goes_on_in_a_changed_space(tmp_path, sampler):
    folder = searched(tmp_path, sampler=sampler)
    space, settings = change(folder, RunChanges(trials=8, overrides=CHANGED.overrides, accepted=True))
    ledger = Ledger(folder, space, settings, SHAPE)
    history = History(folder, space, folder.read_study())
    outside = {trial.number for trial in study_of(folder).trials if not history.is_inside(trial)}
    assert outside
    assert not outside & {trial for values in ledger.scheduler.table().values() for trial in values}
    run_to_the_end(ledger)
    trials = study_of(folder).trials
    assert len(trials) == 20
    assert all(history.is_inside(trial) for trial in trials[12:])
    assert ledger.best is None or ledger.best[0] not in outside
    again = Ledger(folder, space, settings, SHAPE)  # as a resume would find it
    assert (again.best, again.counts, again.num_ended) == (ledger.best, ledger.counts, 20)
    assert again.best_config == ledger.best_config


def test_open_trials_outside_end_and_those_that_are_too_short_run_again(tmp_path):
    space = Space.from_tree(TREE, "run")
    settings = settings_for(space, trials=4)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    first, second = ledger.ask(), ledger.ask()
    for epoch in (1, 2, 3, 4):
        ledger.record(first.number, report(first, epoch, 0.5))
    ledger.record(second.number, report(second, 1, 0.6))
    ledger.close()
    space, settings = change(folder, RunChanges(max_epochs=8))
    assert (settings.trials, settings.max_epochs) == (6, 8)
    ledger = Ledger(folder, space, settings, SHAPE)
    trials = study_of(folder).trials
    assert (trials[1].user_attrs["status"], trials[1].user_attrs["reason"]) == ("stopped", OUTSIDE)
    assert not any(ledger.scheduler.table().values())
    given = [ledger.ask() for _ in range(4)]
    assert [assignment.source for assignment in given] == ["further:0", "further:1", "sampler", "sampler"]
    assert given[1].config == {**second.config, "epochs": 8}
    assert ledger.ask() is None
    ledger.close()
    assert Ledger(folder, space, settings, SHAPE).num_asked == 6  # asked for once only


def test_amendments_keep_what_was(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["winnow", "extend", "r"])  # a process of pytest-xdist has no command
    folder = searched(tmp_path)
    original = folder.read_study()
    for changes in (RunChanges(trials=3), CHANGED, RunChanges(max_epochs=9)):
        change(folder, changes)
    study = folder.read_study()
    settings, space = study["settings"], study["space"]
    for amendment in reversed(study["amendments"]):
        settings = {**settings, **amendment["before"].get("settings", {})}
        space = amendment["before"].get("space", space)
    assert (settings, space) == (original["settings"], original["space"])
    assert all(amendment["time"] and amendment["command"] for amendment in study["amendments"])


def test_warm_trials_come_first_and_are_not_tried_again(tmp_path):
    old = searched(tmp_path / "old")
    space = Space.from_tree(TREE, "run")
    settings = settings_for(space, trials=3)
    folder = make_folder(tmp_path / "new", space, settings)
    lines = [
        {
            "trial": t.number,
            "state": t.state.name,
            "value": t.value,
            "values": t.intermediate_values,
            "config": t.user_attrs["config"],
        }
        for t in study_of(old).trials
    ]
    folder.warm_start.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ledger = Ledger(folder, space, settings, SHAPE)
    first = ledger.ask()
    shown = History(folder, space, folder.read_study()).for_sampler(study_of(folder)).get_trials()
    assert [trial.number for trial in shown] == [*range(-12, 0), 0]
    assert [trial.params for trial in shown[:12]] == [trial.params for trial in study_of(old).trials]
    assert first.number == 0
    assert first.config not in [line["config"] for line in lines]
    assert not any(ledger.scheduler.table().values())
    cold = Ledger(make_folder(tmp_path / "cold", space, settings), space, settings, SHAPE)
    assert cold.ask().config != first.config  # the old trials have told the sampler something


def test_a_report_compares_within_the_space_of_now(tmp_path):
    """Longer trainings: what was before is drawn as such, and neither the best so far nor the audit is of it."""
    folder = searched(tmp_path, audit=1.0)
    space, settings = change(folder, RunChanges(max_epochs=8))
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    run = reports.read(folder.path)
    earlier = set(range(12))
    assert earlier == run.outside
    progress = figures_progress._best_info(run)
    assert progress.inside == [trial not in earlier for trial in progress.trials]
    completed = [row["objective"] for row in run.rows("trials") if row["in_space"] and row["status"] == "completed"]
    assert progress.best[-1] == max(completed)
    assert progress.best[0] is None
    curves = figures_search._curves_info(run).curves
    assert curves[figures_search.OUTSIDE].keys() == earlier
    assert (
        not {trial for name, of_name in curves.items() if name != figures_search.OUTSIDE for trial in of_name} & earlier
    )
    stopped = [t for t in study_of(folder).trials if t.number >= 12 and t.user_attrs["status"] == "stopped"]
    assert run.rows("audit")[-1]["num_stopped"] == len(stopped)
    assert "outside the current space" in reports.write(folder.path).read_text()
