"""One list of an epoch's figures serves training, search, trackers and reports."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports.schemas import KINDS, TABLES
from winnow.search.operations.rerunning import COMPARED
from winnow.search.ray_backend.tune import REPORTED
from winnow.search.settings import Settings
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
    is_cost,
    is_maximized,
    load_metric,
    weights_rules,
)
from winnow.spaces.schema import SearchSettings
from winnow.spaces.schema.fields import WeightsRule
from winnow.spaces.schema.limits import LIMITED
from winnow.spaces.schema.objectives import Cost

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


def test_every_metric_is_computed_from_labels_and_probabilities():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]])
    labels = np.array([0, 2, 1, 1])
    values = {metric.name: load_metric(metric)(labels, probabilities) for metric in BUILT_IN_METRICS}
    assert values["validation_accuracy"] == 0.75
    assert values["validation_balanced_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert values["validation_macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert values["validation_top5_accuracy"] == 1.0
    assert values["validation_auroc"] == pytest.approx((1 + 0.75 + 1) / 3)
    assert values["validation_calibration_error"] == pytest.approx((0.6 + 2 * 0.3 + 0.2) / 4)


def test_trials_can_be_judged_by_every_metric():
    annotation = SearchSettings.model_fields["objective"].annotation
    assert set(typing.get_args(annotation)) == set(OBJECTIVES)
    assert set(typing.get_args(WeightsRule)) == {"last", *weights_rules()}
    assert Settings(max_epochs=1, objective="validation_macro_f1").direction == "maximize"
    assert Settings(max_epochs=1, objective="validation_calibration_error").direction == "minimize"


def test_costs_are_the_objectives_that_are_no_metrics_and_are_minimized():
    costs = typing.get_args(Cost)
    assert {key: is_cost(figure) for key, figure in LIMITED.items()} == dict.fromkeys(costs, True)
    assert not any(map(is_cost, OBJECTIVES))
    assert not any(map(is_maximized, LIMITED.values()))


def test_accuracy_and_top_5_take_the_first_of_equal_probabilities():
    labels, equal = np.arange(8), np.full((8, 8), 1 / 8)
    values = {metric.name: load_metric(metric)(labels, equal) for metric in BUILT_IN_METRICS}
    assert values["validation_accuracy"] == 1 / 8
    assert values["validation_top5_accuracy"] == 5 / 8
    most = np.arange(8) < 5  # the classes that such a network may be said to name
    top5 = next(metric for metric in BUILT_IN_METRICS if metric.name == "validation_top5_accuracy")
    assert [load_metric(top5)(labels[[k]], equal[[k]]) for k in range(8)] == most.tolist()


def test_calibration_error_weighs_the_bins_by_their_images():
    confident, unsure = torch.tensor([[9.0, 0.0]] * 30), torch.tensor([[0.2, 0.0]] * 10)
    labels = torch.tensor([0] * 24 + [1] * 6 + [0] * 5 + [1] * 5)
    expected = 0.75 * (float(torch.tensor(9.0).sigmoid()) - 0.8) + 0.25 * (float(torch.tensor(0.2).sigmoid()) - 0.5)
    _, values = score(torch.cat([confident, unsure]), labels, tiny_config())
    assert values["validation_calibration_error"] == pytest.approx(expected)


def test_outputs_that_are_not_finite_have_neither_area_nor_calibration():
    logits = torch.tensor([[float("nan"), 1.0, 0.0], [0.0, 1.0, 2.0]])
    _, values = score(logits, torch.tensor([0, 2]), tiny_config())
    assert values["validation_auroc"] is None
    assert values["validation_calibration_error"] is None


def test_one_class_alone_has_no_roc_curve_and_is_no_error():
    config = tiny_config()
    _, values = score(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), config)
    assert values["validation_auroc"] is None
    assert values["validation_accuracy"] == 1.0
