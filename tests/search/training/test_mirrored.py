"""Test-time flip and shift: the mean over views of an image, in the final test and in predictions, not in validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from winnow import models
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import evaluate
from winnow.search.training.loop import train
from winnow.search.training.views import with_views
from winnow.search.winners.winner import Pixels
from winnow.spaces.shapes import ShapeError, check_shapes


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


def test_six_views_and_their_weights() -> None:
    """Of one image [1, 1, 3, 3]: a network that reads its pixel in the middle sees the neighbours that each view moves there."""
    image = torch.arange(9.0).view(1, 1, 3, 3)
    middle = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 1, bias=False))
    middle[1].weight.data = torch.eye(9)[4:5]
    assert with_views(middle, flip=False, shift=1)(image).item() == 4 / 2 + (8 + 0) / 4
    assert with_views(middle, flip=True, shift=1)(image + image**2 / 8).item() == pytest.approx(
        ((4 + 2) / 2 + (8 + 8 + 0) / 4 + (4 + 2) / 2 + (6 + 4.5 + 2 + 0.5) / 4) / 2
    )
    corner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 1, bias=False))
    corner[1].weight.data = torch.eye(9)[0:1]
    assert with_views(corner, flip=False, shift=2)(image).item() == 0 / 2 + (8 + 8) / 4  # mirrored, not black


def test_a_shift_reaches_the_test_and_the_export() -> None:
    config, data = tiny_config(test_shift=1, data={"name": "digits", "normalize": "none"}), tiny_data()
    on_device = DeviceData.build(data, config.data, CPU, 0)
    model = models.build(config.model, on_device.image_shape, 3).eval()
    result = evaluate(config, model.state_dict(), on_device, data.test_images, data.test_labels)
    pixels = torch.from_numpy(data.test_images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        exported = Pixels(model, on_device.image_shape, [0.0] * 3, [1.0] * 3, test_shift=1)(pixels)
        plain = Pixels(model, on_device.image_shape, [0.0] * 3, [1.0] * 3)(pixels)
    np.testing.assert_allclose(result.probabilities, exported.softmax(1).numpy(), atol=1e-6)
    assert np.abs(plain.softmax(1).numpy() - result.probabilities).max() > 1e-4


WIDE = {"name": "crop", "padding": 8, "fill": "reflect"}


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"test_shift": 8}, "test_shift"),
        ({"data": {"name": "digits", "augment": [WIDE]}}, "data.augment.0.padding"),
        (
            {"data": {"name": "digits", "extra": {"copies": 1, "augment": ["flip", WIDE]}}},
            "data.extra.augment.1.padding",
        ),
    ],
)
def test_a_border_wider_than_the_image_is_refused(more: dict, where: str) -> None:
    check_shapes(tiny_config(test_shift=7), (3, 8, 8))
    with pytest.raises(ShapeError, match=rf"{where}.*mirrored up to 7 pixels in these images, but got 8"):
        check_shapes(tiny_config(**more), (3, 8, 8))


def test_the_training_and_its_validation_stay_as_they_are() -> None:
    data = DeviceData.build(tiny_data(), tiny_config().data, CPU, 0)
    settings: list[dict] = [{}, {"test_flip": True, "test_shift": 1}]
    plain, flipped = (next(train(tiny_config(**more), data, CPU, 0)) for more in settings)
    assert figures(plain) == figures(flipped)
    assert flipped.validation_loss == pytest.approx(plain.validation_loss)
