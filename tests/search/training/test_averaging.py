"""Averages of the weights: what each update does, and which weights are evaluated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.tiny import CPU, same_tensors, tiny_config, tiny_data
from winnow.search.training.averaging import WeightAverage
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import predict
from winnow.search.training.loop import train
from winnow.spaces import schema


def one_number() -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def test_an_exponential_average_by_hand() -> None:
    model = one_number()
    average = WeightAverage.start(schema.Ema(decay=0.5, every=2), model, total_steps=5)
    expected, values = 0.0, []
    for step in range(1, 6):
        nn.init.constant_(model.weight, float(step))
        average.step()
        values.append(float(average.average["weight"]))
    for number, step in enumerate((2, 4, 5)):  # the last step always counts
        decay = min(0.5, (2 + number) / (11 + number))
        expected = decay * expected + (1 - decay) * step
        assert values[step - 1] == pytest.approx(expected)
    assert model.weight.item() == 5.0


def test_lookahead_returns_to_the_average() -> None:
    model = one_number()
    average = WeightAverage.start(schema.Lookahead(decay=0.8, every=2), model, total_steps=4)
    nn.init.constant_(model.weight, 1.0)
    average.step()
    assert model.weight.item() == 1.0
    average.step()
    expected = 1 - 0.8 * 0.5**3
    assert model.weight.item() == pytest.approx(expected) == float(average.average["weight"])


def test_the_average_is_what_is_validated_and_kept() -> None:
    config = tiny_config(averaging={"name": "ema", "decay": 0.9, "every": 1})
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    for result in train(config, data, CPU, 0):
        training = result._live()
        weights = result.weights()
        assert not same_tensors(weights, training.model.state_dict())
        assert data.validation is not None
        with training._averaged():
            assert same_tensors(weights, training.model.state_dict())
            logits, labels = predict(training.model, data, data.validation, "float32")
        assert result.validation_accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_integers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = WeightAverage.start(schema.Ema(every=1), model, total_steps=9)
    model(torch.randn(4, 2))
    average.step()
    assert int(average.average["num_batches_tracked"]) == 1
