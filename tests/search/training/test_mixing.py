"""Mixing of images: the arithmetic of both kinds, and how the loss follows."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.nn import functional

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from winnow.search.training.batches import EpochSums, MicroBatch
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import _loss_of, train
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
    mixed, others, share = Mixer(schema.Mixup(alpha=1.0), seed)(images, labels)
    assert not (others == labels).any()
    expected = share * images + (1 - share) * others.view(-1, 1, 1, 1)
    assert torch.allclose(mixed, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_of_cutmix_is_its_share(seed: int) -> None:
    images, labels = batch()
    mixed, others, share = Mixer(schema.CutMix(), seed)(images, labels)
    for image, label, other in zip(mixed, labels, others, strict=True):
        assert set(image.unique().tolist()) <= {float(label), float(other)}
        assert (image == label).float().mean().item() == pytest.approx(share)


def test_some_batches_are_left_alone() -> None:
    images, labels = batch()
    mixer = Mixer(schema.Mixup(p=0.5), 0)
    alone = [torch.equal(mixer(images, labels).images, images) for _ in range(400)]
    assert sum(alone) == pytest.approx(200, abs=60)  # six standard deviations of 10


def test_the_loss_is_mixed_as_the_images_are() -> None:
    logits, labels, others = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    soft = 0.3 * functional.one_hot(labels, 3) + 0.7 * functional.one_hot(others, 3)
    part = MicroBatch(torch.empty(4), labels, 1.0, others, 0.3, counts=True)
    assert torch.allclose(_loss_of(functional.cross_entropy, logits, part), functional.cross_entropy(logits, soft))


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
    part = MicroBatch(torch.empty(4, 1), labels, 1.0, others, 0.2, counts=True)
    for answered, accuracy in ((labels, (4 * 0.2 + 0.8) / 4), (others, (4 * 0.8 + 0.2) / 4)):
        sums = EpochSums(Rank(), CPU)
        sums.add(part, torch.tensor(1.0), functional.one_hot(answered, 3).float())
        assert sums.all_finite()
        assert sums.figures()[2] == pytest.approx(accuracy)  # the second image was mixed with one of its own class
