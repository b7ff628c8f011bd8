"""With `--repeats` winners are configs: each is ranked by the mean of its repeats, not by the luckiest one, and retrained once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.helpers.ledgers import RECORDED_DATA, SHAPE, make_folder, report
from winnow import reports
from winnow.reports.figures.front import front_info
from winnow.reports.html.sections import _headline, _winner_facts
from winnow.reports.tables.candidates import candidates, has_candidates, incumbent
from winnow.reports.text.compare import comparison, show_comparison
from winnow.reports.text.one_trial import show_trial, trial_facts
from winnow.reports.text.seeds import mean_of_repeats_text, repeats_text, search_value_text
from winnow.reports.text.summary import sentences
from winnow.reports.text.winner_recipe import winner_config
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.completed import completed_trials
from winnow.search.study.ledger import Ledger
from winnow.search.winners.candidates import Candidate, choose_candidates, seed_of
from winnow.spaces import catalog
from winnow.spaces.identity import identity
from winnow.spaces.space import Space
from winnow.spaces.winners import by_config, mean_of_repeats

LUCKY, STEADY, BASELINE = 32, 64, 128
"""Batch sizes, which tell the configs apart."""
VALUES = {LUCKY: [0.9, 0.6, 0.6], STEADY: [0.8, 0.7, 0.9], BASELINE: [0.95, 0.5, 0.5]}
SIZES = {LUCKY: 100, STEADY: 200, BASELINE: 50}


def space_of(**changes: Any) -> Space:
    digits = catalog.load("digits", ["epochs=2", "optimizer={name: adam, lr: 0.001}", "schedule=constant"])
    model = {"name": "mlp", "hidden": [8]}
    tree = {**digits.tree, "batch_size": {"choice": [LUCKY, STEADY, BASELINE]}, "model": model, "start_from": {}}
    baseline = {key: value for key, value in tree.items() if key not in ("search", "retrain", "start_from", "baseline")}
    named = {"plain": {**baseline, "batch_size": BASELINE}}
    return Space.from_tree({**tree, "search": {}, "baseline": named, **changes}, "repeats.yaml")


def searched(
    folder: Path, space: Space, judge: Callable[[int, int, float], bool] | None = None, **options: Any
) -> tuple[RunFolder, Settings]:
    """Run every config three times, without early stopping unless `judge` says by trial, epoch and value whether a trial continues."""
    settings = settings_for(space, **{"trials": 9, "repeats": 3, "sampler": "random", "grace_epochs": 2, **options})
    run = make_folder(folder, space, settings)
    ledger = Ledger(run, space, settings, SHAPE)
    if judge is not None:
        ledger.scheduler.judge = judge
    left = {batch_size: list(values) for batch_size, values in VALUES.items()}
    while (assignment := ledger.ask()) is not None:
        batch_size = assignment.config["batch_size"]
        ledger.note_size(assignment.number, {"num_parameters": SIZES[batch_size], "multiply_adds": 1})
        value = left[batch_size].pop(0)
        for epoch in (1, 2):
            if not ledger.record(assignment.number, report(assignment, epoch, value)):
                break
    ledger.close()
    assert not any(left.values())
    return run, settings


def line_of(candidate: Candidate, settings: Settings) -> dict[str, Any]:
    """Return the line of `retrain.jsonl` about a completed training of a candidate."""
    about = {"rank": candidate.rank, "trial": candidate.trial, "baseline": candidate.rank is None}
    searched = {"config": candidate.config, "search_value": candidate.search_value, **candidate.of_repeats}
    return {**about, "seed": seed_of(settings, 0), "status": "completed", "test_accuracy": 0.5, "time": 0.0, **searched}


def trials_of(run: RunFolder, batch_size: int) -> list[int]:
    rows = reports.read(run.path).trial_rows()
    return [row["trial"] for row in rows if json.loads(row["config"])["batch_size"] == batch_size]


@pytest.mark.parametrize("objectives", [None, ["validation_accuracy", "parameters"]])
def test_configs_are_ranked_by_their_means(tmp_path: Path, objectives: list[str] | None) -> None:
    space = space_of() if objectives is None else space_of(search={"objectives": objectives})
    run, settings = searched(tmp_path, space)
    completed = completed_trials(run, space, settings)
    lucky, steady = trials_of(run, LUCKY), trials_of(run, STEADY)
    assert [trial.number for trial in completed.winners] == [steady[0], lucky[0]]
    assert [trial.value for trial in completed.winners] == [fmean(VALUES[STEADY]), fmean(VALUES[LUCKY])]
    assert [trial.repeats for trial in completed.winners] == [tuple(steady), tuple(lucky)]
    if objectives:
        assert [trial.further for trial in completed.winners] == [(200,), (100,)]
    assert completed.baseline is not None
    assert completed.baseline.value == fmean(VALUES[BASELINE])
    known = reports.read(run.path)
    rows = candidates(known, known.trial_rows(), [])
    assert [(row["trial"], row["objective"]) for row in rows] == [(t.number, t.value) for t in completed.winners]


def test_the_incumbent_of_a_running_search_is_that_of_its_report(tmp_path: Path) -> None:
    """The luckiest trial is that of `LUCKY`; the best mean is that of `STEADY`, or that of the baseline while it has run once."""
    space = space_of()
    run, settings = searched(tmp_path, space)
    ledger = Ledger(run, space, settings, SHAPE)
    ledger.close()
    steady = trials_of(run, STEADY)
    assert ledger.best == (steady[0], fmean(VALUES[STEADY]))
    assert ledger.best_trials == steady
    assert ledger.best_config["batch_size"] == STEADY
    reported = incumbent(reports.read(run.path), reports.read(run.path).trial_rows())
    assert reported is not None
    assert (reported["trial"], reported["objective"]) == ledger.best


def test_each_config_is_one_candidate_and_its_lines_say_the_repeats(tmp_path: Path) -> None:
    space = space_of()
    run, settings = searched(tmp_path, space)
    first, second, baseline = choose_candidates(run, space, settings)
    assert (first.rank, second.rank, baseline.rank) == (1, 2, None)
    assert first.search_value == fmean(VALUES[STEADY])
    assert first.of_repeats == {"search_value": first.search_value, "repeats": trials_of(run, STEADY)}
    line = line_of(first, settings) | {"rank": 2, "search_value": 0.9}
    del line["repeats"]
    run.retrained.write_text(json.dumps(line) + "\n")
    choose_candidates(run, space, settings)
    (kept,) = read_json_lines(run.retrained)
    assert (kept["rank"], kept["search_value"], kept["repeats"]) == (1, first.search_value, trials_of(run, STEADY))


def test_a_mean_says_how_many_repeats_it_leaves_out(tmp_path: Path) -> None:
    """Early stopping leaves one repeat of the lucky config, so its mean is its luckiest value. The baseline is trained to its end."""
    space = space_of()
    run, settings = searched(tmp_path, space, lambda _trial, _epoch, value: value > 0.65, grace_epochs=1, top=1)
    chosen = choose_candidates(run, space, settings.changed(retrain=settings.retrain.model_copy(update={"top": 2})))
    run.retrained.write_text("".join(json.dumps(line_of(each, settings)) + "\n" for each in chosen))
    known = reports.read(run.path)
    rows = known.winner_rows()
    assert [row["search_objective"] for row in rows] == [
        0.9,
        fmean(VALUES[STEADY]),
        fmean(VALUES[BASELINE]),
    ]
    assert [(row["num_repeats"], row["num_incomplete_repeats"]) for row in rows] == [(1, 2), (3, 0), (3, 0)]
    assert [search_value_text(known, row).replace("\u00a0", " ") for row in rows] == [
        "90.00 % (from 1 of 3 repeats)",
        "80.00 % (mean of 3 repeats)",
        "65.00 % (mean of 3 repeats)",
    ]
    told = (
        "mean of its completed repeats: 1 of the 3 of winner 1, 3 of winner 2. The others were stopped early, failed or"
    )
    assert told in " ".join(sentences(known))
    assert "repeats: 1 of the 3 of winner 1. The others" in repeats_text(rows[:1])
    assert "The others" not in repeats_text(rows[1:])


def test_a_repeat_that_completes_later_changes_no_retraining(tmp_path: Path) -> None:
    """Also if its number is lower, and if it would be retrained for other epochs."""
    space = space_of()
    settings = settings_for(space, trials=9, repeats=3, sampler="random", grace_epochs=2)
    run = make_folder(tmp_path, space, settings)
    ledger = Ledger(run, space, settings, SHAPE)
    asked = [assignment for _ in range(9) if (assignment := ledger.ask()) is not None]
    late = next(assignment for assignment in asked if assignment.config["batch_size"] == STEADY)
    for assignment in asked:
        if assignment is not late:
            for epoch in (1, 2):
                value = 0.8 if assignment.config["batch_size"] == STEADY else 0.5
                ledger.record(assignment.number, report(assignment, epoch, value))
    ledger.close()
    first = choose_candidates(run, space, settings)[0]
    *_, second_repeat, third_repeat = trials_of(run, STEADY)
    assert (first.trial, first.repeats) == (second_repeat, (second_repeat, third_repeat))
    run.retrained.write_text(json.dumps(line_of(first, settings)) + "\n")

    ledger = Ledger(run, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        assert assignment.number == late.number < first.trial
        for epoch in (1, 2):
            ledger.record(assignment.number, report(assignment, epoch, 0.7, weights_epoch=1))
    ledger.close()
    again = choose_candidates(run, space, settings)[0]
    assert (again.trial, again.config) == (first.trial, first.config)
    assert again.repeats == (late.number, second_repeat, third_repeat)
    (kept,) = read_json_lines(run.retrained)
    assert (kept["trial"], kept["repeats"]) == (first.trial, list(again.repeats))
    assert kept["search_value"] == again.search_value == fmean([0.7, 0.8, 0.8])
    assert list(read_json_lines(run.retrained_earlier)) == []
    known = reports.read(run.path)
    assert candidates(known, known.trial_rows(), known.winner_rows())[0]["trial"] == first.trial


def test_before_retraining_reports_are_of_the_config_that_it_takes_first(tmp_path: Path) -> None:
    """Neither of the luckiest repeat nor of the baseline's."""
    space = space_of()
    run, settings = searched(tmp_path, space)
    steady, value = trials_of(run, STEADY), fmean(VALUES[STEADY])
    reports.write(run.path)
    known = reports.read(run.path)
    winner = yaml.safe_load((run.path / "report" / "winner.yaml").read_text())
    assert winner == winner_config(known) == choose_candidates(run, space, settings)[0].config
    assert winner["batch_size"] == STEADY
    facts = _winner_facts(known)
    assert facts is not None
    assert "200 weights" in facts["sentence"]
    assert facts["sentence"].endswith(f"in batches of {STEADY}.")
    first = (
        "validation accuracy of the config that the search ranks first (mean of 3 repeats); not yet retrained or tested"
    )
    assert _headline(known) == ("80.00\u00a0%", first, "best-config")
    ranked = f"The search ranks the config of trial {steady[0]} first, with a validation accuracy of 80.00\u00a0% (mean of 3 repeats)."
    assert ranked in sentences(known)
    output = io.StringIO()
    rows = comparison([known, known])
    assert [row["best_objective"] for row in rows] == [value, value]
    assert show_comparison([known, known], Console(file=output, width=200))
    assert output.getvalue().count("80.00\u00a0% (mean of 3 repeats)") == 2
    assert "95.00" not in output.getvalue()


@pytest.mark.parametrize(
    ("status", "num", "told"),
    [
        ("completed", 0, "mean of 3 repeats"),
        ("stopped", 1, "mean of 2 of 3 repeats"),
        ("running", 2, "from 1 of 3 repeats"),
        ("skipped", 1, "mean of 2 repeats"),
    ],
)
def test_the_mean_of_the_best_config_says_which_repeats_it_leaves_out(
    tmp_path: Path, status: str, num: int, told: str
) -> None:
    """The last ones ended so; a skipped trial did not run."""
    run, _ = searched(tmp_path, space_of())
    known, steady = reports.read(run.path), trials_of(run, STEADY)
    left_out = steady[3 - num :]
    trials = [row | {"status": status} if row["trial"] in left_out else row for row in known.trial_rows()]
    best = incumbent(known, trials)
    assert best is not None
    assert (best["trial"], best["repeats"]) == (steady[0], steady[: 3 - num])
    assert best["objective"] == mean_of_repeats(VALUES[STEADY][: 3 - num])
    assert mean_of_repeats_text(best) == told


def test_without_a_config_to_retrain_a_trial_is_the_best(tmp_path: Path) -> None:
    run, _ = searched(tmp_path, space_of())
    known = reports.read(run.path)
    trials = [row | {"status": "stopped"} for row in known.trial_rows()]
    best = incumbent(known, trials)
    assert best is not None
    assert best["objective"] == max(VALUES[BASELINE])
    assert "repeats" not in best
    assert incumbent(known, []) is None


def test_every_repeat_shows_the_retrainings_of_its_config(tmp_path: Path) -> None:
    space = space_of()
    run, settings = searched(tmp_path, space)
    winner, *_ = choose_candidates(run, space, settings)
    line = {
        "rank": 1,
        "trial": winner.trial,
        "seed": 7,
        "baseline": False,
        "config": winner.config,
        **winner.of_repeats,
    }
    run.retrained.write_text(json.dumps(line | {"status": "completed", "test_accuracy": 0.81}) + "\n")
    known = reports.read(run.path)
    first, *others = trials_of(run, STEADY)
    for number in (first, *others):
        output = io.StringIO()
        show_trial(known, Console(file=output, width=200), number, lambda *training: f"place of {training}")
        whose = "" if number == first else f" as the config of trial {first}"
        assert f"\nretrained{whose}, seed 7: test accuracy 81.00\u00a0%\n" in output.getvalue()
        assert f"place of ({first}, 't{first}-s7')\n" in output.getvalue()
        assert f"place of ({number}, None)\n" in output.getvalue()
    assert [trial_facts(known, number)["retrains"] for number in trials_of(run, LUCKY)] == [[], [], []]


def test_spellings_that_these_images_make_equal_are_one_config(tmp_path: Path) -> None:
    """The last map has one pixel, so flattening it is averaging it. The search counts both as repeats, and so do winners."""
    pixel = {"name": "cnn", "stages": [{"filters": 4, "pool_size": 8}]}
    plain = {**(space_of().baseline or {}), "batch_size": LUCKY, "model": {**pixel, "features": "avg"}}
    choices = {
        "batch_size": {"choice": [LUCKY, STEADY]},
        "model": {**pixel, "features": {"choice": ["flatten", "avg"]}},
    }
    spelled = {
        f"{size} {features}": plain | {"batch_size": size, "model": {**pixel, "features": features}}
        for size in (LUCKY, STEADY)
        for features in ("flatten", "avg")
    }
    space = space_of(**choices, baseline={"plain": plain}, start_from=spelled)
    settings = settings_for(space, trials=8, repeats=4, sampler="random", grace_epochs=2)
    run = make_folder(tmp_path, space, settings)
    run.study.write_text(yaml.safe_dump(run.read_study() | {"data": RECORDED_DATA}))
    ledger = Ledger(run, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        for epoch in (1, 2):
            ledger.record(assignment.number, report(assignment, epoch, 0.5))
    assert ledger.goal.num_wanted == 2, "of three winners, the config of one has completed"
    ledger.close()
    known = reports.read(run.path)
    configs = [json.loads(row["config"]) for row in known.trial_rows()]
    spellings = {f"{config['batch_size']} {config['model']['features']}" for config in configs}
    assert spellings == spelled.keys()
    steady = tuple(trials_of(run, STEADY))
    assert len(steady) == 4
    completed = completed_trials(run, space, settings)
    assert [trial.repeats for trial in completed.winners] == [steady]
    assert completed.baseline is not None
    assert completed.baseline.repeats == tuple(trials_of(run, LUCKY))
    assert [row["trial"] for row in candidates(known, known.trial_rows(), [])] == [steady[0]]
    only_baseline = [row for row in known.trial_rows() if row["trial"] not in steady]
    assert not has_candidates(known, only_baseline)


def test_the_front_shows_means(tmp_path: Path) -> None:
    space = space_of(search={"objectives": ["validation_accuracy", "parameters"]})
    run, _ = searched(tmp_path, space)
    read = reports.read(run.path)
    assert [row["objective"] for row in read.rows("front")] == [fmean(VALUES[STEADY]), fmean(VALUES[LUCKY])]
    info = front_info(read, "num_parameters")
    assert [info.objective[place] for place in info.front] == [fmean(VALUES[LUCKY]), fmean(VALUES[STEADY])]


def test_a_search_needs_as_many_configs_as_winners_were_asked_for(tmp_path: Path) -> None:
    """Repeats of a config that has completed bring no further winner, and of open ones only one does."""
    space = space_of()
    settings = settings_for(space, trials=9, repeats=3, sampler="random", grace_epochs=2, top=2)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    open_trials = [assignment for _ in range(9) if (assignment := ledger.ask()) is not None]
    assert ledger.goal.num_wanted == 2
    of = {size: [trial for trial in open_trials if trial.config["batch_size"] == size] for size in VALUES}
    assert len(ledger.goal.epochs_left) == 2, "one for each config that may win"
    further = of[LUCKY][1]
    ledger.record(further.number, report(further, 1, 0.5))
    assert ledger.goal.epochs_left == {further.number: 1, of[STEADY][0].number: 2}
    ledger.record(further.number, report(further, 2, 0.5))
    assert ledger.goal.num_wanted == 1
    assert ledger.goal.epochs_left == {of[STEADY][0].number: 2}
    for epoch in (1, 2):
        ledger.record(of[LUCKY][0].number, report(of[LUCKY][0], epoch, 0.5))
    assert ledger.goal.num_wanted == 1
    ledger.close()


def test_without_repeats_every_trial_stands_for_itself(tmp_path: Path) -> None:
    space = space_of()
    config = space.config(space.baseline or {}).model_dump(mode="json")
    assert by_config([config, config], 1) == [[0], [1]]
    assert by_config([config, {**config, "batch_size": 7}, config], 2) == [[0, 2], [1]]
    spelled = {**config, "early_stopping": {"patience": 9, "metric": "validation_loss", "min_delta": 0.0}}
    assert identity(spelled) == identity(config)
    assert by_config([config, spelled], 2) == [[0, 1]]
    assert mean_of_repeats([7]) == 7
    assert isinstance(mean_of_repeats([7, 7, None]), int)
    assert mean_of_repeats([None]) is None
    settings = settings_for(space, trials=3, sampler="random", grace_epochs=2)
    run = make_folder(tmp_path, space, settings)
    ledger = Ledger(run, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        for epoch in (1, 2):
            ledger.record(assignment.number, report(assignment, epoch))
    ledger.close()
    winners = choose_candidates(run, space, settings)
    assert all(candidate.repeats == () and candidate.of_repeats == {} for candidate in winners)
