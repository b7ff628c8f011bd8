"""Augmentations: what holds for each of the registry, and what each one does."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from tests.helpers.tiny import schema_names
from winnow.search.training.augment import AUGMENTATIONS, augment, check_augmentations
from winnow.spaces import schema
from winnow.spaces.errors import InputError

DEFAULTS: dict[str, Any] = {
    member.model_fields["name"].default: member()
    for member in (
        schema.Flip,
        schema.Crop,
        schema.ResizeCrop,
        schema.Brightness,
        schema.Zoom,
        schema.Cutout,
        schema.TrivialAugment,
        schema.RandAugment,
        schema.RandomErasing,
    )
}


def photos(num: int = 16, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth, non-constant images in channels_last memory, as the pipeline gives them."""
    grid = torch.linspace(10, 200, height)[:, None] + torch.linspace(0, 40, width)
    images = grid + torch.arange(num * channels).view(num, channels, 1, 1) * 0.2
    return images.contiguous(memory_format=torch.channels_last)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_alternating_flip_shows_each_image_both_ways_in_any_two_epochs() -> None:
    images, steps = photos(64), [schema.Flip(alternate=True)]
    odd = torch.rand(64, generator=seeded()) < 0.5
    first, second, third = (augment(images, steps, seeded(epoch), odd ^ bool(epoch % 2)) for epoch in range(3))
    assert torch.equal(first, third)
    assert torch.equal(first, second.flip(3))
    assert not torch.equal(first, images)
    assert not torch.equal(second, images)


def test_a_mirrored_border() -> None:
    images = photos(8, 3, 8, 8)
    padded = torch.nn.functional.pad(images, (2,) * 4, mode="reflect")
    for image, source in zip(augment(images, [schema.Crop(padding=2, fill="reflect")], seeded()), padded, strict=True):
        windows = source.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert any(torch.equal(image, window) for window in windows)
    with pytest.raises(InputError, match=r"data.augment.0.padding: a border can be mirrored up to 7 pixels, but got 8"):
        check_augmentations([schema.Crop(padding=8, fill="reflect")], (3, 8, 8), "data.augment")


def test_the_registry_holds_what_the_schema_names() -> None:
    assert set(AUGMENTATIONS) == schema_names(schema.BuiltInAugmentation) == set(DEFAULTS)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 12)])
def test_each_keeps_shape_and_range_and_draws_from_its_generator(name: str, shape: tuple[int, int, int]) -> None:
    images, settings = photos(16, *shape), [DEFAULTS[name]]
    before = images.clone()
    first, again, other = (augment(images, settings, seeded(seed)) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)  # views of the data set must not be written to


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_gets_its_own_draw(name: str) -> None:
    same = photos(1).expand(32, -1, -1, -1)
    results = augment(same, [DEFAULTS[name]], seeded())
    assert len({tuple(image.flatten().tolist()) for image in results}) > 1


def test_flip() -> None:
    images = photos()
    assert torch.equal(augment(images, [schema.Flip(p=1.0)], seeded()), images.flip(3))
    assert torch.equal(augment(images, [schema.Flip(p=0.0)], seeded()), images)
    flipped = augment(photos(2000, 1, 4, 4), [schema.Flip()], seeded()) != photos(2000, 1, 4, 4)
    share = float(flipped.flatten(1).any(1).float().mean())
    assert abs(share - 0.5) < 0.07  # six sigma


def test_crop_gives_windows_of_the_padded_image() -> None:
    images = photos(64, 3, 6, 5)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, source in zip(augment(images, [schema.Crop(padding=2)], seeded()), padded, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(source[:, y : y + 6, x : x + 5], image)]
        assert len(places) == 1
        seen.update(places)
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_resize_crop() -> None:
    images = photos(8, 3, 8, 8)
    assert torch.allclose(augment(images, [schema.ResizeCrop(size=8)], seeded()), images)
    larger = torch.nn.functional.interpolate(images, size=(10, 10), mode="bilinear", align_corners=False)
    for image, source in zip(augment(images, [schema.ResizeCrop(size=10)], seeded()), larger, strict=True):
        assert any(torch.equal(source[:, y : y + 8, x : x + 8], image) for y in range(3) for x in range(3))
    wide = augment(photos(8, 3, 8, 16), [schema.ResizeCrop(size=16)], seeded())
    assert torch.allclose(wide, photos(8, 3, 8, 16))  # not stretched to a square first
    with pytest.raises(InputError, match=r"data.augment.0.size: resize_crop needs at least .* 8 pixels, but got 7"):
        check_augmentations([schema.ResizeCrop(size=7)], (3, 8, 8), "data.augment")


def test_brightness() -> None:
    images = photos()
    doubled = augment(images, [schema.Brightness(low=2.0, high=2.0)], seeded())
    assert torch.equal(doubled, (images * 2).clamp(max=255))
    ratio = (augment(images, [schema.Brightness(low=0.3, high=0.7)], seeded()) / images).flatten(1)
    assert torch.allclose(ratio.min(1).values, ratio.max(1).values)
    assert 0.3 <= float(ratio.min()) <= float(ratio.max()) <= 0.7


def test_zoom_keeps_the_centre() -> None:
    images = photos(4, 1, 32, 32)
    assert torch.allclose(augment(images, [schema.Zoom(low=1.0, high=1.0)], seeded()), images, atol=1e-3)
    zoomed = augment(images, [schema.Zoom(low=2.0, high=2.0)], seeded())
    # On a linear ramp the enlarged half runs half as steep around the same centre.
    assert torch.allclose(zoomed.mean((2, 3)), images.mean((2, 3)), rtol=1e-3)
    slope = (zoomed[..., 20, 16] - zoomed[..., 10, 16]) / (images[..., 20, 16] - images[..., 10, 16])
    assert torch.allclose(slope, torch.tensor(0.5), atol=1e-3)


def test_cutout_erases_one_square() -> None:
    images = photos(200, 3, 16, 12)
    cut = augment(images, [schema.Cutout(size=5)], seeded())
    erased = cut != images
    assert torch.equal(cut[erased], images.mean((2, 3), keepdim=True).expand_as(images)[erased])
    assert torch.equal(erased.any(1), erased.all(1))
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].sum((1, 2)), rows * columns)
    assert set(rows.tolist()) == set(columns.tolist()) == {3, 4, 5}


def test_steps_are_done_in_order() -> None:
    images = photos()
    bright, cut = schema.Brightness(low=3.0, high=3.0), schema.Cutout(size=8)
    for steps in ([bright, cut], [cut, bright]):
        generator = seeded()
        expected = images
        for step in steps:
            expected = augment(expected, [step], generator)
        assert torch.equal(augment(images, steps, seeded()), expected)


@pytest.mark.parametrize("fill", ["mean", "zero", "noise"])
def test_random_erasing_fills_one_rectangle(fill: Literal["mean", "zero", "noise"]) -> None:
    images = photos(300, 3, 20, 24)
    erased = augment(images, [schema.RandomErasing(p=0.5, low=0.1, high=0.3, fill=fill)], seeded())
    changed = (erased != images).any(1)
    assert changed.flatten(1).any(1).float().mean().item() == pytest.approx(0.5, abs=0.17)  # six standard deviations
    for mask in changed:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if len(rows):
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.float().mean() > 0.95  # a pixel may happen to have the filling's value
            assert 0.06 < box.numel() / mask.numel() < 0.36


def test_rand_augment_at_no_strength_changes_little() -> None:
    images = photos(64).round().clamp(0, 254)
    same = augment(images, [schema.RandAugment(operations=1, strength=0.0)], seeded()) == images
    # All but autocontrast, equalize and rounding leave an image alone.
    assert same.flatten(1).all(1).float().mean() > 0.7
