"""Tries a user's own training loop on a few made-up images, before anything starts."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from winnow import models
from winnow.search.storage.leftovers import temporary_folder
from winnow.search.training.checkpoint import CorruptCheckpoint, load, save
from winnow.search.training.device_data import DeviceData, Labelled
from winnow.search.training.own_loop import OwnTraining
from winnow.spaces import own_code, schema
from winnow.spaces.errors import InputError, ModelRefused

NUM_TRAIN, NUM_VALIDATION = 16, 8
CPU = torch.device("cpu")
TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit (at least 1)."""


def check_own_loop(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> set[str]:
    """Train an epoch as in the search, continue from the stored state, and train an epoch as in retraining.

    Args:
        part: The `train` section of the config.
        config: The config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        The keys of `train` that the loop did not read.

    Raises:
        InputError: The loop raises, or does not follow docs/how-to/own-loop.md.
    """
    config = config.model_copy(update={"data": config.data.model_copy(update={"extra": None})})
    data = _made_up(config, image_shape, num_classes)
    unread = set(part.keys)
    try:
        with _located(part.name, "in the search"), closing(OwnTraining(config, data, CPU, 0)) as training:
            if not training.run_epoch().diverged:
                _check_network(training, config, data)
                state = _stored(part.name, training.state())
                if not training.ended:
                    with (
                        _located(part.name, "after an interruption"),
                        closing(_resumed(config, data, state)) as resumed,
                    ):
                        resumed.run_epoch()
                    unread &= resumed.unread()
        retraining = replace(data, validation=None)
        when = "in retraining, which has no validation images"
        with _located(part.name, when), closing(OwnTraining(config, retraining, CPU, 0)) as training:
            training.run_epoch()
        return unread & training.unread()
    except ModelRefused:
        return set()  # the check of the model reports it


def _resumed(config: schema.Config, data: DeviceData, state: dict[str, Any]) -> OwnTraining:
    return OwnTraining(config, data, CPU, 0, state)


def _made_up(config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> DeviceData:
    channels, height, width = image_shape
    num = NUM_TRAIN + NUM_VALIDATION
    images = (torch.rand(num, height, width, channels) * 255).to(torch.uint8)
    whole = Labelled(images, torch.arange(num) % num_classes, torch.arange(NUM_TRAIN))
    validation = replace(whole, index=torch.arange(NUM_TRAIN, num))
    return DeviceData(whole, validation, (0.5,) * channels, (0.25,) * channels, config.data, num_classes)


def _check_network(training: OwnTraining, config: schema.Config, data: DeviceData) -> None:
    """Compare the loop's network with the one that is tested and exported: that of the `model` section with the same weights."""
    images = data.first_images(NUM_TRAIN, torch.contiguous_format)
    rebuilt = models.build(config.model, data.image_shape, data.num_classes).eval()
    rebuilt.load_state_dict(training.weights())
    model = training.model.to(CPU).eval()
    with torch.inference_mode():
        logits, expected = model(images), rebuilt(images)
    largest = max(1.0, float(expected.abs().max()))
    if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=0, atol=TOLERANCE * largest):
        raise InputError(
            f"train {config.train.name if config.train else ''}: with the same weights, the network of the loop "
            "gives other outputs than that of the `model` section, which is tested and exported; the loop must use config.network() "
            "unchanged"
        )


def _stored(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Write a state to a file and return what is read back. Raises InputError if that is impossible."""
    with temporary_folder("check") as folder:
        file = Path(folder) / "state.pt"
        try:
            save(file, state)
            return load(file)
        except (CorruptCheckpoint, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300].removeprefix(f"{file}: ")
            raise InputError(
                f"train {name}: the state of its parts cannot be stored; state_dict() may contain only tensors, numbers, "
                f"strings and containers of these ({reason})"
            ) from error


@contextmanager
def _located(name: str, when: str) -> Iterator[None]:
    """Turn an error of the user's code into an InputError that says where it was raised."""
    try:
        yield
    except (InputError, SystemExit):
        raise
    except Exception as error:  # user code may raise anything
        own = getattr(own_code.load("train", name), "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if own and frame.filename == own.co_filename] or frames
        place = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}"
        raise InputError(f"train {name} ({place}) raised {type(error).__name__}: {error}, {when}") from error
