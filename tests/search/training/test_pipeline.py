"""The images on the device: complete epochs, exact statistics, normalisation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tiny import CPU, tiny_data
from winnow.search.data.image_data import ImageData
from winnow.search.training import device_data as pipeline
from winnow.search.training.device_data import DeviceData
from winnow.search.training.epoch_images import epoch_chunks
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data


def build(data: ImageData | None = None, seed: int = 0, **settings: Any) -> DeviceData:
    settings = {"name": "npz", "path": "x", **settings}
    return DeviceData.build(data or tiny_data(), Data.model_validate(settings), CPU, seed)


def numbered(num: int = 40) -> ImageData:
    """Every pixel of image i is i."""
    source = tiny_data(num)
    images = np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None, None], source.train_images.shape)
    return replace(source, train_images=np.ascontiguousarray(images), fingerprint="numbered")


def epoch(data: DeviceData, seed: int = 0, batch_size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    order, draws = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    chunks = list(data.train_chunks(batch_size, order, draws, torch.channels_last))
    return torch.cat([images for images, _ in chunks]), torch.cat([labels for _, labels in chunks])


@pytest.mark.parametrize("chunk_floats", [1, 10_000, 10**9])
def test_an_epoch_shows_every_training_image_once(chunk_floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_FLOATS", chunk_floats)
    source = numbered()
    data = build(source, normalize="none")
    images, labels = epoch(data)
    index = (images[:, 0, 0, 0] * 255).round().long()
    assert sorted(index.tolist()) == data.train.index.tolist()
    assert torch.equal(labels, torch.from_numpy(source.train_labels)[index])
    assert index.tolist() != data.train.index.tolist()
    other = (epoch(data, seed=1)[0][:, 0, 0, 0] * 255).round().long()
    assert index.tolist() != other.tolist()


def test_chunks_are_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_FLOATS", 20 * 3 * 8 * 8)
    data = build()
    sizes = [
        len(labels) for _, labels in data.train_chunks(8, torch.Generator(), torch.Generator(), torch.channels_last)
    ]
    assert sizes == [16, 16, 8]


def test_training_and_validation_images_are_apart() -> None:
    data = build(numbered(), normalize="none")
    assert data.validation is not None
    fitted, selecting = set(data.train.index.tolist()), set(data.validation.index.tolist())
    assert not fitted & selecting
    assert fitted | selecting == set(range(40))
    shown = torch.cat([images for images, _ in data.chunks(data.validation, 4, torch.channels_last)])
    assert (shown[:, 0, 0, 0] * 255).round().long().tolist() == data.validation.index.tolist()


def test_computed_statistics_are_those_of_the_training_split() -> None:
    source = tiny_data()
    data = build(source)
    pixels = source.train_images[data.train.index.numpy()].astype(np.float64) / 255
    assert data.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-9)
    images, _ = epoch(data)
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_given_published_and_no_normalisation() -> None:
    source = tiny_data()
    raw, _ = epoch(build(source, normalize="none"))
    assert 0 <= float(raw.min()) <= float(raw.max()) <= 1
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    given, _ = epoch(build(source, normalize={"mean": mean, "std": std}))
    expected = (raw - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(given, expected, atol=1e-5)
    published, _ = epoch(build(source, name="cifar10", path=None, normalize="dataset"))
    expected = (raw - torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)) / torch.tensor(
        [0.2470, 0.2435, 0.2616]
    ).view(1, 3, 1, 1)
    assert torch.allclose(published, expected, atol=1e-5)


def test_a_channel_that_never_changes_does_not_divide_by_zero() -> None:
    source = tiny_data()
    images = source.train_images.copy()
    images[..., 1] = 7
    values, _ = epoch(build(replace(source, train_images=images, fingerprint="flat")))
    assert torch.isfinite(values).all()
    assert torch.allclose(values[:, 1], torch.zeros(()), atol=1e-6)


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(InputError, match=r"data.normalize: statistics of 1 channels, but the images .* have 3"):
        build(normalize={"mean": [0.5], "std": [0.2]})


def test_augmentation_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.augment\.1\.size"):
        build(augment=["flip", {"name": "resize_crop", "size": 4}])
    with pytest.raises(InputError, match=r"data\.extra\.augment\.0\.size"):
        build(extra={"copies": 3, "augment": [{"name": "resize_crop", "size": 4}]})


@pytest.mark.parametrize("copies", [5, 32, 70])
def test_extra_copies_are_augmented_and_the_originals_are_not(copies: int) -> None:
    bright = {"name": "brightness", "low": 0.5, "high": 0.5}
    data = build(numbered(), normalize="none", extra={"copies": copies, "augment": [bright]})
    images, labels = epoch(data)
    assert len(images) == data.num_train == 32 + copies
    shown = (images[:, 0, 0, 0] * 255).tolist()
    remaining = {float(i): 1 for i in data.train.index.tolist()}
    darkened = []
    for value, label in zip(shown, labels.tolist(), strict=True):
        original = next((i for i in remaining if abs(i - value) < 1e-3 and remaining[i] and i % 3 == label), None)
        if original is not None:
            remaining[original] = 0
        else:
            darkened.append(round(value * 2))
            assert round(value * 2) % 3 == label
    assert not any(remaining.values())
    assert len(darkened) == copies
    counts = np.bincount(darkened, minlength=40)[data.train.index.numpy()]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("originals", ["none", [{"name": "flip", "alternate": True}]])
def test_a_flip_of_copies_alternates_too(originals) -> None:
    """A copy of each image: it shows one view in one epoch and the other in the next, and never that of its original if both alternate."""
    source = numbered()
    images = source.train_images.copy()
    images[:, :, 0] = 255  # the first column tells the views apart, and the others are the number of the image
    flip = {"name": "flip", "alternate": True}
    data = build(replace(source, train_images=images, fingerprint="marked"), normalize="none", augment=originals,
                 extra={"copies": 32, "augment": [flip]})  # fmt: skip
    views = []
    for number in (1, 2, 3):
        shown: dict[int, list[bool]] = {}
        for chunk, _ in epoch_chunks(data, 32, 7, number, torch.contiguous_format):
            for first, middle in (chunk[:, 0, 0, :2] * 255).round().int().tolist():
                shown.setdefault(middle, []).append(first != 255)
        views.append({image: sorted(both) for image, both in shown.items()})
    assert [len(view) for view in views] == [32] * 3
    if originals == "none":
        mirrored = [{image: any(both) for image, both in view.items()} for view in views]
        assert mirrored[0] == mirrored[2] == {image: not was for image, was in mirrored[1].items()}
        assert 0 < sum(mirrored[0].values()) < 32  # all alike by chance: 5e-10
    else:
        assert all(both == [False, True] for view in views for both in view.values())


def test_trials_of_a_process_share_the_tensors() -> None:
    source = tiny_data()
    first, second = build(source, augment="flip"), build(source, normalize="none")
    assert first.train is second.train
    assert build(source, seed=1).train is not first.train
    other = replace(source, fingerprint="other")
    assert build(other).train is not first.train


def test_read_only_arrays_are_used_in_place() -> None:
    """As Ray shares them: no copy, no warning."""
    source = tiny_data(seed=3)
    for array in (source.train_images, source.train_labels):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = build(source, augment="flip_crop_cutout")
        epoch(data)
    assert data.train.images.data_ptr() == source.train_images.ctypes.data
