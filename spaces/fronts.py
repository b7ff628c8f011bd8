"""Compares networks by several objectives: dominance, the order of the networks of a front, and hypervolume."""

from __future__ import annotations

import math
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
    at_least = (points[:, None, :] >= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] > points[None, :, :]).any(axis=2)
    return ~np.asarray((at_least & better).any(axis=0))


def layers(points: Array) -> Array:
    """Return the layer of each point: 0 for the Pareto front, 1 for the front of the remaining points, and so on."""
    layer = np.full(len(points), -1)
    left = np.arange(len(points))
    for number in range(len(points)):
        if not len(left):
            break
        front = non_dominated(points[left])
        layer[left[front]] = number
        left = left[~front]
    return layer


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
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1.0
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
