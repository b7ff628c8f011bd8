"""One definition of a winner: the search completes as many as retraining then finds."""

from __future__ import annotations

import pytest
import yaml

from tests.helpers.ledgers import SHAPE, make_folder, report, run_to_the_end
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.json_lines import JsonLines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.completed import completed_trials
from winnow.search.study.ledger import Ledger
from winnow.search.winners.candidates import BASELINE, choose_candidates
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=3"])


def searched(tmp_path, space: Space, **options) -> tuple[RunFolder, Settings]:
    settings = settings_for(space, **options)
    folder = make_folder(tmp_path, space, settings)
    assert run_to_the_end(Ledger(folder, space, settings, SHAPE))
    return folder, settings


@pytest.mark.parametrize("num_trials", [3, 6, 8, 12])
@pytest.mark.parametrize("top", [1, 3])
def test_a_search_ends_with_as_many_winners_as_were_asked_for(tmp_path, space, num_trials, top):
    """The baseline is completed first and counts for nothing."""
    for seed in range(3):
        folder, settings = searched(tmp_path / str(seed), space, trials=num_trials, top=top, seed=seed)
        candidates = choose_candidates(folder, space, settings)
        assert [candidate.rank for candidate in candidates] == [*range(1, min(top, num_trials - 1) + 1), None]
        assert candidates[-1].trial == 0


def test_the_whole_front_is_a_candidate_unless_a_number_is_asked_for(tmp_path):
    """A small limit in the settings counts; otherwise every trial that no other dominates is a candidate, and no other one."""
    space = catalog.load("digits", ["epochs=3", "search.objectives=[validation_accuracy, parameters]"])
    settings = settings_for(space, trials=12)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        ledger.note_size(
            assignment.number, {"num_parameters": 1000 * (1 + assignment.number)}
        )  # the first is the smallest
        for epoch in range(assignment.recorded + 1, 4):
            if not ledger.record(assignment.number, report(assignment, epoch, value=assignment.number / 20)):
                break  # the last is the best
    ledger.close()
    completed = completed_trials(folder, space, settings)
    assert len(completed.winners) > 1
    *front, _ = choose_candidates(folder, space, settings)
    assert [candidate.trial for candidate in front] == [trial.number for trial in completed.winners]
    *first, baseline = choose_candidates(folder, space, settings_for(space, trials=12, top=1))
    assert [candidate.trial for candidate in first] == [completed.winners[0].number]
    assert baseline.rank is None


def test_a_trial_outside_the_space_is_no_winner(tmp_path):
    """Completed before the space was changed: another one is completed in its place."""
    before = catalog.load("digits", ["epochs=3", "model.dropout={float: [0.3, 0.4]}", "start_from=[]"])
    folder, _ = searched(tmp_path, before, trials=5, top=1)
    after = catalog.load("digits", ["epochs=3", "model.dropout={float: [0.0, 0.1]}", "start_from=[]"])
    study = folder.read_study()
    amended = {**study, "space": after.tree, "amendments": [{"before": {"space": study["space"]}}]}
    folder.study.write_text(yaml.safe_dump(amended))
    settings = settings_for(after, trials=10, top=1)
    ledger = Ledger(folder, after, settings, SHAPE)
    assert ledger.counts["completed"] > 0
    run_to_the_end(ledger)
    assert completed_trials(folder, after, settings).winners


def test_a_diverged_trial_is_no_winner_and_another_one_is_finished(tmp_path, space):
    settings = settings_for(space, trials=5, top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    diverged = None
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, 4):
            if epoch == 3 and assignment.number and diverged in (None, assignment.number):
                diverged = assignment.number
                ledger.record(assignment.number, report(assignment, epoch, diverged=True, last=True))
                break
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
    assert diverged is not None
    (winner, *_), baseline = (
        choose_candidates(folder, space, settings)[:-1],
        choose_candidates(folder, space, settings)[-1],
    )
    assert winner.trial not in (diverged, 0)
    assert baseline.trial == 0


def test_without_a_winner_the_cause_and_a_command_that_helps_are_named(tmp_path, space):
    folder, settings = searched(tmp_path / "done", space, trials=1)
    with pytest.raises(InputError, match=r"Only the baseline \(trial 0\) completed.*winnow extend .* --trials 10"):
        choose_candidates(folder, space, settings)
    settings = settings_for(space, trials=3)
    folder = make_folder(tmp_path / "interrupted", space, settings)
    run_to_the_end(Ledger(folder, space, settings, SHAPE), crash_after=1)
    with pytest.raises(InputError, match=r"search has not finished.*winnow resume"):
        choose_candidates(folder, space, settings)


def test_a_baseline_that_was_no_trial_is_a_candidate_all_the_same(tmp_path):
    space = catalog.load("digits", ["epochs=3", "baseline=recipes/digits-baseline", "start_from=[]"])
    folder, settings = searched(tmp_path, space, trials=4, top=2)
    assert [candidate.trial == BASELINE for candidate in choose_candidates(folder, space, settings)] == [
        False,
        False,
        True,
    ]


def test_a_retraining_of_an_earlier_version_is_not_mixed_with_new_seeds(tmp_path, space):
    folder, settings = searched(tmp_path, space, trials=3)
    lines = JsonLines(folder.retrained)
    lines.append({"trial": 1, "seed": 12345, "rank": 1, "baseline": False, "status": "completed"})
    lines.close()
    with pytest.raises(InputError, match=r"retrain\.jsonl: an earlier version of Winnow wrote this file"):
        choose_candidates(folder, space, settings)
