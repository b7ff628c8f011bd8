"""The operations of TrivialAugment and RandAugment, each beside torchvision's, and how they are dealt to the images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from winnow.search.training.random_operations import OPERATIONS, RANDOM, TRIVIAL, apply_random

SIZES = (0.1, 0.5, 1.0)


def photos(num: int = 3, channels: int = 3, height: int = 24, width: int = 32) -> torch.Tensor:
    """Whole-number pixels with edges and slopes."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.linspace(0, 120, height)[:, None] + torch.linspace(0, 60, width)
    return (slopes + torch.rand(num, channels, height, width, generator=generator) * 60).round()


def of_torchvision(name: str, image: torch.Tensor, size: float, sign: int) -> torch.Tensor:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    factor = 1 + sign * 0.99 * size
    degrees = math.degrees(math.atan(sign * 0.99 * size))
    none: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    known: dict[str, Callable[[], torch.Tensor]] = {
        "identity": lambda: image,
        "shear_x": lambda: functional.affine(image, **{**none, "shear": [degrees, 0.0]}, center=[0, 0]),
        "shear_y": lambda: functional.affine(image, **{**none, "shear": [0.0, degrees]}, center=[0, 0]),
        "translate_x": lambda: functional.affine(image, **{**none, "translate": [sign * int(size * 32), 0]}),
        "translate_y": lambda: functional.affine(image, **{**none, "translate": [0, sign * int(size * 24)]}),
        "rotate": lambda: functional.rotate(image, sign * 135.0 * size),
        "brightness": lambda: functional.adjust_brightness(image, factor),
        "color": lambda: functional.adjust_saturation(image, factor),
        "contrast": lambda: functional.adjust_contrast(image, factor),
        "sharpness": lambda: functional.adjust_sharpness(image, factor),
        "posterize": lambda: functional.posterize(image, 8 - round(size * 6)),
        "solarize": lambda: functional.solarize(image, 255 * (1 - size)),
        "autocontrast": lambda: functional.autocontrast(image),
        "equalize": lambda: functional.equalize(image),
    }
    return known[name]()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_as_torchvision(name: str, sign: int) -> None:
    images = photos()
    signs = torch.full((3,), sign)
    ours = OPERATIONS[name](images, torch.tensor(SIZES), signs, TRIVIAL)
    for image, result, size in zip(images, ours, SIZES, strict=True):
        theirs = of_torchvision(name, image.to(torch.uint8), size, sign).float()
        # They round the base of a blend and the result. A pixel midway between two may be taken from either.
        wrong = ((result - theirs).abs() > 2).float().mean().item()
        assert wrong < (0.05 if name in ("shear_x", "shear_y", "rotate") else 1e-9), (name, size)


def test_every_operation_gets_its_share() -> None:
    """The images differ by far more than an operation that keeps places changes them, so each result shows its own image."""
    images = photos(280)
    first, again = (apply_random(images, TRIVIAL, None, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    unchanged = (first == images).flatten(1).all(1).sum().item()
    assert 20 <= unchanged <= 90  # a 14th are left alone, and weak strengths do nothing to some others
    other = apply_random(images, TRIVIAL, None, torch.Generator().manual_seed(8))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num", [1, 5, 15])
@pytest.mark.parametrize("channels", [1, 3])
def test_few_images_and_one_channel(num: int, channels: int) -> None:
    result = apply_random(photos(num, channels), TRIVIAL, None, torch.Generator().manual_seed(0))
    assert result.shape == (num, channels, 24, 32)
    assert result.min() >= 0
    assert result.max() <= 255


@pytest.mark.parametrize("name", ["translate_x", "translate_y"])
def test_large_images_are_shifted_by_32_pixels_at_most(name: str) -> None:
    """As TrivialAugmentWide does, whatever the size of the image."""
    images = torch.full((1, 3, 96, 96), 9.0)
    moved = OPERATIONS[name](images, torch.ones(1), torch.ones(1), TRIVIAL)
    assert (moved == 0).float().mean().item() == pytest.approx(32 / 96)
    wide = OPERATIONS[name](images, torch.ones(1), torch.ones(1), RANDOM)  # of a share of the side, as RandAugment
    assert (wide == 0).float().mean().item() == pytest.approx(math.floor(96 * 150 / 331) / 96)
