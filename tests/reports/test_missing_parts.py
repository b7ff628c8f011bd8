"""What reports say where something is missing: a retraining, the baseline, predictions, seeds, completed trials."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from winnow import reports, search
from winnow.reports.figures.winners import _winners_info as winners_info
from winnow.reports.figures.winners import winners as winners_figure
from winnow.reports.html import sections
from winnow.reports.html.sections import _headline
from winnow.reports.text import compare, summary, wording
from winnow.reports.text.baseline import baseline_words, protocol_differences
from winnow.reports.text.seeds import left_out
from winnow.reports.text.terminal import show
from winnow.reports.text.winner_words import yardsticks

FAILED = {"status": "failed", "test_accuracy": None, "test_loss": None, "predictions": None, "error": "boom"}
Line = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of a run that a test may change."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def change_lines(folder: Path, change) -> None:
    lines = [change(json.loads(line)) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if line is not None))


def change_study(folder: Path, change) -> None:
    study = yaml.safe_load((folder / "study.yaml").read_text())
    change(study)
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def text_of(folder: Path) -> str:
    return " ".join(summary.sentences(reports.read(folder)))


def shown(folder: Path) -> str:
    output = io.StringIO()
    show(reports.read(folder), Console(file=output, width=200))
    return output.getvalue()


def test_that_refers_to_the_winners_objective(whole):
    """The sentence on the gain begins with `That`, so it follows the value that it compares."""
    texts = summary.sentences(reports.read(whole))
    place = next(i for i, text in enumerate(texts) if text.startswith("That is"))
    assert texts[place - 1].startswith("Retrained on")


def test_a_winner_whose_retrainings_failed_is_not_replaced_silently(folder):
    change_lines(folder, lambda line: line | FAILED if line["rank"] == 1 else line)
    text = text_of(folder)
    assert "No retraining of winner 1 (trial 11) completed, so it was not tested." in text
    assert re.search(r"3 fresh seeds, winner 2 \(trial \d+\) reaches", text)
    headline = _headline(reports.read(folder))
    assert headline is not None
    assert headline[1].endswith("the first winner has no value on the test images")


def with_five_seeds(folder: Path, rank: int | None, *broken: Line) -> None:
    """Give a config five seeds, of which the last ones are changed."""
    lines = [json.loads(line) for line in (folder / "retrain.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["rank"] == rank)
    changes = [*[{}] * (5 - len(broken)), *broken]
    seeds = [first | {"seed": first["seed"] + place} | change for place, change in enumerate(changes)]
    lines = [line for line in lines if line["rank"] != rank] + seeds
    (folder / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


DIVERGED = FAILED | {"status": "diverged", "error": None}


@pytest.mark.parametrize("seeds", [(101,), (101, 102, 103)])
def test_the_size_of_a_winner_is_that_of_any_seed_that_completed(whole, folder, seeds):
    """A training that diverged does not record it, whichever seed it has."""

    def diverge(line: Line) -> Line:
        if line["rank"] not in (1, None) or line["seed"] not in seeds:
            return line
        return {
            key: value for key, value in (line | DIVERGED).items() if key not in ("num_parameters", "multiply_adds")
        }

    change_lines(folder, diverge)
    shown = search.load_run(folder)._repr_html_()
    for row, expected in zip(reports.read(folder).winner_rows(), reports.read(whole).winner_rows(), strict=True):
        is_known = row["rank"] in (2, 3) or len(seeds) == 1
        for key in ("num_parameters", "multiply_adds"):
            assert row[key] == (expected[key] if is_known else None)
        assert f">{wording.count(row['num_parameters'])}</td>" in shown


def test_retrainings_without_a_result_are_told_beside_the_mean_of_the_others(folder):
    with_five_seeds(folder, 1, DIVERGED, DIVERGED)
    with_five_seeds(folder, None, DIVERGED, FAILED)
    run = reports.read(folder)
    headline = _headline(run)
    assert headline is not None
    assert ", mean of 3 of 5 seeds (2 did not complete)" in headline[1]
    told = "2 of the 5 retrainings of winner 1 have no test accuracy (2 diverged), so its figures describe only the others."
    of_baseline = "2 of the 5 retrainings of the baseline have no test accuracy (1 diverged, 1 failed), so its figures"
    for text in (text_of(folder), shown(folder), page_text(sections.winners(run).html)):
        text = " ".join(text.split())
        assert told in text
        assert of_baseline in text
        assert "1 of the 3 retrainings of winner 3 has no test accuracy (1 diverged)" in text
        assert "retrainings of winner 2" not in text
    assert "with 3 of 5 fresh seeds (2 did not complete), the winner (trial 11) reaches" in text_of(folder)


def test_seeds_without_a_value_of_the_metric_are_told(folder):
    change_study(folder, lambda study: study["settings"].update(objective="validation_auroc"))
    auroc = {"test_auroc": 0.9}
    change_lines(folder, lambda line: line | auroc if line["status"] == "completed" and line["rank"] != 2 else line)
    assert "winner 2 " not in " ".join(left_out(reports.read(folder), reports.read(folder).winner_rows()))
    with_five_seeds(folder, 1, {"test_auroc": 0.8}, {"test_auroc": math.nan})
    told = "1 of the 5 retrainings of winner 1 has no test AUROC (1 without a value), so its figures describe only the others."
    text, run = text_of(folder), reports.read(folder)
    first, second, *_ = run.winner_rows()
    assert [first[key] for key in ("num_seeds", "num_failed", "num_objective_seeds")] == [5, 0, 4]
    assert [second[key] for key in ("num_seeds", "num_failed", "num_objective_seeds")] == [3, 0, 0]
    assert first["test_objective"] == pytest.approx((3 * 0.9 + 0.8) / 4)
    assert told in text
    assert "with 4 of 5 fresh seeds (1 without a value), the winner (trial 11) reaches a test AUROC of 87.50" in text
    assert " over 4 seeds alone, as " in text
    headline = _headline(run)
    assert headline is not None
    assert "mean of 4 of 5 seeds (1 without a value), 95 % interval " in headline[1]
    assert " over 4 seeds alone, as " in headline[1]
    assert "4 of 5" in page_text(sections.winners(run).html), "in the table"


def test_a_winner_without_any_value_of_the_metric_does_not_reach_one(folder):
    change_study(folder, lambda study: study["settings"].update(objective="validation_auroc"))
    change_lines(folder, lambda line: line | ({"test_auroc": 0.9} if line["rank"] == 2 else {}))
    text = text_of(folder)
    assert "with 3 fresh seeds, the winner (trial 11) has no test AUROC (3 without a value)." in text
    assert "reaches a test AUROC" not in text
    assert "No retraining of the baseline has a test AUROC, so the gain over it is unknown." in text
    assert "The test accuracy of the winner is 97" in text
    with_five_seeds(folder, 1, DIVERGED)
    told = "with 4 of 5 fresh seeds (1 did not complete), the winner (trial 11) has no test AUROC"
    assert f"{told} (4 without a value, 1 diverged)." in text_of(folder)


def test_compared_winners_say_which_retrainings_they_leave_out(whole, folder):
    change_study(folder, lambda study: study.update(name="run"))
    with_five_seeds(folder, 1, DIVERGED, DIVERGED)
    output = io.StringIO()
    assert compare.show_comparison([reports.read(whole), reports.read(folder)], Console(file=output, width=200))
    text = " ".join(output.getvalue().split())
    assert "2 of the 5 retrainings of the winner of run have no test accuracy (2 diverged)" in text
    assert "retrainings of the winner of whole" not in text
    assert re.search(r"run +[^\n]*\) +3 of 5 +", output.getvalue())
    assert re.search(r"whole +[^\n]*\) +3 +", output.getvalue())


@pytest.mark.parametrize(
    ("objective", "change", "reason"),
    [
        ("validation_accuracy", DIVERGED, "has no test accuracy (3 diverged)"),
        ("validation_auroc", {"test_auroc": None}, "has no test AUROC (3 without a value)"),
    ],
)
def test_a_comparison_says_why_a_first_winner_has_no_value(whole, tmp_path, objective, change, reason):
    """Others of its winners have one."""
    folders = [Path(shutil.copytree(whole, tmp_path / name)) for name in ("one", "other")]
    for folder in folders:
        change_study(folder, lambda study, name=folder.name: study.update(name=name))
        change_study(folder, lambda study: study["settings"].update(objective=objective))
        change_lines(folder, lambda line: line | {"test_auroc": 0.9})
    change_lines(folders[1], lambda line: line | change if line["rank"] == 1 else line)
    output = io.StringIO()
    assert compare.show_comparison([reports.read(folder) for folder in folders], Console(file=output, width=200))
    told = f"other - one: the difference is unknown, because winner 1 of other {reason}"
    assert told in " ".join(output.getvalue().split())


def test_every_winner_without_a_result_is_told(folder):
    change_lines(folder, lambda line: line | FAILED if line["rank"] == 3 else line)
    assert "No retraining of winner 3 (trial " in text_of(folder)


def test_a_run_without_a_baseline_says_how_to_name_one(folder):
    assert "no baseline" not in text_of(folder)
    change_lines(folder, lambda line: None if line["baseline"] else line)
    waiting = "The baseline is not retrained yet, so the gain over it is unknown."
    assert waiting in text_of(folder)
    assert waiting in shown(folder)

    def without(study: Line) -> None:
        study["space"].pop("baseline", None)
        study["space"].pop("start_from", None)

    change_study(folder, without)
    told = "name a recipe or a file, in `start_from` if it lies in the space, otherwise in `baseline`"
    assert told in text_of(folder)
    assert told in " ".join(shown(folder).split())


def test_a_search_without_a_baseline_says_so_before_retraining(folder):
    (folder / "retrain.jsonl").unlink()
    assert "no baseline" not in text_of(folder)
    change_study(folder, lambda study: study["space"].pop("start_from"))
    change_study(folder, lambda study: study["space"].pop("baseline"))
    assert "There is no baseline to compare the winners with: name a recipe" in text_of(folder)


@pytest.mark.parametrize(("loss", "differs"), [("margin", True), ("focal", False)])
def test_losses_of_different_kinds_are_not_compared(folder, loss, differs):
    change_study(folder, lambda study: study["settings"].update(objective="validation_loss", direction="minimize"))
    change_lines(
        folder,
        lambda line: line if line["baseline"] else line | {"config": line["config"] | {"loss": {"name": loss}}},
    )
    run = reports.read(folder)
    first = run.winner_rows()[0]
    assert (first["objective_gain"] is None) == differs
    assert first["gain"] == pytest.approx(first["test_accuracy"] - run.winner_rows()[-1]["test_accuracy"])
    told = "was trained with a loss of another kind than the baseline, so their test losses are not compared"
    accuracies = f"{told}. Its test accuracy differs from that of the baseline by {wording.points(first['gain'])} (95 %"
    assert (accuracies in text_of(folder)) == differs
    assert ("That is" in text_of(folder)) != differs
    assert (told in " ".join(shown(folder).split())) == differs
    assert (told in page_text(sections.winners(run).html)) == differs
    assert ("the baseline" in dict(yardsticks(run))) != differs
    table = sections._metrics_table(run, run.rows("winners"))
    assert table is not None
    assert ("loss" in table.columns) != differs
    assert (wording.OTHER_LOSSES in page_text(sections.winners(run).html)) == differs
    (figure,) = winners_figure(run)
    assert ("baseline" in winners_info(run).labels) != differs
    assert ("The baseline is left out, as its loss is of another kind." in figure.caption) == differs


def test_a_baseline_that_failed_is_told(folder):
    change_lines(folder, lambda line: line | FAILED if line["baseline"] else line)
    failed = "No retraining of the baseline completed, so the gain over it is unknown."
    assert failed in text_of(folder)
    assert failed in shown(folder)


def test_only_the_baseline_is_retrained_so_far(folder):
    change_lines(folder, lambda line: line if line["baseline"] else None)
    headline = _headline(reports.read(folder))
    assert headline is not None
    assert headline[1].endswith("not yet retrained or tested")


def test_intervals_without_predictions_are_over_seeds_alone_everywhere(folder):
    assert "interval over seeds and test images" in " ".join(shown(folder).split())
    shutil.rmtree(folder / "predictions")
    assert "95 %: interval over seeds alone" in shown(folder)
    run = reports.read(folder)
    assert wording.intervals_over(run, run.winner_rows()) == "over seeds alone"


def test_seeds_that_agree_give_no_interval_without_predictions(folder):
    shutil.rmtree(folder / "predictions")
    change_lines(folder, lambda line: line | {"test_accuracy": 1.0} if line["status"] == "completed" else line)
    text = text_of(folder)
    assert "reaches a test accuracy of 100.00\u00a0% (the seeds do not differ, so no interval)" in text
    assert "level with the baseline" in text


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "margin", "my_losses:own"])
def test_the_interval_of_a_loss_that_probabilities_do_not_give_is_over_seeds(whole, loss):
    run = reports.read(whole)
    run.study["settings"]["objective"] = "validation_loss"
    row = run.winner_rows()[0]
    row = row | {"config": json.dumps(json.loads(row["config"]) | {"loss": {"name": loss}})}
    assert row["test_objective_images"] is None, "the simulated loss is not that of the probabilities"
    is_measured = loss in ("cross_entropy", "focal")
    why = "the predictions do not give the measured value" if is_measured else "the loss is not cross-entropy"
    assert wording.basis(run, row) == f"over 3 seeds alone, as {why}"
    assert wording.basis(run, row | {"test_objective_images": 360}) == "over 3 seeds and 360 test images"


def test_one_network_of_one_class(whole):
    row = reports.read(whole).winner_rows()[0] | {"num_one_class": 1}
    assert "1 of the 3 networks of winner 1 gives every test image" in wording.one_class_warning(row)


def test_trials_of_different_lengths_are_not_compared_silently(whole):
    run = reports.read(whole)
    rows = [row | {"status": "stopped"} for row in run.trial_rows() if row["objective"] is not None]
    text = summary._best_sentence(run, rows)
    assert text.startswith("No trial has completed, so values after different numbers of epochs are compared")
    assert text.endswith("after 20 epochs.")


def test_the_best_value_of_a_search_that_completed_nothing_says_its_epochs(tmp_path, whole):
    runs = [reports.read(make_run(tmp_path / "run", "searched", completed="none")), reports.read(whole)]
    (best, completed), console = compare.comparison(runs), Console(file=io.StringIO(), width=120)
    assert (best["best_status"], completed["best_status"]) == ("stopped", "completed")
    console.print(compare._search_table(runs[0], [best, completed]))
    value = wording.objective_text(runs[0], best["best_objective"])
    text = console.file.getvalue()
    assert f"{value} after {wording.plural(best['best_epochs'], 'epoch')}" in text
    assert text.count("after") == 1
    headline = _headline(runs[0])
    assert headline is not None
    assert f"after {wording.plural(best['best_epochs'], 'epoch')}, as no trial has completed" in headline[1]


def test_gains_of_a_share_that_is_minimised(folder):
    change_study(
        folder, lambda study: study["settings"].update(objective="validation_calibration_error", direction="minimize")
    )
    change_lines(folder, lambda line: line | {"test_calibration_error": line["test_accuracy"] and 0.05})
    assert "gain: better than the baseline" in shown(folder)
    assert "the calibration error is overestimated" in text_of(folder)


def test_the_largest_class_is_that_of_the_images_in_the_headline(whole):
    run = reports.read(whole)
    assert ("always the largest class", "10.00\u00a0%") in yardsticks(run)
    run.winners  # noqa: B018
    run._once["rows winners"] = []
    assert ("always the largest class", "12.20\u00a0%") in yardsticks(run)


def test_runs_with_other_metrics_losses_or_images_are_not_compared(whole):
    def keys(**settings: Any) -> list[str]:
        first, second = reports.read(whole), reports.read(whole)
        for run in (first, second):
            run.study["settings"] |= {"objective": "validation_accuracy"}
        space = settings.pop("space", {})
        for run in (first, second):
            run.study["settings"] |= settings
        second.study["space"] |= space
        return [row["key"] for row in compare.protocol_differences([first, second])]

    assert keys() == []
    own = {"own_metric": "my_metrics:cost"}
    assert keys(space=own) == []
    assert keys(space=own, objective="validation_own_metric") == ["own metric"]
    named = {"own_metric": {"name": "my_metrics:cost", "price": 2.0}}
    assert keys(space=named, objective="validation_own_metric") == ["own metric"]
    margin = {"loss": {"name": "margin"}}
    assert keys(space=margin) == []
    assert keys(space=margin, objective="validation_loss") == ["measured loss"]


def test_winners_of_other_training_images_are_not_compared(whole, folder):
    change_lines(folder, lambda line: line | {"keep_validation": True})
    differences = compare.winner_differences([reports.read(whole), reports.read(folder)])
    assert differences == [{"key": "validation images kept in retraining", "values": [False, True]}]


def test_winners_with_other_views_in_the_test_are_not_compared(whole):
    plain, viewed = reports.read(whole), reports.read(whole)
    viewed.study["space"] = {**viewed.study["space"], "test_flip": True, "test_shift": 1}
    assert compare.protocol_differences([plain, viewed]) == []
    assert compare.winner_differences([plain, viewed]) == [
        {"key": "flip in the final test", "values": [False, True]},
        {"key": "shift in the final test", "values": [0, 1]},
    ]


def test_validation_images_that_will_be_kept_in_retraining_count_before_it(tmp_path):
    one, other = (make_run(tmp_path / name, "searched") for name in ("one", "other"))
    change_study(other, lambda study: study["settings"].update(retrain={"keep_validation": True}))
    differences = compare.winner_differences([reports.read(one), reports.read(other)])
    assert {"key": "validation images kept in retraining", "values": [False, True]} in differences


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"early_stopping": {"patience": 3}}, "its early stopping had no validation images"),
        ({"weights": "lowest_validation_loss"}, "its choice of weights had no validation images"),
        ({"schedule": {"name": "plateau"}}, "plateau schedule of the baseline watched the training loss"),
        ({"schedule": {"name": "plateau", "reductions": [3]}}, ""),
    ],
)
def test_a_baseline_that_no_validation_images_saw(whole, changes, expected):
    run = reports.read(whole)
    rows = [row | {"config": json.dumps(json.loads(row["config"]) | changes)} for row in run.winner_rows()]
    text = " ".join(protocol_differences(run, rows))
    assert (
        (expected in text and "The gain over the baseline includes this difference." in text)
        if expected
        else text == ""
    )
    assert ("not trained and tested under the same protocol" in baseline_words(run, rows)) == bool(expected)
    as_trials = [row | {"trial": 4} for row in rows]
    assert protocol_differences(run, as_trials) == []


def test_a_baseline_that_kept_the_validation_images_was_decided_by_them(folder):
    change_lines(folder, lambda line: line | {"keep_validation": True, "config": stopping_early(line["config"])})
    run = reports.read(folder)
    assert protocol_differences(run, run.winner_rows()) == []


def stopping_early(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"early_stopping": {"patience": 3, "metric": "validation_loss", "min_delta": 0.0}}


@pytest.mark.parametrize("status", [None, "diverged"])
def test_page_show_and_summary_say_that_no_trial_decided_for_the_baseline(folder, status):
    """They once said that it was trained under the same protocol. Its trial may have diverged, and then nobody should add one."""
    change_lines(folder, lambda line: line | {"config": stopping_early(line["config"])})
    run = reports.read(folder)
    (baseline,) = (row for row in run.winner_rows() if row["baseline"])
    trial = {**run.trial_rows()[0], "config": baseline["config"], "status": status, "source": "start_from:mine"}
    rows = [trial if status else {**trial, "source": "sampler"}]
    source: Any = SimpleNamespace(winner_rows=run.winner_rows, retrain_rows=run.retrain_rows, trial_rows=lambda: rows)
    run = replace(run, source=source)
    text = " ".join(protocol_differences(run, run.winner_rows()))
    assert ("did not complete in the search (trial 0: diverged)" in text) == (status is not None)
    assert ("was not a trial of the search" in text) == ("`start_from`" in text) == (status is None)
    said = "so its early stopping had no validation images to decide by"
    page = page_text(sections.winners(reports.read(folder)).html)
    for told in (text_of(folder), page, shown(folder)):
        assert said in " ".join(told.split())


def test_other_views_of_test_images_are_told(whole):
    """Runs of earlier versions tested a baseline without the views that their space fixes."""
    run = reports.read(whole)
    rows = [
        row | {"config": json.dumps(json.loads(row["config"]) | {"test_flip": not row["baseline"]})}
        for row in run.winner_rows()
    ]
    text = " ".join(protocol_differences(run, rows))
    assert "Winner 1 was tested over other views of each image than the baseline (`test_flip`)." in text
