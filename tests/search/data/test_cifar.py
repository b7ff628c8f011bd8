"""CIFAR as it really comes: WebP and JPEG in Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import cifar_dir
from tests.helpers.tiny import CPU, tiny_config
from winnow.search.data.image_data import split
from winnow.search.data.source import load
from winnow.search.training.device_data import PUBLISHED_STATISTICS, DeviceData
from winnow.search.training.loop import train
from winnow.spaces.schema import Data

pytestmark = pytest.mark.data


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_first_images(name: str, num_classes: int, tmp_path: Path) -> None:
    settings = Data(name="parquet", path=str(cifar_dir(name)), limit=1500)
    data = load(settings, tmp_path)
    assert data.image_shape == (3, 32, 32)
    assert data.num_classes == num_classes
    assert data.train_images.shape == (1500, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert data.test_labels.shape == (10_000,)
    assert set(data.test_labels.tolist()) == set(range(num_classes))
    assert np.bincount(data.test_labels).tolist() == [10_000 // num_classes] * num_classes
    parts = split(data, 0.2, stratified=True, seed=0)
    assert (len(parts.train_index), len(parts.validation_index)) == (1200, 300)
    # The standard deviation of the mean over 1,500 images is below 0.004 (the images' own means spread by 0.13).
    on_device = DeviceData.build(data, settings, CPU, 0)
    mean, std = PUBLISHED_STATISTICS[name]
    assert on_device.mean == pytest.approx(mean, abs=0.024)
    assert on_device.std == pytest.approx(std, abs=0.024)


def test_a_network_learns_from_it(tmp_path: Path) -> None:
    tree = {"name": "parquet", "path": str(cifar_dir("cifar10")), "limit": 800, "augment": "flip"}
    model = {"name": "cnn", "stages": [{"filters": 8}, {"filters": 16}], "norm": "batch"}
    config = tiny_config(data=tree, model=model, epochs=4, batch_size=32, optimizer={"name": "adam", "lr": 0.005})
    data = DeviceData.build(load(config.data, tmp_path), config.data, CPU, 0)
    losses = [result.train_loss for result in train(config, data, CPU, 0)]
    assert losses[-1] < 1.9 < losses[0] + 0.3  # chance is 2.30
