"""Splits: nothing lost, nothing twice, each class its share, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny import tiny_data
from winnow.search.data.hold_out import hold_out
from winnow.search.data.image_data import split
from winnow.spaces.errors import InputError


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array),
    share=st.floats(0.01, 0.99),
    stratified=st.booleans(),
    seed=st.integers(0, 100),
)
def test_parts_are_disjoint_whole_and_of_the_size_asked_for(
    labels: np.ndarray, share: float, stratified: bool, seed: int
) -> None:
    kept, held_out = hold_out(labels, share, stratified, seed)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    most = len(labels) - len(np.unique(labels)) if stratified else len(labels)
    assert len(held_out) == min(round(share * len(labels)), most)
    assert np.all(np.diff(kept) > 0)
    assert np.all(np.diff(held_out) > 0)
    again = hold_out(labels, share, stratified, seed)
    assert np.array_equal(kept, again[0])
    if stratified:
        assert set(labels[kept].tolist()) == set(labels.tolist()), "every class keeps an image"
        sizes = np.bincount(labels)
        exact = np.minimum(sizes * (round(share * len(labels)) / len(labels)), sizes - 1).clip(0)
        assert np.all(np.bincount(labels[held_out], minlength=len(sizes)) > exact - 1)


@pytest.mark.parametrize("stratified", [True, False])
def test_another_seed_splits_otherwise(stratified: bool) -> None:
    labels = np.arange(100) % 4
    assert not np.array_equal(hold_out(labels, 0.2, stratified, 0)[1], hold_out(labels, 0.2, stratified, 1)[1])


def test_an_empty_part_is_refused() -> None:
    data = tiny_data(num_train=3)
    with pytest.raises(
        InputError, match=r"data.validation: 0.1 of 3 training images leaves 3 to fit and 0 to validate"
    ):
        split(data, 0.1, stratified=True, seed=0)
    with pytest.raises(InputError, match="leaves 0 to fit"):
        split(data, 0.9, stratified=False, seed=0)


def test_a_given_split_is_taken_as_it_is() -> None:
    data = tiny_data()
    with pytest.raises(InputError, match="has no validation split"):
        split(data, "given", stratified=True, seed=0)
    given_split = replace(data, validation_images=data.test_images, validation_labels=data.test_labels)
    parts = split(given_split, "given", stratified=True, seed=0)
    assert len(parts.train_index) == 50
    assert len(parts.validation_index) == 12
