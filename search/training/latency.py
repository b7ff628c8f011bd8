"""Measures how long a network takes for one image."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from winnow import models
from winnow.search.training.precision import full_precision, image_format
from winnow.spaces.schema import Model

WARM_UP_PASSES = 3
MIN_PASSES, MAX_PASSES = 10, 100
NEAR = 2.0
"""A latency up to this many times the limit is measured again. Beside other trainings, latencies are often that much longer."""
MOST_MEASUREMENTS = 4
SECONDS_BETWEEN = 1.0
SECONDS = 0.2  # after this time no pass follows the first MIN_PASSES


def latency_ms(model: Model, image_shape: tuple[int, int, int], num_classes: int, device: torch.device) -> float:
    """Measure the latency of a batch of one image, in float32 and evaluation mode, as `winnow predict` computes.

    The weights are new ones, since the time does not depend on them. Other trainings on the device make it longer.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.
        device: The device to measure on.

    Returns:
        The median over the passes, in milliseconds.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = models.build(model, image_shape, num_classes).to(device).eval()
    network.to(memory_format=image_format(network))
    image = torch.zeros(1, *image_shape, device=device)
    times: list[float] = []
    with torch.inference_mode(), full_precision(device):
        for _ in range(WARM_UP_PASSES):
            network(image)
        _wait(device)
        while len(times) < MIN_PASSES or (len(times) < MAX_PASSES and sum(times) < SECONDS):
            began = time.perf_counter()
            network(image)
            _wait(device)
            times.append(time.perf_counter() - began)
    return 1000 * median(times)


def latency_beside_limit(measure: Callable[[], float], limit: float | None) -> tuple[float, int]:
    """Measure a latency, and again if it is above a limit but near it, because other trainings may have caused the excess.

    Args:
        measure: Measures the latency once, in milliseconds.
        limit: The limit in milliseconds; None if there is none.

    Returns:
        The least of the measurements, and their number: 1, or at most `MOST_MEASUREMENTS` if the first one is at most `NEAR` times the
        limit. The last measurement is the first one within the limit.
    """
    least, num = measure(), 1
    while limit is not None and limit < least <= NEAR * limit and num < MOST_MEASUREMENTS:
        time.sleep(SECONDS_BETWEEN)
        least, num = min(least, measure()), num + 1
    return least, num


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
