"""Runs the custom parts of a config once, on made-up values, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from winnow.models import build, check_buildable, initialize_own
from winnow.search.training.augment import augment
from winnow.search.training.optimizers import build_optimizer
from winnow.search.training.own_loop_check import check_own_loop
from winnow.search.training.own_metric import own_metric
from winnow.spaces import own_code, schema
from winnow.spaces.errors import InputError

NUM_IMAGES = 4
STEPS_PER_EPOCH = 10


def check_own_part(
    what: str, part: schema.OwnPart, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int
) -> set[str]:
    """Run one custom part.

    Args:
        what: The kind of the part, from `winnow.spaces.own_code.own_parts`.
        part: Its settings.
        config: The config that it belongs to.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        The keys that a training loop did not read, since its signature does not name them; empty for other parts.

    Raises:
        InputError: It does not accept its keys, raises, or returns a wrong value.
    """
    with torch.random.fork_rng(devices=[]):
        return CHECKS[what](part, config, image_shape, num_classes) or set()


def _check_model(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    check_buildable(part, image_shape, num_classes)


def _check_initialization(
    part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int
) -> None:
    network = build(config.model, image_shape, num_classes)
    initialize_own(part, network, torch.randn(NUM_IMAGES, *image_shape))
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise InputError(f"initialization {part.name}: produced weights that are not finite")


def _check_optimizer(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    layer = nn.Linear(3, num_classes)
    optimizer = build_optimizer(part, layer, torch.device("cpu"))
    lowest = getattr(config.schedule, "lowest_momentum", None)
    if lowest is not None and not optimizer.defaults.keys() & {"momentum", "betas"}:
        raise InputError(
            f"optimizer {part.name}: schedule.lowest_momentum needs `momentum` or `betas` in its `defaults`, but they have "
            f"{', '.join(optimizer.defaults) or 'no key'}"
        )
    layer(torch.ones(1, 3)).sum().backward()
    _tried("optimizer", part, optimizer.step)


def _check_schedule(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    total = config.epochs * STEPS_PER_EPOCH
    for step in (0, total // 2, total - 1):
        arguments = {"step": step, "total_steps": total, "steps_per_epoch": STEPS_PER_EPOCH}
        factor = own_code.call("schedule", part.name, {**arguments, **part.keys})
        if not isinstance(factor, int | float) or not (math.isfinite(factor) and factor >= 0):
            raise InputError(
                f"schedule {part.name}: the factor must be a finite number of at least 0, but at step {step} of {total} "
                f"it is {factor!r}"
            )


def _check_loss(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    logits = torch.randn(NUM_IMAGES, num_classes, requires_grad=True)
    labels = torch.arange(NUM_IMAGES) % num_classes
    value = own_code.call("loss", part.name, {"logits": logits, "labels": labels, **part.keys})
    if not isinstance(value, torch.Tensor) or value.shape != () or not value.requires_grad:
        raise InputError(
            f"loss {part.name}: must return one number that depends on the logits, a tensor of shape (), but returned {_shown(value)}"
        )


def _check_own_metric(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    labels = torch.arange(num_classes).repeat(2)  # two images of each class
    own_metric(part, torch.eye(num_classes).repeat(2, 1), labels)


def _check_augmentation(part: Any, config: schema.Config, image_shape: tuple[int, int, int], num_classes: int) -> None:
    images = torch.rand(NUM_IMAGES, *image_shape) * 255
    generator = torch.Generator().manual_seed(0)
    own_code.call(
        "augmentation",
        part.name,
        {**({"image": images[0]} if part.per_image else {"images": images}), "generator": generator, **part.keys},
    )
    results = [_tried("augmentation", part, lambda: augment(images, [part], generator.manual_seed(0))) for _ in "ab"]
    if not isinstance(results[0], torch.Tensor) or results[0].shape != images.shape or results[0].dtype != images.dtype:
        raise InputError(
            f"augmentation {part.name}: must return float32 of shape {tuple(images.shape)}, but returned {_shown(results[0])}"
        )
    if not torch.equal(*results):
        raise InputError(
            f"augmentation {part.name}: two calls with the same state of the generator gave different results; all random draws must come from it"
        )


def _tried(what: str, part: schema.OwnPart, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except InputError:
        raise
    except Exception as error:  # user code may raise anything
        raise InputError(f"{what} {part.name} raised {type(error).__name__}: {error}") from error


def _shown(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


CHECKS: dict[str, Callable[[Any, schema.Config, tuple[int, int, int], int], set[str] | None]] = {
    "model": _check_model,
    "initialization": _check_initialization,
    "train": check_own_loop,
    "optimizer": _check_optimizer,
    "schedule": _check_schedule,
    "loss": _check_loss,
    "own_metric": _check_own_metric,
    "augmentation": _check_augmentation,
}
