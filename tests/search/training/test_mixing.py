"""Mixing of images: the arithmetic of both kinds, and how the loss follows."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from winnow.search.training import loop
from winnow.search.training.batches import EpochSums, MicroBatch
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import _loss_of, train
from winnow.search.training.losses import LOSSES, build_loss
from winnow.search.training.mixing import MIXINGS, Mixer
from winnow.search.training.ranks import Rank
from winnow.spaces import schema


def batch(num: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one value each, their label."""
    labels = torch.arange(num)
    return labels.float().view(-1, 1, 1, 1).expand(num, 3, 10, 8).contiguous(), labels


def test_the_registry_holds_what_the_schema_names() -> None:
    members = get_args(get_args(schema.Mixing)[0])
    assert {member().name for member in members} == set(MIXINGS)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_by_hand(seed: int) -> None:
    images, labels = batch()
    mixed, others, shares = Mixer(schema.Mixup(alpha=1.0), seed)(images, labels)
    assert not (others == labels).any()
    of_images = shares.view(-1, 1, 1, 1)
    assert torch.allclose(mixed, of_images * images + (1 - of_images) * others.view(-1, 1, 1, 1), atol=1e-6)
    assert len(set(shares.tolist())) == len(images)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_cutmix_is_its_share(seed: int) -> None:
    images, labels = batch(20)
    mixed, others, shares = Mixer(schema.CutMix(), seed)(images, labels)
    rectangles = set()
    for image, label, other, share in zip(mixed, labels, others, shares.tolist(), strict=True):
        assert set(image.unique().tolist()) <= {float(label), float(other)}
        assert (image == label).float().mean().item() == pytest.approx(share)
        assert (label == other) == (share == 1)
        inside = image[0] != label
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)  # a rectangle: its rows and its columns are intervals
        for line in (rows, columns):
            assert (line.int().diff().abs().sum() + line[0] + line[-1]) in (0, 2)
        rectangles.add((tuple(rows.tolist()), tuple(columns.tolist())))
    assert len(rectangles) > 5


@pytest.mark.parametrize("settings", [schema.Mixup(alpha=1.0), schema.CutMix()], ids=lambda settings: settings.name)
def test_a_loss_that_only_tells_its_mean_gets_one_share_for_each_batch(settings: schema.Mixing) -> None:
    images, labels = batch()
    for seed in range(5):
        mixture = Mixer(settings, seed, per_image=False)(images, labels)
        if mixture.shares is not None:
            assert mixture.shares.shape == (6,)
            assert len(set(mixture.shares.tolist())) == 1
            shown = (mixture.images == images).float().mean((1, 2, 3))
            assert settings.name == "mixup" or torch.allclose(shown, mixture.shares)


@pytest.mark.parametrize("settings", [schema.Mixup(), schema.CutMix()], ids=lambda settings: settings.name)
def test_mixed_images_keep_type_shape_and_memory_format(settings: schema.Mixing) -> None:
    images = torch.rand(6, 3, 10, 8).contiguous(memory_format=torch.channels_last)
    mixed, others, shares = Mixer(settings, 0)(images, torch.arange(6))
    assert (mixed.dtype, mixed.shape) == (images.dtype, images.shape)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert (others.dtype, shares.dtype, shares.shape) == (torch.int64, torch.float32, (6,))


def test_some_images_are_left_alone() -> None:
    images, labels = batch(400)
    mixed, others, shares = Mixer(schema.Mixup(alpha=1.0, p=0.5), 0)(images, labels)
    alone = shares == 1
    assert alone.sum() == pytest.approx(200, abs=60)  # six standard deviations of 10
    assert torch.equal(mixed[alone], images[alone])
    assert torch.equal(others[alone], labels[alone])
    untouched = Mixer(schema.Mixup(p=0.0), 0)(images, labels)
    assert torch.equal(untouched.images, images)
    assert untouched[1:] == (None, None)


SHARES = torch.tensor([0.3, 0.9, 0.0, 1.0])


@pytest.mark.parametrize("weights", ["none", [1.0, 2.0, 0.5]])
def test_the_loss_is_mixed_as_the_images_are(weights: Any) -> None:
    logits, labels, others = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    own, other = (functional.one_hot(each, 3) for each in (labels, others))
    of_classes = torch.ones(3) if weights == "none" else torch.tensor(weights)
    soft = of_classes * (SHARES[:, None] * own + (1 - SHARES[:, None]) * other)
    part = MicroBatch(torch.empty(4), labels, 1.0, True, others, SHARES)
    loss = build_loss(schema.CrossEntropy(class_weights=weights), torch.ones(3))
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert _loss_of(loss, logits, part) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", sorted({*LOSSES} - {"cross_entropy"}))
def test_every_loss_is_mixed_image_by_image(name: str) -> None:
    logits, labels, others = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    loss = build_loss(TypeAdapter(schema.Loss).validate_python({"name": name}))
    part = MicroBatch(torch.empty(4), labels, 1.0, True, others, SHARES)
    singles = [
        share * loss(logits[[i]], labels[[i]]) + (1 - share) * loss(logits[[i]], others[[i]])
        for i, share in enumerate(SHARES.tolist())
    ]
    assert _loss_of(loss, logits, part) == pytest.approx(float(torch.stack(singles).mean()), rel=1e-5)


def mean_of_batch(logits: torch.Tensor, labels: torch.Tensor, scale: float) -> torch.Tensor:
    return scale * functional.cross_entropy(logits, labels)


def test_a_custom_loss_trains_on_mixed_images_with_one_share_for_each_batch() -> None:
    """The mean of a custom loss is mixed by one share: with the same draws, the figures are those of the built-in loss on such batches."""
    config = tiny_config(mix="mixup", loss={"name": f"{__name__}:mean_of_batch", "scale": 1.0})
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    custom = [figures(result)["train_loss"] for result in train(config, data, CPU, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Mixer", lambda settings, seed, per_image: Mixer(settings, seed, per_image=False))
        built_in = [figures(result)["train_loss"] for result in train(tiny_config(mix="mixup"), data, CPU, 0)]
    assert custom == pytest.approx(built_in, rel=1e-5)
    assert custom != pytest.approx(
        [figures(result)["train_loss"] for result in train(tiny_config(mix="mixup"), data, CPU, 0)], rel=1e-5
    )


def test_pieces_of_a_batch_are_mixed_alike() -> None:
    """Without batch norm and dropout, gradient accumulation changes nothing but rounding."""
    model = {"name": "cnn", "stages": [{"filters": 4}], "head": [8]}
    config = tiny_config(mix="cutmix", model=model, epochs=2)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    whole, pieces = (list(train(config, data, CPU, 0, micro_batches=num)) for num in (1, 3))
    for one, other in zip(whole, pieces, strict=True):
        assert figures(one)["train_loss"] == pytest.approx(figures(other)["train_loss"], rel=1e-3)


def test_each_label_of_a_mixed_image_counts_by_its_share() -> None:
    """A network that is right about every image, and knows the shares, reaches the larger of them."""
    labels, others = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    part = MicroBatch(torch.empty(4, 1), labels, 1.0, True, others, torch.tensor([0.2, 0.4, 0.7, 1.0]))
    for answered, accuracy in ((labels, (0.2 + 1 + 0.7 + 1) / 4), (others, (0.8 + 1 + 0.3 + 0) / 4)):
        sums = EpochSums(Rank(), CPU)
        sums.add(part, torch.tensor(1.0), functional.one_hot(answered, 3).float())
        assert sums.all_finite()
        assert sums.figures()[2] == pytest.approx(accuracy)  # the second image was mixed with one of its own class
