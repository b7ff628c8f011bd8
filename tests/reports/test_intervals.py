"""Intervals over seeds and test images: their limits, their symmetry, and how often they hold the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rich.console import Console
from scipy import stats

from benchmarks.search_quality.intervals import Case, simulate
from tests.helpers.by_metric import run_by
from tests.helpers.make_run import NUM_TEST, make_run
from tests.reports.test_contributions import rewrite_predictions
from winnow import reports
from winnow.reports.tables.answers import load_answers, winner_answers
from winnow.reports.tables.contributions import contributions
from winnow.reports.tables.intervals import difference_interval, mean_interval, seeds_interval, share_interval, t_975
from winnow.reports.tables.parquet import write_tables
from winnow.reports.text import compare, summary
from winnow.reports.text.terminal import show

ANSWERS = arrays.arrays(bool, st.tuples(st.integers(2, 5), st.integers(2, 40)))


@given(ANSWERS)
def test_an_accuracy_lies_inside_an_interval_that_has_a_width(correct):
    mean, low, high = share_interval(correct)
    assert mean == pytest.approx(correct.mean())
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert low < high


@given(ANSWERS, st.integers(0, 2**32 - 1))
def test_a_difference_turns_its_sign_with_its_sides(correct, seed):
    other = np.random.default_rng(seed).random((3, correct.shape[1])) < 0.5
    difference, low, high = difference_interval(correct, other)
    assert low < high
    assert low <= difference <= high
    assert difference_interval(other, correct) == pytest.approx((-difference, -high, -low))


def test_all_images_right_leaves_room_for_the_images_that_were_not_seen():
    """The rule of three: with 0 errors in 300 images the true error may be about 1 %."""
    _, low, high = share_interval(np.ones((3, 300), bool))
    assert high == 1
    assert 0.98 < low < 0.995


def test_more_seeds_do_not_make_a_small_test_set_say_more():
    """Ten networks that agree on every image are one network as far as the images go: Wilson's interval of 100 images."""
    one = np.arange(100) < 80
    _, low, high = share_interval(np.tile(one, (10, 1)))
    assert (low, high) == pytest.approx((0.7112, 0.8666), abs=0.005)


def test_half_a_step_is_taken_off_a_difference_of_accuracies():
    random = np.random.default_rng(0)
    a, b = random.random((2, 40)) < 0.9, random.random((3, 40)) < 0.8
    of_answers, of_values = difference_interval(a, b, step=1.0), difference_interval(a, b)
    assert of_answers.mean == pytest.approx(of_values.mean)
    assert of_answers.high == pytest.approx(of_values.high - 0.5 / (6 * 40))
    assert of_answers.low == pytest.approx(of_values.low + 0.5 / (6 * 40))


def test_images_that_both_get_wrong_do_not_blur_a_difference():
    random = np.random.default_rng(0)
    hard = random.random(2000) < 0.4
    a, b = (np.tile(~hard, (3, 1)) & (random.random((3, 2000)) > error) for error in (0.01, 0.03))
    _, low, high = difference_interval(a, b)
    assert 0.0 < low < 0.012 < high
    assert high - low < 0.02  # two unpaired samples of 2,000 images would need 0.06


def test_seeds_and_images_each_have_their_own_quantile():
    """Losses that are the sum of an effect of the seed and one of the image: Howe's formula, written out."""
    seeds, images = np.array([1.0, 1.2, 1.7]), np.random.default_rng(0).normal(0, 0.5, 400)
    interval = mean_interval(seeds[:, None] + images)
    kurtosis = stats.kurtosis(images, fisher=False)
    parts = [
        (stats.t.ppf(0.975, min(399, 4 * 400 / (kurtosis - 1))), images.var(ddof=1) / 400),
        (stats.t.ppf(0.975, 2), seeds.var(ddof=1) / 3),
    ]
    half = np.sqrt(sum(t**2 * variance for t, variance in parts))
    assert interval.high - interval.mean == pytest.approx(half, rel=0.01)


def test_an_accuracy_that_few_images_decide_has_few_degrees_of_freedom():
    """Three of 360 images are wrong for every seed: lower than Wilson's interval with the normal quantile."""
    correct = np.ones((3, 360), bool)
    correct[:, :3] = False
    wilson = stats.binomtest(357, 360).proportion_ci(method="wilson").low
    assert share_interval(correct).low < wilson - 0.002


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="the same images, but got 5 and 6"):
        difference_interval(np.ones((2, 5), bool), np.ones((2, 6), bool))


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 30, 31, 200, 2.5, 3.4, 7.25, 44.4, 9999])
def test_t_quantiles_are_scipys(freedom):
    tolerance = 1e-6 if freedom <= 30 and freedom == int(freedom) else 5e-3
    assert t_975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=tolerance)


def test_seeds_alone():
    assert seeds_interval([]) == (None, None, None)
    assert seeds_interval([0.5]) == (0.5, None, None)
    assert seeds_interval([1.0, 1.0, 1.0]) == (1.0, None, None)  # no interval rather than one without a width
    mean, low, high = seeds_interval([0.5, 0.6, 0.7])
    assert (mean, low, high) == pytest.approx((0.6, 0.6 - 0.2484, 0.6 + 0.2484), abs=1e-4)  # t(2) = 4.3027


@pytest.mark.parametrize("num_seeds", [3, 10])
def test_the_interval_holds_the_truth_as_often_as_it_says(num_seeds):
    """Nominal 95 and 5 %. Of 400 repetitions six standard errors are 6.5 points; the interval over seeds alone is far outside."""
    case = Case("CIFAR-like", 500, 0.6, 0.01, seed_sd=0.8)
    _, shares = simulate(case, num_seeds, 400, np.random.default_rng(num_seeds))
    assert 88.5 < shares.coverage <= 100
    assert shares.false_difference < 11.5
    assert shares.zero_width == 0
    if num_seeds == 10:
        assert shares.coverage_seeds_only < 80


# --- in a report -----------------------------------------------------------------------------------------------------


def test_winners_have_intervals_over_seeds_and_images(tmp_path):
    run = reports.read(make_run(tmp_path / "run"))
    first, *_, baseline = run.winner_rows()
    own, others = (load_answers(run.path, lines) for lines in (_lines(run, 1), _lines(run, None)))
    assert own is not None
    assert others is not None
    assert first["num_test_images"] == own.correct.shape[1] == NUM_TEST
    low, high = share_interval(own.correct)[1:]
    assert (first["test_accuracy_low"], first["test_accuracy_high"]) == (low, high)
    assert (first["gain_low"], first["gain_high"]) == difference_interval(own.correct, others.correct, step=1.0)[1:]
    assert baseline["gain_low"] is None
    assert f"over 3 seeds and {NUM_TEST} test images)" in " ".join(summary.sentences(run))
    assert "would flatter the choice" in " ".join(summary.sentences(run))


def test_networks_that_answer_one_class_only_are_told(tmp_path):
    run = reports.read(make_run(tmp_path / "run"))
    assert "the same class" not in " ".join(summary.sentences(run))
    for line in _lines(run, 1)[:2]:
        path = run.path / line["predictions"]
        arrays = dict(np.load(path))
        np.savez(path, **(arrays | {"predicted": np.zeros_like(arrays["predicted"])}))
    assert "2 of the 3 networks of winner 1 give every test image the same class" in " ".join(
        summary.sentences(reports.read(run.path))
    )


def test_a_missing_prediction_file_leaves_the_seeds_alone(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / _lines(reports.read(folder), 1)[0]["predictions"]).unlink()
    run = reports.read(folder)
    first = run.winner_rows()[0]
    accuracies = [line["test_accuracy"] for line in _lines(run, 1)]
    assert first["num_test_images"] is None
    assert (first["test_accuracy_low"], first["test_accuracy_high"]) == seeds_interval(accuracies)[1:]
    assert (first["gain_low"], first["gain_high"]) == (None, None)
    assert first["gain"] is not None
    text = " ".join(summary.sentences(run))
    assert "over 3 seeds alone, as predictions are missing" in text
    assert "there is no interval" in text


def test_comparing_pairs_the_images_of_two_runs(tmp_path):
    runs = [reports.read(make_run(tmp_path / name, seed=seed)) for name, seed in (("one", 0), ("two", 3))]
    first, second = (winner_answers(run) for run in runs)
    assert first is not None
    assert second is not None
    row = compare.comparison(runs)[1]
    expected = difference_interval(second.correct, first.correct, step=1.0)
    assert (row["difference_low"], row["difference_high"]) == expected[1:]
    assert row["test_objective_images"] == NUM_TEST


def test_the_images_behind_a_difference_are_those_of_the_compared_metric(tmp_path):
    """Of the second run, the probabilities give the loss, but the predicted classes do not give the accuracy."""
    runs = [run_by(tmp_path / each, "validation_loss", seed) for each, seed in (("one", 0), ("two", 3))]
    runs[1] = rewrite_predictions(runs[1], 1, lambda arrays: arrays.update(predicted=(arrays["true"] + 1) % 10))
    row = compare.comparison(runs)[1]
    assert (row["difference_low"] is None, runs[1].winner_rows()[0]["num_test_images"]) == (False, None)
    assert f"over the seeds and {NUM_TEST} test images, paired by image" in _compared(runs)


@pytest.mark.parametrize("name", ["auroc", "top5_accuracy"])
def test_comparing_by_a_metric_of_all_probabilities(tmp_path, name):
    runs = [run_by(tmp_path / each, f"validation_{name}", seed) for each, seed in (("one", 0), ("two", 3))]
    row = compare.comparison(runs)[1]
    first, second = (
        contributions(f"test_{name}", load_answers(run.path, _lines(run, 1), probabilities=True)) for run in runs
    )
    expected = difference_interval(second, first, step=float(name == "top5_accuracy"))
    assert row["difference"] == pytest.approx(expected.mean, abs=1e-9)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(expected[1:], abs=1e-9)
    assert "95 % interval" in _compared(runs)
    assert "there is no interval" not in _compared(runs)

    alone = []
    for run in runs:
        write_tables(run, tmp_path / "alone" / run.name / "report")
        alone.append(reports.read(tmp_path / "alone" / run.name / "report"))
    row = compare.comparison(alone)[1]
    assert row["difference"] == pytest.approx(expected.mean, abs=1e-9)
    assert row["difference_low"] is None
    why = "the probabilities of all classes are not in a report folder, and the run folder of one and two was not found"
    assert f"there is no interval, as {why}" in _compared(alone)
    assert f"{why.replace('one and two', 'two')}" in _compared([runs[0], alone[1]])


def test_several_comparisons_say_how_far_they_can_be_trusted_together(tmp_path):
    runs = [reports.read(make_run(tmp_path / str(seed), seed=seed)) for seed in (0, 1, 3)]
    several = "in 5 % of cases. So if all winners are equal, at least one is called different in up to 10 % of cases"
    curse = "The best of several measured values is better than its true value on average."
    assert f"{several}. {curse}" in _compared(runs)
    assert "Each of these" not in _compared(runs[:2])
    console = Console(width=200, record=True)
    show(runs[0], console)
    shown = " ".join(console.export_text().split())
    assert f"Choosing among the 3 winners by their test accuracy would flatter the choice. {curse}" in shown
    assert f"flatter the choice. {curse}" in " ".join(summary.sentences(runs[0]))
    lines = [line for line in (runs[1].path / "retrain.jsonl").read_text().splitlines() if '"rank": 1' in line]
    (runs[1].path / "retrain.jsonl").write_text("".join(line + "\n" for line in lines))
    assert "flatter" not in " ".join(summary.sentences(reports.read(runs[1].path)))


def _compared(runs):
    console = Console(width=200, record=True)
    assert compare.show_comparison(runs, console)
    return " ".join(console.export_text().split())


def _lines(run, rank):
    lines = map(json.loads, (run.path / "retrain.jsonl").read_text().splitlines())
    return [line for line in lines if line["rank"] == rank]
