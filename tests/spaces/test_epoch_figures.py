"""One list of an epoch's figures serves training, search, trackers and reports."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports.schemas import KINDS, TABLES
from winnow.search.operations.rerunning import COMPARED
from winnow.search.ray_backend.tune import REPORTED
from winnow.search.settings import DIRECTIONS
from winnow.search.trackers.base import FIGURES
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import score
from winnow.search.training.loop import train
from winnow.spaces.epoch_figures import (
    BUILT_IN_METRICS,
    EPOCH_FIGURES,
    METRICS,
    OBJECTIVES,
    OWN_METRIC,
    load_metric,
    weights_rules,
)
from winnow.spaces.schema import SearchSettings
from winnow.spaces.schema.fields import WeightsRule

NAMES = [figure.name for figure in EPOCH_FIGURES]


def test_a_training_gives_every_figure_and_no_other():
    config = tiny_config(epochs=1)
    for use in ("search", "retrain"):
        data = DeviceData.build(tiny_data(), config.data, CPU, 0, use)
        (result,) = train(config, data, CPU, seed=0)
        figures = result.figures()
        assert list(figures) == NAMES
        unknown = {figure.name for figure in EPOCH_FIGURES if figures[figure.name] is None}
        assert unknown == (
            {OWN_METRIC} if use == "search" else {"validation_loss", *(metric.name for metric in METRICS)}
        )


def test_all_users_take_their_figures_from_the_list():
    assert set(NAMES) <= set(REPORTED)
    assert set(COMPARED) | set(FIGURES) <= set(NAMES)
    columns = [column.name for column in TABLES["epochs"].columns]
    assert [name for name in columns if name in NAMES] == [figure.name for figure in EPOCH_FIGURES if figure.column]
    assert {figure.kind for figure in EPOCH_FIGURES} <= KINDS.keys()


def test_every_metric_is_computed_from_logits_and_labels():
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 2, 1, 1])
    values = {metric.name: float(load_metric(metric)(logits, labels)) for metric in BUILT_IN_METRICS}
    assert values["validation_accuracy"] == 0.75
    assert all(map(torch.isfinite, map(torch.tensor, values.values())))


def test_trials_can_be_judged_by_every_metric():
    annotation = SearchSettings.model_fields["objective"].annotation
    assert set(typing.get_args(annotation)) == set(OBJECTIVES) == set(DIRECTIONS)
    assert set(typing.get_args(WeightsRule)) == {"last", *weights_rules()}
    assert DIRECTIONS["validation_macro_f1"] == "maximize"
    assert DIRECTIONS["validation_calibration_error"] == "minimize"


@pytest.mark.parametrize("num_classes", [2, 7])
def test_metrics_are_those_of_scikit_learn(num_classes):
    random = np.random.default_rng(num_classes)
    labels = random.choice(num_classes, 400, p=np.arange(1, num_classes + 1) / np.arange(1, num_classes + 1).sum())
    logits = np.round(random.normal(0, 1, (400, num_classes)) + 1.5 * np.eye(num_classes)[labels], 1)  # with ties
    torch_logits, torch_labels = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)
    values = {metric.name: float(load_metric(metric)(torch_logits, torch_labels)) for metric in BUILT_IN_METRICS}
    probabilities = torch_logits.double().softmax(1).numpy()
    answers = torch_logits.argmax(1).numpy()
    areas = [reference.roc_auc_score(labels == k, probabilities[:, k]) for k in range(num_classes)]
    assert values["validation_balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, answers))
    assert values["validation_macro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="macro"))
    assert values["validation_auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
    if num_classes > 5:
        expected = reference.top_k_accuracy_score(labels, logits + np.linspace(0, 1e-6, num_classes)[::-1], k=5)
        assert values["validation_top5_accuracy"] == pytest.approx(expected, abs=0.03)  # ties are broken either way


def test_calibration_error_is_the_distance_of_accuracy_and_confidence():
    logits = torch.tensor([[2.0, 0.0]] * 10).log_softmax(1)
    labels = torch.tensor([0] * 6 + [1] * 4)
    metric = next(metric for metric in BUILT_IN_METRICS if metric.name == "validation_calibration_error")
    assert float(load_metric(metric)(logits, labels)) == pytest.approx(float(torch.tensor(2.0).sigmoid()) - 0.6)


def test_one_class_alone_has_no_roc_curve_and_is_no_error():
    config = tiny_config()
    _, values = score(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), config)
    assert values["validation_auroc"] is None
    assert values["validation_accuracy"] == 1.0
