"""Dominance, the order of a front, and hypervolume, against definitions written out by hand."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from winnow.spaces.epoch_figures import BETTER, OBJECTIVES
from winnow.spaces.fronts import front, gain, gains, hypervolume, layers, non_dominated, ranked, spread_order


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
    points = gains([(0.5, 10), (0.6, None), (0.7, 1000)], ["validation_accuracy", "num_parameters"])
    assert points[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert points[:, 1] == pytest.approx([-np.log(10), -np.log(100), -np.log(1000)])
    values = [(0.5, 10), (0.4, 20), (0.7, 1000)]
    assert front(values, ["validation_accuracy", "num_parameters"]) == [2, 0]
    assert front(values, ["validation_loss", "num_parameters"]) == [1, 0]


def test_metrics_are_compared_by_their_values_in_their_own_direction():
    """An unknown one counts as the median, one of 0 has no logarithm."""
    names = ["validation_loss", "validation_macro_f1", "validation_calibration_error"]
    points = gains([(2.0, 0.5, 0.0), (1.0, None, 0.1), (3.0, 0.7, 0.4)], names)
    assert points.tolist() == [[-2.0, 0.5, 0.0], [-1.0, 0.6, -0.1], [-3.0, 0.7, -0.4]]
    assert [gain(0.25, name) for name in OBJECTIVES] == [
        0.25 if BETTER[name] == "high" else -0.25 for name in OBJECTIVES
    ]
    values = [(0.9, 0.5, 0.2), (0.8, 0.6, 0.3), (0.8, 0.6, 0.2), (0.7, 0.5, 0.1)]
    # The second is dominated by the third alone, and only if a high macro F1 and a low error are good.
    assert set(front(values, ["validation_accuracy", *names[1:]])) == {0, 2, 3}
    assert set(front([row[:2] for row in values], ["validation_accuracy", "validation_macro_f1"])) == {0, 1, 2}
    assert set(front([row[::2] for row in values], ["validation_accuracy", names[2]])) == {0, 3}
    assert gains([], names).shape == (0, 3)


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_hypervolume_is_the_share_of_a_fine_grid_that_is_dominated(num_objectives):
    rng = np.random.default_rng(num_objectives)
    points = rng.integers(-1, 6, (8, num_objectives)).astype(float)
    cells = itertools.product(range(6), repeat=num_objectives)
    counted = sum(any((point >= np.array(cell) + 1).all() for point in points) for cell in cells)
    assert hypervolume(points, np.zeros(num_objectives)) == counted


def dominated(points: np.ndarray) -> np.ndarray:
    """By comparing every pair."""
    at_least = (points[:, None, :] >= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] > points[None, :, :]).any(axis=2)
    return (at_least & better).any(axis=0)


def test_layers_of_many_points_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    for num_objectives in (1, 2, 3, 4):
        for num_values in (2, 5, 1000):  # few values: many points are equal or tie in an objective
            points = rng.integers(0, num_values, (60, num_objectives)).astype(float)
            left, expected = np.arange(60), np.full(60, -1)
            for number in range(60):
                worse = dominated(points[left])
                expected[left[~worse]] = number
                left = left[worse]
            assert layers(points).tolist() == expected.tolist()
            assert layers(points, num=2).tolist() == np.minimum(expected, 2).tolist()
            assert non_dominated(points).tolist() == (expected == 0).tolist()


def test_ten_thousand_networks_are_ordered_without_comparing_every_pair():
    """All pairs of 10,000 networks with three objectives would need more than 500 MB at once."""
    points = np.random.default_rng(0).random((10_000, 3))
    tracemalloc.start()
    order = ranked(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(order) == list(range(10_000))
    assert peak < 50e6
