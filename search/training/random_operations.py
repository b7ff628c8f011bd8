"""TrivialAugment and RandAugment on the device: every image gets its own operation and strength.

The images of a chunk are distributed over the operations at random and in equal shares, so that each operation runs once, on its
share, and no shape depends on the draws. Operations take float32 images [n, C, H, W] in [0, 255], see `Operation`.
They agree with those of torchvision for uint8 images up to rounding (tested).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

NUM_STRENGTHS = 31
GRAY = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Strengths:
    """The largest strength of each operation."""

    shear: float
    """Shift per pixel of distance."""
    translate: float
    """Share of the side."""
    rotate: float
    """Degrees."""
    blend: float
    """Distance of the factors of brightness, colour, contrast and sharpness from 1."""
    bits: int
    """Bits that posterizing removes."""
    most_pixels: float = math.inf
    """Largest shift in pixels, however large the image."""

    def shift(self, side: int) -> float:
        """Return the largest shift in pixels along a side of this length."""
        return min(self.translate * side, self.most_pixels)


TRIVIAL = Strengths(shear=0.99, translate=1.0, rotate=135.0, blend=0.99, bits=6, most_pixels=32.0)
"""The strengths of `TrivialAugmentWide` (Müller & Hutter, 2021). Images of fewer than 32 pixels are shifted by at most their side."""
RANDOM = Strengths(shear=0.3, translate=150 / 331, rotate=30.0, blend=0.9, bits=4)
"""The strengths of RandAugment (Cubuk et al., 2020) at full strength."""


def apply_random(images: Tensor, limits: Strengths, strength: float | None, generator: torch.Generator) -> Tensor:
    """Apply one random operation to each image.

    Args:
        images: float32 [N, C, H, W], pixels in [0, 255].
        limits: The largest strengths.
        strength: Strength of all operations in [0, 1] as a share of the largest; None: drawn for each image.
        generator: Source of the draws, on the device of the images.
    """
    num, device = len(images), images.device
    order = torch.randperm(num, generator=generator, device=device)
    sizes = torch.randint(NUM_STRENGTHS, (num,), generator=generator, device=device) / (NUM_STRENGTHS - 1)
    if strength is not None:
        sizes.fill_(strength)
    signs = torch.randint(2, (num,), generator=generator, device=device) * 2 - 1
    # Without this, the first operations would always get the additional images.
    turn = int(torch.randint(len(OPERATIONS), (1,), generator=generator, device=device))
    operations = [*OPERATIONS.values()][turn:] + [*OPERATIONS.values()][:turn]
    result = torch.empty_like(images)
    for operation, share in zip(operations, order.tensor_split(len(operations)), strict=True):
        if len(share):
            result[share] = operation(images[share], sizes[share], signs[share], limits)
    return result


Operation = Callable[[Tensor, Tensor, Tensor, Strengths], Tensor]
"""A function of images, shares [n] of the largest strength, signs [n], and the largest strengths.

Shares are in [0, 1]; a sign is 1 or -1.
"""


def _identity(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Leave the images as they are."""
    return images


def _shear_x(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Shift each row in proportion to its distance from the top."""
    amount = size * sign * limits.shear
    return _moved(images, a12=amount, x=amount * images.shape[2] / 2)


def _shear_y(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Shift each column in proportion to its distance from the left."""
    amount = size * sign * limits.shear
    return _moved(images, a21=amount, y=amount * images.shape[3] / 2)


def _translate_x(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Shift by whole pixels to the right or left."""
    return _moved(images, x=-sign * (size * limits.shift(images.shape[3])).floor())


def _translate_y(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Shift by whole pixels down or up."""
    return _moved(images, y=-sign * (size * limits.shift(images.shape[2])).floor())


def _rotate(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Rotate about the centre."""
    angle = size * sign * limits.rotate * math.pi / 180
    return _moved(images, a11=angle.cos(), a12=-angle.sin(), a21=angle.sin(), a22=angle.cos())


def _brightness(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Darken or brighten."""
    return _blended(images, torch.zeros_like(images), size, sign, limits)


def _color(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Fade or strengthen the colours."""
    return _blended(images, _gray(images), size, sign, limits)


def _contrast(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Lower or raise the contrast."""
    return _blended(images, _gray(images).mean((1, 2, 3), keepdim=True), size, sign, limits)


def _sharpness(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Blur or sharpen; the border stays."""
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5.0
    channels = images.shape[1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(images, (kernel / 13).expand(channels, 1, 3, 3), groups=channels)
    return _blended(images, smooth, size, sign, limits)


def _posterize(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Keep the highest bits only."""
    step = 2.0 ** (size * limits.bits).round().view(-1, 1, 1, 1)
    return (images / step).floor() * step


def _solarize(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Invert the pixels above a threshold."""
    return torch.where(images >= 255 * (1 - size).view(-1, 1, 1, 1), 255 - images, images)


def _autocontrast(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Stretch every channel to the whole range."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * 255 / (high - low).clamp(min=1e-6), images)


def _equalize(images: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Make the values of every channel about equally frequent."""
    num, channels, height, width = images.shape
    pixels = images.round().clamp(0, 255).long().reshape(num * channels, height * width)
    counts = torch.zeros(num * channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels))
    step = (height * width - counts.gather(1, pixels.amax(1, keepdim=True))) // 255
    table = (counts.cumsum(1) + step // 2) // step.clamp(min=1)
    table = functional.pad(table[:, :-1], (1, 0)).clamp(0, 255)
    equal = table.gather(1, pixels).view(images.shape).to(images.dtype)
    return torch.where(step.view(num, channels, 1, 1) > 0, equal, images)


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}


def _moved(images: Tensor, **entries: Tensor) -> Tensor:
    """Take the pixel at (x, y) from (a11 x + a12 y + `x`, a21 x + a22 y + `y`), in pixels from the centre; outside is black."""
    num, _, height, width = images.shape
    transform = torch.zeros(num, 2, 3, device=images.device)
    transform[:, 0, 0] = entries.get("a11", torch.ones(()))
    transform[:, 1, 1] = entries.get("a22", torch.ones(()))
    zero = torch.zeros(())
    transform[:, 0, 1] = entries.get("a12", zero) * (height / width)
    transform[:, 1, 0] = entries.get("a21", zero) * (width / height)
    transform[:, 0, 2] = entries.get("x", zero) * (2 / width)
    transform[:, 1, 2] = entries.get("y", zero) * (2 / height)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _blended(images: Tensor, base: Tensor, size: Tensor, sign: Tensor, limits: Strengths) -> Tensor:
    """Move away from `base` by a factor above 1, or towards it by one below."""
    factor = (1 + size * sign * limits.blend).view(-1, 1, 1, 1)
    return (factor * images + (1 - factor) * base).clamp(0, 255)


def _gray(images: Tensor) -> Tensor:
    """Return the brightness, [n, 1, H, W]."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor(GRAY, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
