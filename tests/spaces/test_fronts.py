"""Dominance, the order of a front, and hypervolume, against definitions written out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from winnow.spaces.fronts import front, gains, hypervolume, layers, non_dominated, ranked, spread_order


def test_non_dominated_follows_the_definition():
    points = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)

    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a >= b).all() and (a > b).any())

    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert non_dominated(points).tolist() == expected
    layer = layers(points)
    for number in range(layer.max() + 1):
        rest = points[layer >= number]
        assert {tuple(p) for p in rest[non_dominated(rest)]} == {tuple(p) for p in points[layer == number]}


def test_a_front_is_ordered_so_that_each_start_covers_it():
    points = np.array([[0.0, 10.0], [9.0, 1.0], [10.0, 0.0], [5.0, 5.0]])
    assert spread_order(points) == [2, 0, 3, 1]
    assert ranked(np.concatenate([points, [[-1.0, -1.0]]])) == [2, 0, 3, 1, 4]
    assert spread_order(np.empty((0, 2))) == []


def test_costs_are_compared_by_their_logarithm_and_unknown_ones_are_neutral():
    points = gains([0.5, 0.6, 0.7], [[10], [None], [1000]], maximize=True)
    assert points[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert points[:, 1] == pytest.approx([-np.log(10), -np.log(100), -np.log(1000)])
    assert front([0.5, 0.4, 0.7], [[10], [20], [1000]], maximize=True) == [2, 0]
    assert front([0.5, 0.4, 0.7], [[10], [20], [1000]], maximize=False) == [1, 0]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_hypervolume_is_the_share_of_a_fine_grid_that_is_dominated(num_objectives):
    rng = np.random.default_rng(num_objectives)
    points = rng.integers(-1, 6, (8, num_objectives)).astype(float)
    cells = itertools.product(range(6), repeat=num_objectives)
    counted = sum(any((point >= np.array(cell) + 1).all() for point in points) for cell in cells)
    assert hypervolume(points, np.zeros(num_objectives)) == counted
