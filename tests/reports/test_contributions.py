"""Intervals of metrics other than accuracy: what each image contributes, and what the report makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.search_quality.metric_intervals import CASES, simulate
from tests.helpers.by_metric import run_by
from tests.helpers.html import page_text
from tests.helpers.make_run import NUM_TEST, make_run
from winnow import reports
from winnow.reports.figures import winners as figures
from winnow.reports.html import page
from winnow.reports.tables.answers import Answers
from winnow.reports.tables.contributions import (
    CONTRIBUTIONS,
    LEAST_OF_CLASS,
    OVER_CLASSES,
    contributions,
    effective_images,
    interval_over_both,
    unbiased_calibration_error,
)
from winnow.reports.tables.intervals import seeds_interval, share_interval
from winnow.reports.text import summary, wording
from winnow.search.training.metrics import all_metrics, balanced_accuracy
from winnow.spaces.epoch_figures import OBJECTIVES, OWN_METRIC, name_on_test_images


def answers(seed: int, num: int = 60, num_classes: int = 7, seeds: int = 2) -> tuple[Answers, list[torch.Tensor]]:
    """Random answers; the last class has no image. And the logits of each network."""
    random = np.random.default_rng(seed)
    true = random.integers(0, num_classes - 1, num)
    logits = [torch.tensor(random.normal(0, 1.5, (num, num_classes)), dtype=torch.float32) for _ in range(seeds)]
    for each in logits:
        each[np.arange(num), true] += 1.5
    probabilities = [each.softmax(1).double().numpy() for each in logits]
    predicted = np.stack([each.argmax(1) for each in probabilities])
    confidence = np.stack([each.max(1) for each in probabilities])
    of_true = np.stack([each[np.arange(num), true] for each in probabilities])
    return Answers(true, predicted, confidence, of_true, probabilities), logits


def repeated(given: Answers, image: int) -> Answers:
    """The same answers with one image twice."""
    rows = [*range(len(given.true)), image]
    assert given.probabilities is not None
    assert given.confidence is not None
    assert given.probability_true is not None
    return Answers(
        given.true[rows],
        given.predicted[:, rows],
        given.confidence[:, rows],
        given.probability_true[:, rows],
        [each[rows] for each in given.probabilities],
    )


def test_every_objective_has_contributions_but_the_users_own() -> None:
    assert set(CONTRIBUTIONS) == {name_on_test_images(name) for name in OBJECTIVES if name != OWN_METRIC}
    assert contributions(name_on_test_images(OWN_METRIC), answers(0)[0]) is None


@pytest.mark.parametrize("seed", range(5))
def test_their_mean_is_the_metric(seed: int) -> None:
    given, logits = answers(seed)
    labels = torch.tensor(given.true)
    for network, each in enumerate(logits):
        expected = {name_on_test_images(name): float(value) for name, value in all_metrics(each, labels).items()}
        expected["test_loss"] = float(torch.nn.functional.cross_entropy(each, labels))
        for metric, value in expected.items():
            by_image = contributions(metric, given)
            assert by_image is not None
            assert by_image[network].mean() == pytest.approx(value, abs=1e-6), metric


@pytest.mark.parametrize("metric", CONTRIBUTIONS)
def test_an_image_that_counts_twice_moves_the_metric_by_its_contribution(metric: str) -> None:
    given, _ = answers(3, num=400)
    by_image = contributions(metric, given)
    assert by_image is not None
    value = by_image[0].mean()
    for image in range(0, 40, 3):
        twice = contributions(metric, repeated(given, image))
        assert twice is not None
        moved = (twice[0].mean() - value) * (len(given.true) + 1)
        assert moved == pytest.approx(by_image[0, image] - value, abs=0.02 + 0.03 * abs(by_image[0, image] - value))


def test_a_mean_over_classes_is_as_uncertain_as_its_rarest_class() -> None:
    true = np.repeat([0, 1], [99, 1])
    perfect = Answers(true, np.stack([true, true]))
    assert effective_images("test_accuracy", perfect) == 100
    assert effective_images("test_macro_f1", perfect) == pytest.approx(4 / (1 / 99 + 1))
    by_image = contributions("test_macro_f1", perfect)
    assert by_image is not None
    low = share_interval(by_image, effective_images("test_macro_f1", perfect)).low
    assert low is not None
    assert low < 0.6


@pytest.mark.parametrize("metric", OVER_CLASSES)
def test_the_images_of_a_rare_class_vary_as_much_as_others_of_it_would(metric: str) -> None:
    """The variance was that of the images at hand: half of the right one for a class of two images, none for one image."""
    draws, variances = [], []
    for seed in range(600):
        random = np.random.default_rng(seed)
        true = np.repeat([0, 1], [200, 4])
        scores = random.uniform(0, 1, (2, 204)) * 0.5 + true * random.uniform(0, 0.6, (2, 204))
        given = Answers(true, (scores > 0.5).astype(int), probabilities=[np.stack([1 - s, s], 1) for s in scores])
        by_image = contributions(metric, given)
        assert by_image is not None
        draws.append(by_image[0].mean())
        variances.append(by_image[0].var(ddof=1) / 204)
    assert np.mean(variances) == pytest.approx(np.var(draws), rel=0.2)  # a variance of 600 draws is known to 6 %


@pytest.mark.parametrize("metric", OVER_CLASSES)
@pytest.mark.parametrize("rare", [1, LEAST_OF_CLASS - 1, LEAST_OF_CLASS])
def test_a_class_of_too_few_images_gives_no_interval(metric: str, rare: int) -> None:
    given, _ = answers(0, num=300)
    true = np.where(np.arange(300) < rare, 6, given.true)
    values = contributions(metric, replace(given, true=true))
    assert values is not None
    mean, low, high = interval_over_both(metric, values, replace(given, true=true))
    assert mean == pytest.approx(values.mean())
    assert (low is None, high is None) == (rare < LEAST_OF_CLASS,) * 2
    assert interval_over_both("test_accuracy", given.correct, replace(given, true=true)).low is not None


def test_the_interval_of_an_auroc_is_not_wider_than_its_variance_says() -> None:
    """The area varies less than a share of right answers: limited like one, its interval held the truth in 99 %, not 95 %."""
    given, _ = answers(0, num=400)
    values = contributions("test_auroc", given)
    assert values is not None
    _, low, high = interval_over_both("test_auroc", values, given)
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(2 * 1.96 * values.mean(0).std() / 20, rel=0.05)  # the seeds hardly differ
    perfect = interval_over_both("test_auroc", np.ones((3, 400)), given)
    assert perfect.high == 1
    assert perfect.low == pytest.approx(0.99, abs=0.002)


def test_the_interval_of_a_calibration_error_reaches_down_to_the_estimate_without_bias() -> None:
    """The networks are calibrated: each image is right with the probability that is its confidence."""
    random = np.random.default_rng(0)
    confidence = random.uniform(0.3, 1, (3, 360))
    true = np.zeros(360, np.int64)
    given = Answers(true, (random.random((3, 360)) > confidence).astype(np.int64), confidence)
    values = contributions("test_calibration_error", given)
    assert values is not None
    mean, low, high = interval_over_both("test_calibration_error", values, given)
    of_value = share_interval(values)
    assert low is not None
    assert of_value.low is not None
    assert low < 0.01 < of_value.low / 2
    assert (mean, high) == (of_value.mean, of_value.high)
    unbiased = [unbiased_calibration_error(given, seed) for seed in range(3)]
    assert np.mean(unbiased) < mean / 2


def test_of_many_images_the_calibration_error_has_no_bias() -> None:
    given, _ = answers(1, num=200_000)
    values = contributions("test_calibration_error", given)
    assert values is not None
    assert unbiased_calibration_error(given, 0) == pytest.approx(values[0].mean(), rel=0.01)


@pytest.mark.parametrize("metric", ["test_macro_f1", "test_auroc"])
def test_intervals_hold_the_truth_as_often_as_they_say(metric: str) -> None:
    """Nominal 95 and 5 %; five standard errors of 300 repetitions are 6.3 points."""
    shares = simulate(CASES["five classes, 60 to 4 %"], 360, 3, 300, np.random.default_rng(1))[metric]
    assert 88.7 < shares.coverage <= 100
    assert shares.false_difference < 11.3


# --- in a report -----------------------------------------------------------------------------------------------------


def test_the_report_says_of_the_objective_what_it_says_of_accuracy(tmp_path, capsys) -> None:
    run = run_by(tmp_path / "run", "validation_macro_f1")
    first, *_, baseline = run.winner_rows()
    assert first["test_objective"] == first["test_macro_f1"] != first["test_accuracy"]
    assert first["test_objective_low"] < first["test_objective"] < first["test_objective_high"]
    assert first["objective_gain"] == pytest.approx(first["test_macro_f1"] - baseline["test_macro_f1"])
    assert first["objective_gain_low"] < first["objective_gain"] < first["objective_gain_high"]
    assert first["objective_gap"] == pytest.approx(first["search_objective"] - first["test_objective"])

    text = " ".join(summary.sentences(run)).replace("\u00a0", " ")
    assert f"reaches a test macro F1 of {100 * first['test_macro_f1']:.2f} %" in text
    assert f"The test accuracy of the winner is {100 * first['test_accuracy']:.2f} %" in text
    assert figures._winners_info(run).means[0] == first["test_macro_f1"]
    assert "is the test macro F1 of the winner on 360 images of 10 classes" in page_text(page.page(run))

    reports.show(run.path, Console(width=100))
    assert "macro F1" in capsys.readouterr().out


def test_a_report_says_that_a_class_has_too_few_test_images(tmp_path, capsys) -> None:
    run = run_by(tmp_path / "run", "validation_balanced_accuracy")
    assert run.winner_rows()[0]["test_objective_low"] is not None
    lines = [json.loads(line) for line in (run.path / "retrain.jsonl").read_text().splitlines()]
    for line in lines:
        if line["predictions"]:
            with np.load(run.path / line["predictions"]) as opened:
                arrays = dict(opened)
            one_image_of_the_last_class(arrays)
            np.savez(run.path / line["predictions"], **arrays)
            line["test_balanced_accuracy"] = balanced_accuracy(arrays["true"], arrays["probabilities"].astype(float))
    (run.path / "retrain.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = reports.read(run.path)
    first = run.winner_rows()[0]
    assert first["test_objective_images"] == NUM_TEST
    assert first["test_objective"] is not None
    assert (first["test_objective_low"], first["objective_gain_low"]) == (None, None)
    told = "a class has fewer than 4 test images"
    assert f"({told}, so no interval)" in " ".join(summary.sentences(run))
    assert f"or {told}." in next(text for text in summary.sentences(run) if text.startswith("That is"))
    assert told in wording.intervals_over(run, run.winner_rows())


def one_image_of_the_last_class(arrays: dict[str, np.ndarray]) -> None:
    arrays["true"][np.flatnonzero(arrays["true"] == 9)[1:]] = 8
    arrays["predicted"] = arrays["probabilities"].argmax(1)


def test_a_probability_that_is_not_finite_is_not_behind_an_interval(tmp_path) -> None:
    """A comparison with NaN is false, so NaN once passed the check that the predictions give the metric."""
    run = run_by(tmp_path / "run", "validation_loss")

    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["probability_true"][0] = np.nan

    first = rewrite_predictions(run, 1, spoil).winner_rows()[0]
    assert first["test_objective_images"] is None
    assert math.isfinite(first["test_objective_low"])


def test_a_loss_that_is_lower_is_a_gain(tmp_path) -> None:
    run = reports.read(make_run(tmp_path / "run", objective="validation_loss"))
    first, *_, baseline = run.winner_rows()
    assert first["test_objective"] == first["test_loss"]
    assert first["objective_gain"] == pytest.approx(baseline["test_loss"] - first["test_loss"])
    sentence = next(each for each in summary.sentences(run) if each.startswith("That is"))
    assert ("below" if first["objective_gain"] > 0 else "above") in sentence


def rewrite_predictions(
    run: reports.RunData, rank: int, change: Callable[[dict[str, np.ndarray]], object]
) -> reports.RunData:
    """Change the prediction files of one winner, and read the run again."""
    for line in map(json.loads, (run.path / "retrain.jsonl").read_text().splitlines()):
        if line["rank"] == rank and line["predictions"]:
            with np.load(run.path / line["predictions"]) as opened:
                arrays = dict(opened)
            change(arrays)
            np.savez(run.path / line["predictions"], **arrays)
    return reports.read(run.path)


BOTH = "over 3 seeds and 360 test images"


def test_an_interval_says_whether_the_images_count_in_it(tmp_path) -> None:
    run = run_by(tmp_path / "run", "validation_auroc")
    assert [wording.basis(run, row) for row in run.winner_rows()[:2]] == [BOTH, BOTH]
    assert wording.intervals_over(run, run.winner_rows()) == "over seeds and test images"

    run = rewrite_predictions(run, 1, lambda arrays: arrays.pop("probabilities"))
    first = run.winner_rows()[0]
    assert (first["num_test_images"], first["test_objective_images"]) == (NUM_TEST, None)
    seeds = [row["test_auroc"] for row in run.retrain_rows() if row["rank"] == 1]
    assert (first["test_objective_low"], first["test_objective_high"]) == seeds_interval(seeds)[1:]
    why = "the probabilities of all classes are missing or do not give the measured value"
    assert (wording.basis(run, first), wording.accuracy_basis(first)) == (f"over 3 seeds alone, as {why}", BOTH)
    mixed = f"over seeds and test images, over seeds alone where {why}"
    assert wording.intervals_over(run, run.winner_rows()) == mixed
    text = " ".join(summary.sentences(run))
    assert f"over 3 seeds alone, as {why}" in text
    assert "its predictions with the probabilities of all classes are missing" in text


def test_predictions_that_do_not_give_the_accuracy_are_not_behind_its_interval(tmp_path) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    run = rewrite_predictions(run, 1, lambda arrays: arrays.update(predicted=(arrays["true"] + 1) % 10))
    first = run.winner_rows()[0]
    assert (first["num_test_images"], first["test_objective_images"], first["gain_low"]) == (None, None, None)
    assert wording.basis(run, first) == wording.accuracy_basis(first) != BOTH
    assert "over 3 seeds alone, as predictions are missing or do not give the measured value" in wording.basis(
        run, first
    )


def test_the_interval_of_a_loss_is_over_the_images_whose_probabilities_give_it(tmp_path) -> None:
    run = run_by(tmp_path / "run", "validation_loss")
    assert wording.basis(run, run.winner_rows()[0]) == BOTH
    invented = reports.read(make_run(tmp_path / "invented", objective="validation_loss"))
    expected = "over 3 seeds alone, as the predictions do not give the measured value"
    assert wording.basis(invented, invented.winner_rows()[0]) == expected
