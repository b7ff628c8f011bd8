"""A training loop as one would write it by hand for speed, for one network on one device, and for nothing else.

It can launch its kernels one by one, replay a step that was recorded as a CUDA graph, or compile the network. On a CPU nothing is recorded, and
only the rest of that way is tried: the step on buffers that stay where they are.

Images lie on the device, batches are flipped and cropped there, convolutions are channels_last, bfloat16 where the device has it, fused
Adam, cuDNN chooses its fastest algorithms. Not in it, and in Winnow's: the same figures for the same seed, checkpoints, the loss of every
batch, schedules, choices among models, losses and augmentations, detection of a diverged training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch.nn import functional

from winnow.models import build
from winnow.search.data.image_data import ImageData, split
from winnow.search.training.precision import has_bfloat16
from winnow.spaces.schema import Config

PADDING = 4
NUM_WARM_UP = 3  # steps before a recording; libraries choose their algorithms and allocate in them
Step = Callable[[torch.Tensor, torch.Tensor], None]
"""Trains on images [N, C, H, W] and labels [N]."""


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Reset torch's global settings, so that no loop inherits those of the one before it."""
    cudnn = torch.backends.cudnn
    before = (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before[1:]


@torch_defaults()
def by_hand(
    config: Config,
    data: ImageData,
    seed: int,
    device: torch.device,
    launch: Literal["kernels", "graph", "compiled"] = "kernels",
) -> tuple[float, float, int]:
    """Train with flips, crops and Adam, whatever `config` says.

    Args:
        config: The network, batch size, learning rate and number of epochs.
        data: The images; a validation split is taken off.
        seed: Seed of the weights, the order of the images and the augmentation.
        device: Where to train.
        launch: How a step of a whole batch reaches the device.

    Returns:
        Seconds, validation accuracy at the end, number of training images.
    """
    parts = split(data, config.data.validation, config.data.stratified, 0)
    torch.manual_seed(seed)
    started = time.perf_counter()
    torch.backends.cudnn.benchmark = True
    pixels = torch.from_numpy(data.train_images).to(device).permute(0, 3, 1, 2).float() / 255  # [N, C, H, W]
    mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)
    kind = torch.bfloat16 if has_bfloat16(device) else torch.float32
    images = ((pixels - mean) / std).to(kind)
    labels = torch.from_numpy(data.train_labels).to(device)
    train, validation = (torch.from_numpy(index).to(device) for index in (parts.train_index, parts.validation_index))
    padded = functional.pad(images[train], (PADDING,) * 4)
    truth = labels[train]
    model = build(config.model, data.image_shape, data.num_classes).to(device, memory_format=torch.channels_last)
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr, fused=True, capturable=on_gpu)
    network = torch.compile(model, mode="reduce-overhead") if launch == "compiled" else model

    def step(batch: torch.Tensor, truth: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, kind, enabled=kind is torch.bfloat16, cache_enabled=launch != "graph"):
            loss = functional.cross_entropy((network if len(batch) == config.batch_size else model)(batch), truth)
        loss.backward()
        optimizer.step()

    whole_step = RecordedStep(step, on_gpu) if launch == "graph" else step
    accuracy = 0.0
    for _ in range(config.epochs):
        model.train()
        for index in torch.randperm(len(train), device=device).split(config.batch_size):
            batch = flipped_and_cropped(padded[index]).contiguous(memory_format=torch.channels_last)
            (whole_step if len(index) == config.batch_size else step)(batch, truth[index])
        model.eval()
        right = torch.zeros((), device=device)
        with torch.inference_mode(), torch.autocast(device.type, kind, enabled=kind is torch.bfloat16):
            for index in validation.split(config.batch_size):
                batch = images[index].contiguous(memory_format=torch.channels_last)
                right += (model(batch).argmax(1) == labels[index]).sum()
        accuracy = right.item() / len(validation)  # waits for the device
    return time.perf_counter() - started, accuracy, len(train)


class RecordedStep:
    """A step on batches of one size: after a few it is recorded as a CUDA graph, which the later ones replay."""

    def __init__(self, step: Step, on_gpu: bool) -> None:
        self.step = step
        self.on_gpu = on_gpu
        self.num_steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Train on one batch."""
        if self.buffers is None:
            self.buffers = (images.clone(memory_format=torch.preserve_format), labels.clone())
        for buffer, value in zip(self.buffers, (images, labels), strict=True):
            buffer.copy_(value)
        self.num_steps += 1
        if self.graph is not None:
            self.graph.replay()
        elif not self.on_gpu:
            self.step(*self.buffers)
        elif self.num_steps <= NUM_WARM_UP:
            side = torch.cuda.Stream()  # what runs in the default stream cannot be recorded afterwards
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.step(*self.buffers)
            torch.cuda.current_stream().wait_stream(side)
        else:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step(*self.buffers)  # recorded, not run
            self.graph.replay()


def flipped_and_cropped(padded: torch.Tensor) -> torch.Tensor:
    """Padded images [n, C, H + 2p, W + 2p] -> a random window [n, C, H, W] of each, every second one mirrored."""
    num, device = len(padded), padded.device
    height, width = (size - 2 * PADDING for size in padded.shape[2:])
    top, left = torch.randint(2 * PADDING + 1, (2, num, 1), device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    columns = torch.where(torch.rand(num, 1, device=device) < 0.5, columns.flip(1), columns)
    return padded.permute(0, 2, 3, 1)[
        torch.arange(num, device=device)[:, None, None], rows[:, :, None], columns[:, None]
    ].permute(0, 3, 1, 2)
