"""The test-time flip: the mean of an image and its mirror image, in the final test and in predictions, not in validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from winnow import models
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import evaluate
from winnow.search.training.loop import train
from winnow.search.winners.winner import Pixels


def test_both_views_count_in_the_test() -> None:
    config, data = tiny_config(test_flip=True, data={"name": "digits", "normalize": "none"}), tiny_data()
    on_device = DeviceData.build(data, config.data, CPU, 0)
    torch.manual_seed(0)
    model = models.build(config.model, on_device.image_shape, 3).eval()
    result = evaluate(config, model.state_dict(), on_device, data.test_images, data.test_labels)
    pixels = torch.from_numpy(data.test_images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        both = (model(pixels) + model(pixels.flip(3))) / 2
        exported = Pixels(model, on_device.image_shape, [0.0] * 3, [1.0] * 3, test_flip=True)(pixels)
    np.testing.assert_allclose(result.probabilities, both.softmax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(exported.numpy(), both.numpy(), atol=1e-6)
    plain = evaluate(
        tiny_config(data=config.data.model_dump()), model.state_dict(), on_device, data.test_images, data.test_labels
    )
    assert np.abs(plain.probabilities - result.probabilities).max() > 1e-4


def test_the_training_and_its_validation_stay_as_they_are() -> None:
    data = DeviceData.build(tiny_data(), tiny_config().data, CPU, 0)
    plain, flipped = (next(train(tiny_config(test_flip=value), data, CPU, 0)) for value in (False, True))
    assert figures(plain) == figures(flipped)
    assert flipped.validation_loss == pytest.approx(plain.validation_loss)
