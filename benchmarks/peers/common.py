"""The data set and the training that the two peers share, as the public PyTorch tutorials write them.

A `Dataset` that gives PIL images, torchvision transforms, a `DataLoader`, and a loop that calls `.item()` at every step.
The networks and the space are Winnow's own, so that only the wiring differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from winnow.models import build
from winnow.spaces.schema import Config

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Images(Dataset):
    """uint8 [N, H, W, 3] and labels [N], each image through PIL and `transform` when it is asked for."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def load_data(path: Path, augment: list[str]) -> tuple[Images, Images]:
    """`path`: an .npz with train_images, train_labels, validation_images, validation_labels."""
    arrays = np.load(path)
    plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    names = {"flip": transforms.RandomHorizontalFlip(), "crop": transforms.RandomCrop(32, padding=4)}
    augmented = transforms.Compose([names[name] for name in augment] + plain)
    return (
        Images(arrays["train_images"], arrays["train_labels"], augmented),
        Images(arrays["validation_images"], arrays["validation_labels"], transforms.Compose(plain)),
    )


def train(
    raw: dict[str, Any],
    path: Path,
    report: Callable[[int, float], None],
    device: torch.device | str = "cpu",
    num_workers: int = 0,
) -> None:
    """Train one config of our space for its epochs; `report(epoch, validation accuracy)` after each (it may raise to stop).

    `num_workers` processes read the images ahead; the tutorials have none.
    """
    config = Config.model_validate(raw)
    train_set, validation_set = load_data(path, [step.name for step in config.data.augment])
    reading: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True, **reading)
    validation_loader = DataLoader(validation_set, batch_size=config.batch_size, **reading)
    net = build(config.model, (3, 32, 32), 10).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=getattr(config.loss, "label_smoothing", 0.0))
    optimizer = make_optimizer(config, net)
    steps = config.epochs * len(train_loader)
    scheduler = make_scheduler(config, optimizer, steps)
    for epoch in range(1, config.epochs + 1):
        net.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            inputs, labels = inputs.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(net(inputs), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running_loss += loss.item()
        net.eval()
        correct = total = 0
        with torch.no_grad():
            for inputs, labels in validation_loader:
                inputs, labels = inputs.to(device), labels.to(device)
                predicted = net(inputs).argmax(dim=1)
                total += labels.size(0)
                correct += (predicted == labels).sum().item()
        report(epoch, correct / total)


def make_optimizer(config: Config, net: nn.Module) -> torch.optim.Optimizer:
    """The optimizers that `cifar10-cnn` searches over, without parameter groups."""
    settings = config.optimizer
    own = {"norm_bias_lr_factor", "head_lr_factor", "layer_decay", "decay_biases", "decoupled"}  # not torch's
    changed = [
        key
        for key in own & type(settings).model_fields.keys()
        if getattr(settings, key) != type(settings).model_fields[key].default
    ]
    assert not changed, f"plain PyTorch has no {changed}"
    keys = settings.model_dump(exclude={"name", "beta1", "beta2", *own})
    classes = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    return classes[config.optimizer.name](net.parameters(), **keys)


def make_scheduler(
    config: Config, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedules that `cifar10-cnn` searches over, stepped per batch."""
    schedulers = torch.optim.lr_scheduler
    if config.schedule.name == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule.name == "one_cycle":
        return schedulers.OneCycleLR(optimizer, max_lr=config.optimizer.lr, total_steps=steps)
    return schedulers.LambdaLR(optimizer, lambda step: 1.0)
