"""A training loop as one would write it by hand for speed, for one network on one device, and for nothing else.

Images lie on the device, batches are flipped and cropped there, convolutions are channels_last, bfloat16 where the device has it, fused
Adam, cuDNN chooses its fastest algorithms. Not in it, and in Winnow's: the same figures for the same seed, checkpoints, the loss of every
batch, schedules, choices among models, losses and augmentations, detection of a diverged training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from winnow.models import build
from winnow.search.data.image_data import ImageData, split
from winnow.search.training.precision import has_bfloat16
from winnow.spaces.schema import Config

PADDING = 4


def by_hand(config: Config, data: ImageData, seed: int, device: torch.device) -> tuple[float, float, int]:
    """(seconds, validation accuracy at the end, training images); flips, crops and Adam whatever `config` says."""
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
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr, fused=True)
    accuracy = 0.0
    for _ in range(config.epochs):
        model.train()
        for index in torch.randperm(len(train), device=device).split(config.batch_size):
            batch = flipped_and_cropped(padded[index]).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, kind, enabled=kind is torch.bfloat16):
                loss = functional.cross_entropy(model(batch), truth[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        right = torch.zeros((), device=device)
        with torch.inference_mode(), torch.autocast(device.type, kind, enabled=kind is torch.bfloat16):
            for index in validation.split(config.batch_size):
                batch = images[index].contiguous(memory_format=torch.channels_last)
                right += (model(batch).argmax(1) == labels[index]).sum()
        accuracy = right.item() / len(validation)  # waits for the device
    return time.perf_counter() - started, accuracy, len(train)


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
