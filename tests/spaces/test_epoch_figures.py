"""One list of an epoch's figures serves training, search, trackers and reports."""

from __future__ import annotations

import torch

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports.schemas import KINDS, TABLES
from winnow.search.operations.rerunning import COMPARED
from winnow.search.ray_backend.tune import REPORTED
from winnow.search.trackers.base import FIGURES
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.epoch_figures import EPOCH_FIGURES, METRICS, load_metric

NAMES = [figure.name for figure in EPOCH_FIGURES]


def test_a_training_gives_every_figure_and_no_other():
    config = tiny_config(epochs=1)
    for use in ("search", "retrain"):
        data = DeviceData.build(tiny_data(), config.data, CPU, 0, use)
        (result,) = train(config, data, CPU, seed=0)
        figures = result.figures()
        assert list(figures) == NAMES
        unknown = {figure.name for figure in EPOCH_FIGURES if figures[figure.name] is None}
        assert unknown == (set() if use == "search" else {"validation_loss", *(metric.name for metric in METRICS)})


def test_all_users_take_their_figures_from_the_list():
    assert set(NAMES) <= set(REPORTED)
    assert set(COMPARED) | set(FIGURES) <= set(NAMES)
    columns = [column.name for column in TABLES["epochs"].columns]
    assert [name for name in columns if name in NAMES] == [figure.name for figure in EPOCH_FIGURES if figure.column]
    assert {figure.kind for figure in EPOCH_FIGURES} <= KINDS.keys()


def test_every_metric_is_computed_from_logits_and_labels():
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 2, 1, 1])
    values = {metric.name: float(load_metric(metric)(logits, labels)) for metric in METRICS}
    assert values["validation_accuracy"] == 0.75
    assert all(map(torch.isfinite, map(torch.tensor, values.values())))
