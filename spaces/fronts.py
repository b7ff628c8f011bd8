"""Compares networks by several objectives: dominance, the order of the networks of a front, and hypervolume."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from winnow.spaces.epoch_figures import is_cost, is_maximized

Array = np.ndarray


def gain(value: float | None, objective: str) -> float:
    """Return the value of an objective on a scale on which higher is better.

    Args:
        value: The value; above 0 for a cost, None if it is not known.
        objective: Name of the objective: a metric, which is one of `winnow.spaces.epoch_figures.OBJECTIVES`, or a cost such as
            `num_parameters`.

    Returns:
        A metric itself, negated if low values are good; the negative logarithm of a cost; NaN if the value is not known.
    """
    if value is None:
        return math.nan
    if is_cost(objective):
        return -math.log(max(value, 1e-12))
    return float(value) if is_maximized(objective) else -float(value)


def gains(values: Sequence[Sequence[float | None]], objectives: Sequence[str]) -> Array:
    """Return the objectives of networks as columns in which higher is better.

    Args:
        values: The values of the objectives of each network; None if one is not known yet.
        objectives: Names of the objectives, in the order of the values; see `gain`.

    Returns:
        [networks, objectives]: the values on the scale of `gain`. An unknown one counts as the median of the known ones.
    """
    points = np.array([[gain(value, name) for value, name in zip(row, objectives, strict=True)] for row in values])
    points = points.reshape(len(values), len(objectives))
    for column in points.T:
        unknown = np.isnan(column)
        column[unknown] = np.median(column[~unknown]) if not unknown.all() else 0.0
    return points


def non_dominated(points: Array) -> Array:
    """Return which points [n, objectives] no other point dominates, as bools [n].

    A point dominates another one if it is as good in all objectives and better in at least one.
    """
    return np.asarray(layers(points, num=1) == 0)


def layers(points: Array, num: int | None = None) -> Array:
    """Return the layer of each point: 0 for the Pareto front, 1 for the front of the remaining points, and so on.

    Every point is only compared with those that come before it in the order of the first objective, and its layer is found by a
    binary search (Zhang et al., "An Efficient Approach to Nondominated Sorting for Evolutionary Multiobjective Optimization", 2015).

    Args:
        points: [n, objectives], higher is better.
        num: Number of layers to tell apart; all further points have this number. Default: all layers.
    """
    if not len(points):
        return np.empty(0, int)
    if not points.shape[1]:
        return np.zeros(len(points), int)
    different, inverse = np.unique(
        points, axis=0, return_inverse=True
    )  # ascending; equal points do not dominate each other
    find = _layers_of_two if points.shape[1] <= 2 else _layers_of_many
    return np.asarray(find(different[::-1], num))[::-1][inverse.reshape(-1)]


def _layers_of_two(points: Array, num: int | None) -> list[int]:
    """Return the layers of different points with one or two objectives, which are in descending order."""
    found: list[int] = []
    best: list[float] = []  # the best value so far of the last objective in each layer, negated, so that it ascends
    for last in (-points[:, -1]).tolist():
        layer = bisect_right(best, last)
        if layer == len(best) and layer != num:
            best.append(last)
        elif layer != num:
            best[layer] = last
        found.append(layer)
    return found


def _layers_of_many(points: Array, num: int | None) -> list[int]:
    """Return the layers of different points, which are in descending order."""
    found: list[int] = []
    members: list[Array] = []  # of each layer, with room for more
    counts: list[int] = []
    for point in points:
        low, high = 0, len(members)
        while low < high:
            middle = (low + high) // 2
            if (members[middle][: counts[middle], 1:] >= point[1:]).all(axis=1).any():
                low = middle + 1
            else:
                high = middle
        found.append(low)
        if low == num:
            continue
        if low == len(members):
            members.append(np.empty((8, len(point))))
            counts.append(0)
        if counts[low] == len(members[low]):
            members[low] = np.concatenate([members[low], np.empty_like(members[low])])
        members[low][counts[low]] = point
        counts[low] += 1
    return found


def spread_order(points: Array) -> list[int]:
    """Order points so that every prefix of the order covers all of them well.

    Args:
        points: [n, objectives], higher is better.

    Returns:
        Indices: first the best point by the first objective, then repeatedly the point that is farthest from those before it,
        with each objective scaled to its range.
    """
    if not len(points):
        return []
    scaled = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-12)
    order = [int(np.lexsort([-points[:, j] for j in reversed(range(points.shape[1]))])[0])]
    distance = np.linalg.norm(scaled - scaled[order[0]], axis=1)
    distance[order[0]] = -1.0
    while len(order) < len(points):
        order.append(int(distance.argmax()))
        distance = np.minimum(
            distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1)
        )  # those in the order keep -1
        distance[order[-1]] = -1.0
    return order


def ranked(points: Array) -> list[int]:
    """Return the indices of points [n, objectives], ordered by their layer and within a layer by `spread_order`, the best first."""
    layer = layers(points)
    order: list[int] = []
    for number in range(int(layer.max(initial=-1)) + 1):
        members = np.flatnonzero(layer == number)
        order += [int(members[index]) for index in spread_order(points[members])]
    return order


def front(values: Sequence[Sequence[float | None]], objectives: Sequence[str]) -> list[int]:
    """Return the networks that no other dominates, in the order of `spread_order`.

    Args:
        values: The values of the objectives of each network; None if one is not known yet.
        objectives: Names of the objectives, in the order of the values; see `gain`.

    Returns:
        The indices of these networks.
    """
    points = gains(values, objectives)
    members = np.flatnonzero(non_dominated(points))
    return [int(members[index]) for index in spread_order(points[members])]


def hypervolume(points: Array, reference: Array) -> float:
    """Return the volume that points dominate above a reference.

    Args:
        points: [n, objectives], higher is better.
        reference: [objectives]; points that do not exceed it in every objective add nothing.
    """
    above = points[(points > reference).all(axis=1)]
    if not len(above):
        return 0.0
    if points.shape[1] == 1:
        return float(above.max() - reference[0])
    # Add slices along the last objective, from its best value downwards.
    above = above[np.argsort(-above[:, -1])]
    ends = np.append(above[1:, -1], reference[-1])
    return float(
        sum(
            (top - end) * hypervolume(above[: index + 1, :-1], reference[:-1])
            for index, (top, end) in enumerate(zip(above[:, -1], ends, strict=True))
            if top > end
        )
    )
