"""Builds the network of a training on its device, with its initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from winnow import models
from winnow.search.seeds import Stream, derive_seed
from winnow.search.training.device_data import DeviceData
from winnow.search.training.precision import image_format
from winnow.search.training.seeding import seeded
from winnow.spaces import schema

NUM_IMAGES_FOR_LAYERS = 5000
"""Largest number of training images from which a whitening layer computes its weights."""
VALUES_FOR_LAYERS = NUM_IMAGES_FOR_LAYERS * 3 * 64 * 64
"""Largest number of their values, so that large images do not fill the memory: 250 MB."""


def initial_network(config: schema.Config, data: DeviceData, device: torch.device, seed: int) -> nn.Module:
    """Build the network of a config.

    Args:
        config: The config to train.
        data: The images.
        device: The device to train on.
        seed: Seed of the training, which decides the weights.
    """
    with seeded(device, derive_seed(Stream.WEIGHTS, seed)):
        model = models.build(config.model, data.image_shape, data.num_classes)
    model.to(device)
    model.to(memory_format=image_format(model))
    num = max(1, min(NUM_IMAGES_FOR_LAYERS, VALUES_FOR_LAYERS // math.prod(data.image_shape)))
    models.fit_images(model, lambda: data.first_images(num, image_format(model)))
    if config.initialization is not None:
        images = data.first_images(num, image_format(model))
        with seeded(device, derive_seed(Stream.WEIGHTS, seed, 1)):
            models.initialize_own(config.initialization, model, images)
    return model
