"""How batches are cut: every image once, nothing too small for batch norm, the weights of the parts of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from winnow.search.training.batches import Batches, has_batch_norm
from winnow.search.training.ranks import Rank
from winnow.spaces.errors import InputError


def cut(batches: Batches, num: int) -> list[list[tuple[list[int], float, bool]]]:
    images, labels = torch.zeros(num, 1, 2, 2), torch.arange(num)
    return [
        [(part.labels.tolist(), part.weight, part.counts) for part in batch] for batch in batches.of(images, labels)
    ]


def test_alone_a_batch_is_one_part() -> None:
    assert cut(Batches(5, 2, False, 1, Rank()), 5) == [[([0, 1], 1, True)], [([2, 3], 1, True)], [([4], 1, True)]]


def test_a_last_single_image_is_skipped_before_batch_norm() -> None:
    batches = Batches(5, 2, True, 1, Rank())
    assert len(cut(batches, 5)) == batches.steps_per_epoch == 2
    assert Batches(5, 2, False, 1, Rank()).steps_per_epoch == 3


def test_a_single_training_image_is_refused_before_batch_norm() -> None:
    with pytest.raises(InputError, match="a single training image"):
        _ = Batches(1, 4, True, 1, Rank()).steps_per_epoch


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("micro_batches", [1, 3, 8])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("num", [2, 5, 7, 16])
def test_the_parts_of_a_batch_on_all_ranks(batch_norm: bool, micro_batches: int, ranks: int, num: int) -> None:
    everyone = [cut(Batches(num, 16, batch_norm, micro_batches, Rank(i, ranks)), num)[0] for i in range(ranks)]
    assert len({len(parts) for parts in everyone}) == 1  # every rank calls the network as often
    assert sum(weight for parts in everyone for _, weight, _ in parts) / ranks == pytest.approx(1)
    counted = [label for parts in everyone for labels, _, counts in parts if counts for label in labels]
    assert sorted(counted) == list(range(num))
    assert min(len(labels) for parts in everyone for labels, *_ in parts) >= (2 if batch_norm else 1)


BATCH_NORMS = [
    layer
    for layer in vars(nn).values()
    if isinstance(layer, type) and issubclass(layer, nn.modules.batchnorm._BatchNorm)
]


@pytest.mark.parametrize("layer", BATCH_NORMS)
def test_every_batch_norm_of_torch_is_known(layer: Any) -> None:
    assert has_batch_norm(nn.Sequential(nn.Linear(2, 3), layer(3)))


def test_other_norms_are_no_batch_norm() -> None:
    assert not has_batch_norm(nn.Sequential(nn.GroupNorm(1, 4), nn.InstanceNorm2d(4), nn.LayerNorm(4)))
