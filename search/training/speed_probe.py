"""A short measurement: how fast configs of a space train here, and with how much memory, without training one to its end.

`winnow plan` estimates a search with it, and the packing of trials on a device (`winnow.search.ray_backend.measure_packing`) is chosen by it. It steps the
one training loop over a few batches of the real images; nothing of it is kept.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces import schema

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.training.device_data import Labelled

MANY_EPOCHS = 1_000_000
MAX_BATCHES = 16  # of one measured epoch
SLOW = 3.0
HARMLESS_LR = 1e-9  # a step takes as long at any rate, and none of these trainings may diverge
OPTIMIZER_STATES = {"sgd": 1, "adagrad": 1, "adadelta": 2}  # copies of the weights; 2 where it is not said
FIXED_MB = 150.0  # a chunk of images being augmented, and work space


@dataclass(frozen=True)
class Measured:
    """One config as it trained for a few seconds."""

    config: dict[str, Any]
    images_per_second: float
    """Of training, validation not included."""
    epoch_seconds: float
    """A whole epoch of the whole training split with its validation, scaled up from the images that were trained on."""
    memory_mb: float
    """The most that was in use: on a GPU by torch, on a CPU by the whole process, images and libraries included."""
    started: float
    """Unix seconds when the first step was done: the process, its imports and the network are ready."""


def measure(
    config: schema.Config,
    data: ImageData,
    device: torch.device,
    seed: int = 0,
    seconds: float = 1.0,
    wait: Callable[[], None] = lambda: None,
) -> Measured:
    """Train for about `seconds` after a few epochs of warming up; `wait` is called in between, to begin with others."""
    copies = config.data.extra.copies if config.data.extra else 0
    config = _harmless(config)
    memory = _Memory(device)
    whole = DeviceData.build(data, config.data, device, seed)
    single = train(config, _cut(whole, config.batch_size, 1), device, seed)
    first_seconds = next(single).wall_seconds
    started = time.time()
    # On a CPU a step of the largest networks takes half a minute: one has to do.
    if device.type == "cpu" and first_seconds > SLOW * seconds:
        num_images = min(config.batch_size, len(whole.train))
        rate = num_images / first_seconds
        wait()
        return Measured(
            config.model_dump(mode="json"), rate, (len(whole.train) + copies) / rate, memory.peak_mb(), started
        )
    # A second step, since the first of a process also loads libraries: seconds of it on a GPU, which say nothing of a step.
    num_batches = max(1, min(MAX_BATCHES, int(seconds / max(next(single).wall_seconds, 1e-3))))
    part = _cut(whole, config.batch_size, num_batches)
    training = train(config, part, device, seed)
    next(training)
    wait()
    num_epochs, train_seconds, validation_seconds = 0, 0.0, 0.0
    began = time.perf_counter()
    while not num_epochs or time.perf_counter() - began < seconds:
        result = next(training)
        num_epochs += 1
        train_seconds += part.num_train / result.images_per_second
        validation_seconds += result.wall_seconds - part.num_train / result.images_per_second
    per_image = train_seconds / (num_epochs * part.num_train)
    epoch_seconds = per_image * (len(whole.train) + copies)
    if whole.validation is not None and part.validation is not None:
        epoch_seconds += validation_seconds / num_epochs * len(whole.validation) / len(part.validation)
    return Measured(config.model_dump(mode="json"), 1 / per_image, epoch_seconds, memory.peak_mb(), started)


def estimate_memory_mb(config: schema.Config, num_parameters: int, outputs_per_image: int) -> float:
    """Of training on a GPU, from counts: weights, gradients, optimizer state, the layers' outputs of one batch and their gradients.

    An estimate and no bound: the choice of algorithms and the caching of memory are not in it.
    """
    states = OPTIMIZER_STATES.get(config.optimizer.name, 2)
    numbers = num_parameters * (2 + states) + 2 * config.batch_size * outputs_per_image
    return 4 * numbers / 2**20 + FIXED_MB


def _harmless(config: schema.Config) -> schema.Config:
    """The same work per step, without anything that could end it: no divergence, no early stop, no copies of few images."""
    return config.model_copy(
        update={
            "epochs": MANY_EPOCHS,
            "early_stopping": None,
            "optimizer": config.optimizer.model_copy(update={"lr": HARMLESS_LR}),
            "schedule": schema.Constant(),
            "data": config.data.model_copy(update={"extra": None}),
        }
    )


def _cut(whole: DeviceData, batch_size: int, num_batches: int) -> DeviceData:
    """The first images of both splits, as many as so many batches hold."""

    def first(part: Labelled) -> Labelled:
        return replace(part, index=part.index[: max(2, num_batches * batch_size)])

    return replace(whole, train=first(whole.train), validation=first(whole.validation) if whole.validation else None)


class _Memory:
    """The peak from now on: of torch's allocator on a GPU, of the process elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        else:
            reset_peak()

    def peak_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device) / 2**20
        return process_peak_mb()


def reset_peak() -> None:
    """Let the kernel count the peak anew, where it can (Linux); else the peak is that since the process began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def process_peak_mb() -> float:
    """Peak resident memory of this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 1024)
