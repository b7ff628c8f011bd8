"""Hard limits: known ones refuse suggestions, measured ones end trials as infeasible and teach the sampler; no winner exceeds one."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial

from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.operations.limits import limit_notes
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.samplers.draft import Draft
from winnow.search.samplers.feasibility import Feasibility
from winnow.search.samplers.suggester import MAX_REPEATED, Shortage
from winnow.search.settings import Settings, settings_for
from winnow.search.study.amendments import RunChanges, amend
from winnow.search.study.completed import completed_trials
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.search.training import latency
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config, Limits
from winnow.spaces.sizes import size_of

SAMPLERS = ("forecast", "tpe", "random")
WIDE = (
    "model={name: mlp, hidden: [{int: [1, 1000]}]}",
    "start_from={}",
)  # 85 parameters, and 75 more for each hidden unit


def limited(*overrides: str, sampler: str = "random", trials: int = 12):
    space = catalog.load("digits", ["epochs=9", *overrides])
    return space, settings_for(space, trials=trials, sampler=sampler)


def parameters(assignment: Assignment) -> int:
    size = size_of(Config.model_validate(assignment.config).model, SHAPE, 1)
    assert size is not None
    return size.parameters


def run(ledger: Ledger, seconds=lambda assignment, epoch: 1.0, crash_after: int | None = None) -> bool:
    """Run trials whose epochs take `seconds`; False if the driver "crashed" after so many reports."""
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        ledger.note_size(assignment.number, {"multiply_adds": 1000, "device": "cpu"})
        for epoch in range(assignment.recorded + 1, 10):
            if num_reports == crash_after:
                return False
            num_reports += 1
            figures = report(assignment, epoch, wall_seconds=seconds(assignment, epoch))
            if not ledger.record(assignment.number, figures):
                break
    ledger.close()
    return True


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_suggestion_known_to_be_too_large_is_refused(tmp_path, sampler):
    space, settings = limited("search.limits.parameters=20000", sampler=sampler)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assert run(ledger)
    sizes = [
        size_of(Config.model_validate(trial.user_attrs["config"]).model, SHAPE, 1) for trial in study_of(folder).trials
    ]
    assert len(sizes) == 12
    assert all(size.parameters <= 20000 for size in sizes)


def test_refused_suggestions_do_not_count_as_tried_ones(tmp_path):
    """One config in some hundred is within the limit: the search finds as many as it asked for."""
    space, settings = limited(*WIDE, "search.limits.parameters=310", trials=10)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    assert run(ledger)
    assert (ledger.num_asked, ledger.shortage) == (10, None)
    drafts = [trial.user_attrs["drafts"] for trial in study_of(ledger.folder).trials]
    assert max(drafts) > MAX_REPEATED


def test_a_search_with_hardly_a_config_within_its_limits_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("winnow.search.samplers.suggester.MAX_REFUSED", 300)
    space, settings = limited(*WIDE, "search.limits.parameters=84")
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    assert run(ledger)
    assert ledger.shortage == Shortage(0, 0, {"parameters": 300}, expected=0, every_config=False)
    assert ledger.finished


def is_slow(assignment: Assignment) -> bool:
    return assignment.config["batch_size"] == 32


def slow_epochs(assignment: Assignment, epoch: int) -> float:
    """The first epoch of a process also loads libraries, so only the second counts."""
    return 60.0 if epoch == 1 else 320 / assignment.config["batch_size"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("crash_after", [None, 5])
def test_a_trial_with_slow_epochs_is_infeasible_and_never_wins(tmp_path, sampler, crash_after):
    space, settings = limited("search.limits.epoch_seconds=7", sampler=sampler, trials=30)
    folder = make_folder(tmp_path, space, settings)
    if crash_after is not None:
        assert not run(Ledger(folder, space, settings, SHAPE), slow_epochs, crash_after)
    ledger = Ledger(folder, space, settings, SHAPE)
    assert run(ledger, slow_epochs)
    trials = study_of(folder).trials
    slow = {trial.number for trial in trials if trial.user_attrs["config"]["batch_size"] == 32}
    ended = {trial.number: trial.user_attrs["status"] for trial in trials}
    judged = {trial.number for trial in trials if 2 in trial.intermediate_values}
    assert {number for number, status in ended.items() if status == "infeasible"} == slow & judged != set()
    assert all(max(trials[number].intermediate_values) == 2 for number in slow & judged)
    assert "above the limit of 7" in trials[min(slow & judged)].user_attrs["reason"]
    assert ledger.best is not None
    assert ledger.best[0] not in slow
    assert not slow & {trial.number for trial in completed_trials(folder, space, settings).winners}
    assert not any((slow & judged) & set(values) for values in ledger.scheduler.table().values())


def test_configs_expected_to_be_clearly_slower_than_the_limit_are_no_longer_suggested(tmp_path):
    space, settings = limited("search.limits.epoch_seconds=7", trials=20)
    folder = make_folder(tmp_path, space, settings)
    assert run(Ledger(folder, space, settings, SHAPE), slow_epochs)
    study, feasibility = study_of(folder), Feasibility(settings.limits, SHAPE, 10)

    slow = next(trial for trial in study.trials if trial.user_attrs["status"] == "infeasible").user_attrs["config"]

    def is_hopeless(batch_size: int, trials: list[FrozenTrial]) -> bool:
        draft = Draft(study, RandomSampler(), 20, known=space.encode({**slow, "batch_size": batch_size}))
        space.suggest(draft)
        return feasibility.expected(trials).exceeded(draft.params, "cnn") == "epoch_seconds"

    assert [is_hopeless(size, study.trials) for size in (32, 64, 128)] == [True, False, False]
    assert not is_hopeless(32, study.trials[:5])


@pytest.mark.parametrize(("family", "expected"), [("cnn", False), ("my_pkg.net:build", True)])
def test_a_size_that_is_known_exactly_is_not_estimated(tmp_path, family, expected):
    """Networks just below the limit are often the best, and a fit would refuse some of them."""
    space, settings = limited("search.limits.parameters=20000", trials=20)
    folder = make_folder(tmp_path, space, settings)
    assert run(Ledger(folder, space, settings, SHAPE), slow_epochs)
    trials = study_of(folder).trials
    for trial in trials:
        trial.user_attrs["num_parameters"] = 10**6
    draft = Draft(study_of(folder), RandomSampler(), 20, known=space.encode(trials[0].user_attrs["config"]))
    space.suggest(draft)
    beyond = Feasibility(settings.limits, SHAPE, 10).expected(trials).exceeded(draft.params, family)
    assert beyond == ("parameters" if expected else None)


def test_a_worker_trains_no_network_beyond_a_limit(tmp_path: Path):
    limits = Limits(latency_ms=1e-6)
    job = Job(checkpoints=str(tmp_path), device="cpu", threads=1, seed=0, limits=limits, latency=True)
    assignment = Assignment(0, 1, tiny_config().model_dump(mode="json"))
    (ended,) = trial_reports(assignment, tiny_data(), job)
    assert ended["status"] == "infeasible"
    assert ended["error"].startswith("latency_ms: ")
    assert ended["error"].endswith("(measured once, beside no other trial of this search)")
    assert ended["latency_ms"] > 1e-6


def test_a_latency_just_above_the_limit_is_measured_again(tmp_path: Path, monkeypatch):
    """Another training may have made it longer, so one measurement does not refuse a network."""
    monkeypatch.setattr(latency, "SECONDS_BETWEEN", 0.0)

    def measured(*values: float, limit: float | None = 5.0) -> tuple[float, int]:
        return latency.latency_beside_limit(iter(values).__next__, limit)

    assert measured(7.0, 6.0, 4.0) == (4.0, 3)
    assert measured(7.0, 9.0, 6.0, 8.0) == (6.0, 4)
    assert measured(11.0) == (11.0, 1)
    assert measured(4.0) == (4.0, 1)
    assert measured(7.0, limit=None) == (7.0, 1)
    times = iter([7.0, 6.0, 9.0, 8.0])
    monkeypatch.setattr(latency, "latency_ms", lambda *arguments: next(times))
    job = Job(str(tmp_path), device="cpu", threads=1, seed=0, limits=Limits(latency_ms=5), latency=True, concurrent=4)
    (ended,) = trial_reports(Assignment(0, 1, tiny_config().model_dump(mode="json")), tiny_data(), job)
    assert ended["latency_ms"] == 6.0
    words = "latency_ms: 6 is above the limit of 5 (the least of 4 measurements, beside up to 3 other trials of this search)"
    assert ended["error"] == words


def test_a_measured_latency_does_not_change_the_training(tmp_path: Path):
    assignment = Assignment(0, 1, tiny_config().model_dump(mode="json"))
    losses = []
    for is_measured in (False, True):
        job = Job(checkpoints=str(tmp_path / str(is_measured)), device="cpu", threads=1, seed=0, latency=is_measured)
        losses.append([epoch["train_loss"] for epoch in trial_reports(assignment, tiny_data(), job)])
    assert losses[0] == losses[1]


def test_a_model_that_refuses_a_config_makes_it_infeasible(tmp_path: Path, monkeypatch):
    (tmp_path / "choosy_nets.py").write_text(
        "from torch import nn\n\n\ndef build(image_shape, num_classes, width):\n    raise ValueError(f'{width} is too wide')\n"
    )
    monkeypatch.chdir(tmp_path)
    config = tiny_config(model={"name": "choosy_nets:build", "width": 512}).model_dump(mode="json")
    job = Job(checkpoints=str(tmp_path), device="cpu", threads=1, seed=0)
    (ended,) = trial_reports(Assignment(0, 1, config), tiny_data(), job)
    assert ended == {
        "status": "infeasible",
        "error": "model choosy_nets:build raised ValueError: 512 is too wide",
    }
    space, settings = limited()
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    for _ in range(4):  # more than the identical failures that end a search
        assignment = ledger.ask()
        assert assignment is not None
        assert not ledger.record(assignment.number, ended)
    assert ledger.bug is None
    assert ledger.counts == {"infeasible": 4}
    assert study_of(folder).trials[0].user_attrs["reason"] == ended["error"]


def test_what_the_limits_leave_is_told_before_a_search():
    (share,) = limit_notes(limited("search.limits.parameters=3e4")[0], SHAPE, 10)
    assert share.startswith("limits parameters <= 30,000: ")
    notes = limit_notes(limited("search.limits.parameters=4000")[0], SHAPE, 10)
    assert notes[1].startswith("start point recipes/digits-baseline: parameters: ")
    assert notes[1].endswith("is above the limit of 4,000; it is not tried")
    assert limit_notes(limited("search.limits.latency_ms=4")[0], SHAPE, 10) == []
    with pytest.raises(
        InputError, match=r"search\.limits: none of \d+ random configs is within parameters <= 9; the smallest"
    ):
        limit_notes(limited("search.limits.parameters=9")[0], SHAPE, 10)


def test_the_limits_of_a_run_do_not_change(tmp_path):
    space, settings = limited("search.limits.parameters=30000")
    folder = make_folder(tmp_path, space, settings)
    study = folder.read_study()
    assert Settings.from_dict(study["settings"]) == settings
    with pytest.raises(InputError, match=r"search\.limits: parameters <= 30,000 in the run, parameters <= 50,000 in"):
        amend(folder, study, space, RunChanges(overrides=("search.limits.parameters=5e4",)))
    assert amend(folder, study, space, RunChanges(trials=3)).settings.limits == settings.limits


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.limits.parameters=0", "search.limits.parameters: must be above 0, but got 0"),
        ("search.limits.params=5", "search.limits.params: unknown key 'params'; allowed: parameters"),
        ("search.limits=5", "search.limits: must be a mapping, but got 5"),
    ],
)
def test_bad_limits_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        catalog.load("digits", [override])
