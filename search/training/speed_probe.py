"""Measures in a few seconds how fast a config trains here, and with how much memory.

`winnow plan` estimates a search with them, and `winnow.search.ray_backend.measure_packing` chooses how many trials share a
device. They run the training loop on a few batches of the real images and keep nothing.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from winnow.search.training.device_data import DeviceData, chunk_size
from winnow.search.training.epoch_result import EpochResult
from winnow.search.training.evaluate import EVALUATION_BATCH
from winnow.search.training.graph_replay import STEPS_UNTIL_CHOSEN, has_graphs
from winnow.search.training.loop import train
from winnow.spaces import schema

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.training.device_data import Labelled

MANY_EPOCHS = 1_000_000
MAX_BATCHES = 16  # in one measured epoch
SLOW = 3.0
HARMLESS_LR = 1e-9  # the time of a step does not depend on it, and none of these trainings may diverge
OPTIMIZER_STATES = {
    "sgd": 1,
    "adagrad": 1,
    "adafactor": 0,
    "asgd": 1,
    "lion": 1,
    "muon": 1,
}  # buffers per weight; 2 for the others
FIXED_MB = 150.0  # a chunk of images being augmented, and workspace


@dataclass(frozen=True)
class Measured:
    """The speed and memory of one config, measured for a few seconds."""

    config: dict[str, Any]
    images_per_second: float
    """Training images per second, validation not included."""
    epoch_seconds: float
    """Duration of a whole epoch with its validation, extrapolated from the images that were trained on."""
    memory_mb: float
    """Peak memory: that of torch on a GPU; on a CPU that of the whole process, with images and libraries."""
    started: float
    """Unix time in seconds at the end of the first epoch, when the process, its imports and the network are ready."""
    host_mb: float = 0.0
    """Memory of the machine, not of a GPU, that only this process uses at the end, so without shared images."""


def measure(
    config: schema.Config,
    data: ImageData,
    device: torch.device,
    seed: int = 0,
    seconds: float = 1.0,
    wait: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure how fast a config trains.

    Args:
        config: The config.
        data: The images.
        device: The device to train on.
        seed: Seed of the training. Default: 0.
        seconds: Duration of the measurement after the warm-up. Default: 1.
        wait: Called between warm-up and measurement, so that several processes can begin together. Default: nothing is called.
    """
    copies = config.data.extra.copies if config.data.extra else 0
    config = _harmless(config)
    memory = _Memory(device)
    whole = DeviceData.build(data, config.data, device, seed)
    single = _epochs(config, _cut(whole, config.batch_size, 1, device), device, seed)
    first_seconds = next(single).wall_seconds
    started = time.time()
    # On a CPU a step of the largest networks takes half a minute, so the first one is the measurement.
    if device.type == "cpu" and first_seconds > SLOW * seconds:
        num_images = min(config.batch_size, len(whole.train))
        rate = num_images / first_seconds
        wait()
        return Measured(
            config.model_dump(mode="json"), rate, (len(whole.train) + copies) / rate, memory.peak_mb(), started
        )
    # The second epoch decides, because the first one of a process also loads libraries, which takes seconds on a GPU.
    num_batches = max(1, min(MAX_BATCHES, int(seconds / max(next(single).wall_seconds, 1e-3))))
    part = _cut(whole, config.batch_size, num_batches, device)
    training = _epochs(config, part, device, seed)
    num_steps = (
        STEPS_UNTIL_CHOSEN if config.cuda_graphs and has_graphs(device) else 1
    )  # graphs need memory of their own
    for _ in range(math.ceil(num_steps / num_batches)):
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
    return Measured(config.model_dump(mode="json"), 1 / per_image, epoch_seconds, memory.peak_mb(), started, own_mb())


def estimate_memory_mb(config: schema.Config, num_parameters: int, outputs_per_image: int) -> float:
    """Estimate the GPU memory of a training, in MB, from parameter and activation counts.

    It counts weights, gradients, optimizer state, and the layers' outputs for one batch with their gradients. This is not a
    bound, since it ignores the choice of algorithms and the caching of memory.

    Args:
        config: The config.
        num_parameters: Number of parameters of its network.
        outputs_per_image: Total number of outputs of all layers for one image.
    """
    optimizer = config.optimizer.name if config.optimizer else ""
    states = OPTIMIZER_STATES.get(optimizer, 2) + (config.averaging is not None)
    numbers = num_parameters * (2 + states) + 2 * config.batch_size * outputs_per_image
    return 4 * numbers / 2**20 + FIXED_MB


def _harmless(config: schema.Config) -> schema.Config:
    """Return a config with the same work per step but nothing that could end it: no divergence, early stopping or extra copies."""
    without = {"early_stopping": None, "data": config.data.model_copy(update={"extra": None})}
    if config.optimizer is None:  # only the custom loop knows what its keys mean
        return config.model_copy(update=without)
    return config.model_copy(
        update={
            **without,
            "epochs": MANY_EPOCHS,
            "optimizer": config.optimizer.model_copy(update={"lr": HARMLESS_LR}),
            "schedule": schema.Constant(),
        }
    )


def _epochs(config: schema.Config, data: DeviceData, device: torch.device, seed: int) -> Iterator[EpochResult]:
    """Yield epochs without end: when a training ends, it starts again."""
    while True:
        yield from train(config, data, device, seed)


def _cut(whole: DeviceData, batch_size: int, num_batches: int, device: torch.device) -> DeviceData:
    """Return the first `num_batches` batches of both splits.

    On a GPU, they are at least a chunk and a batch of the evaluation, so that the peak memory is that of a real training.
    """
    num_images, on_gpu = max(2, num_batches * batch_size), device.type == "cuda"

    def first(part: Labelled, least: int) -> Labelled:
        return replace(part, index=part.index[: max(num_images, least if on_gpu else 0)])

    return replace(
        whole,
        train=first(whole.train, chunk_size(whole.image_shape, batch_size)),
        validation=first(whole.validation, EVALUATION_BATCH) if whole.validation else None,
    )


class _Memory:
    """Peak memory since this object was created: that of torch's allocator on a GPU, that of the process elsewhere."""

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


def own_mb() -> float:
    """Return the memory in MB that would become free if this process ended."""
    import psutil

    return float(psutil.Process().memory_full_info().uss / 2**20)


def reset_peak() -> None:
    """Reset the peak memory that the kernel records, on Linux. Elsewhere the peak is that since the process started."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def process_peak_mb() -> float:
    """Return the peak resident memory of this process, in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 1024)
