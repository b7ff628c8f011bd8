"""Augmentations by name, batched on the device.

Each takes float32 images [N, C, H, W] with pixels in [0, 255], its settings and a generator on the same device, and returns
images of the same shape and range. None waits for the device, except the random operations, for one number per call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from winnow.search.training.random_operations import RANDOM, TRIVIAL, apply_random
from winnow.spaces import own_code, schema
from winnow.spaces.errors import InputError


def augment(
    images: torch.Tensor,
    steps: Sequence[schema.Augmentation],
    generator: torch.Generator,
    odd: torch.Tensor | None = None,
) -> torch.Tensor:
    """Apply all steps in order; every image gets its own random draws.

    Args:
        images: float32 [N, C, H, W], pixels in [0, 255].
        steps: The settings of the steps.
        generator: Source of the draws, on the device of the images.
        odd: bool [N]: whether each image is mirrored in this epoch by a flip that alternates. Default: the flip is drawn.
    """
    for settings in steps:
        if isinstance(settings, schema.Flip) and settings.alternate and odd is not None:
            images = _mirror(images, odd)
        elif isinstance(settings, schema.OwnAugmentation):
            images = _own(images, settings, generator)
        else:
            images = AUGMENTATIONS[settings.name](images, settings, generator)
    return images


def _own(images: torch.Tensor, settings: schema.OwnAugmentation, generator: torch.Generator) -> torch.Tensor:
    function = own_code.load("augmentation", settings.name)
    if settings.per_image:
        return torch.stack([function(image=image, generator=generator, **settings.keys) for image in images])
    result: torch.Tensor = function(images=images, generator=generator, **settings.keys)
    return result


def check_augmentations(steps: Sequence[schema.Augmentation], image_shape: tuple[int, int, int], where: str) -> None:
    """Check that all steps fit the images.

    Args:
        steps: The settings of the steps.
        image_shape: (channels, height, width) of the images.
        where: Key path of the steps for errors, such as `data.augment`.

    Raises:
        InputError: A step does not fit.
    """
    for i, settings in enumerate(steps):
        if isinstance(settings, schema.ResizeCrop) and settings.size < max(image_shape[1:]):
            raise InputError(
                f"{where}.{i}.size: resize_crop needs at least the image size, {max(image_shape[1:])} pixels, "
                f"but got {settings.size}"
            )
        if (
            isinstance(settings, schema.Crop)
            and settings.fill == "reflect"
            and settings.padding >= min(image_shape[1:])
        ):
            raise InputError(
                f"{where}.{i}.padding: a border can be mirrored up to {min(image_shape[1:]) - 1} pixels, "
                f"but got {settings.padding}"
            )


def _flip(images: torch.Tensor, settings: schema.Flip, generator: torch.Generator) -> torch.Tensor:
    return _mirror(images, _uniform(images, generator) < settings.p)


def _mirror(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Mirror the images for which `chosen` bool [N] is true, left to right."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def _crop(images: torch.Tensor, settings: schema.Crop, generator: torch.Generator) -> torch.Tensor:
    mode = "reflect" if settings.fill == "reflect" else "constant"
    padded = functional.pad(images, (settings.padding,) * 4, mode)
    return _random_window(padded, images.shape[2], images.shape[3], generator)


def _resize_crop(images: torch.Tensor, settings: schema.ResizeCrop, generator: torch.Generator) -> torch.Tensor:
    height, width = images.shape[2:]
    scale = settings.size / max(height, width)
    size = (round(height * scale), round(width * scale))  # keeps the shape of an image that is not square
    larger = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return _random_window(larger, images.shape[2], images.shape[3], generator)


def _brightness(images: torch.Tensor, settings: schema.Brightness, generator: torch.Generator) -> torch.Tensor:
    factor = settings.low + (settings.high - settings.low) * _uniform(images, generator)
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0.0, 255.0)


def _zoom(images: torch.Tensor, settings: schema.Zoom, generator: torch.Generator) -> torch.Tensor:
    share = 1.0 / (settings.low + (settings.high - settings.low) * _uniform(images, generator))
    transform = torch.zeros(len(images), 2, 3, device=images.device)
    transform[:, 0, 0] = transform[:, 1, 1] = share
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _cutout(images: torch.Tensor, settings: schema.Cutout, generator: torch.Generator) -> torch.Tensor:
    """Fill a square with the mean of each channel of the image.

    Its centre is anywhere in the image, so part of the square may be outside, as in the paper. There the square is zero after the
    normalization, which is the mean of the data set.
    """
    height, width = images.shape[2:]
    top = _integers(images, height, generator) - settings.size // 2
    left = _integers(images, width, generator) - settings.size // 2
    inside_rows = _within(torch.arange(height, device=images.device), top, settings.size)
    inside_columns = _within(torch.arange(width, device=images.device), left, settings.size)
    erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(erased, images.mean((2, 3), keepdim=True), images)


def _trivial_augment(images: torch.Tensor, settings: schema.TrivialAugment, generator: torch.Generator) -> torch.Tensor:
    return apply_random(images, TRIVIAL, None, generator)


def _rand_augment(images: torch.Tensor, settings: schema.RandAugment, generator: torch.Generator) -> torch.Tensor:
    for _ in range(settings.operations):
        images = apply_random(images, RANDOM, settings.strength, generator)
    return images


def _random_erasing(images: torch.Tensor, settings: schema.RandomErasing, generator: torch.Generator) -> torch.Tensor:
    height, width = images.shape[2:]
    area = (settings.low + (settings.high - settings.low) * _uniform(images, generator)) * height * width
    ratio = 3.3 ** (2 * _uniform(images, generator) - 1)  # from 1 / 3.3 to 3.3
    erased = []
    for length, side in ((height, (area * ratio).sqrt()), (width, (area / ratio).sqrt())):
        size = side.round().clamp(1, length)
        start = (_uniform(images, generator) * (length - size + 1)).floor()
        offset = torch.arange(length, device=images.device)[None, :] - start[:, None]
        erased.append((offset >= 0) & (offset < size[:, None]))
    chosen = _uniform(images, generator) < settings.p
    inside = erased[0][:, None, :, None] & erased[1][:, None, None, :] & chosen.view(-1, 1, 1, 1)
    if settings.fill == "noise":
        filling = torch.rand(images.shape, generator=generator, device=images.device) * 255
    else:
        filling = images.mean((2, 3), keepdim=True) if settings.fill == "mean" else torch.zeros_like(images)
    return torch.where(inside, filling, images)


def _random_window(images: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Cut a window [height, width] at a random position out of each image [N, C, H, W]."""
    num, channels, full_height, full_width = images.shape
    top = _integers(images, full_height - height + 1, generator)
    left = _integers(images, full_width - width + 1, generator)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    first = torch.arange(num, device=images.device)[:, None] * full_height
    pixels = (first + rows)[:, :, None] * full_width + columns[:, None, :]  # [N, height, width]
    flat = images.permute(0, 2, 3, 1).reshape(-1, channels)
    return flat.index_select(0, pixels.view(-1)).view(num, height, width, channels).permute(0, 3, 1, 2)


def _within(positions: torch.Tensor, start: torch.Tensor, size: int) -> torch.Tensor:
    """Return a mask [N, len(positions)] of the positions in [start, start + size)."""
    offset = positions[None, :] - start[:, None]
    return (offset >= 0) & (offset < size)


def _uniform(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one number in [0, 1) for each image, [N]."""
    return torch.rand(len(images), generator=generator, device=images.device)


def _integers(images: torch.Tensor, high: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one integer from 0 to high - 1 for each image, [N]."""
    return torch.randint(high, (len(images),), generator=generator, device=images.device)


AUGMENTATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "flip": _flip,
    "crop": _crop,
    "resize_crop": _resize_crop,
    "brightness": _brightness,
    "zoom": _zoom,
    "cutout": _cutout,
    "trivial_augment": _trivial_augment,
    "rand_augment": _rand_augment,
    "random_erasing": _random_erasing,
}
