"""Compares networks by several objectives: dominance, the order of the networks of a front, and hypervolume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def gains(metrics: Sequence[float], costs: Sequence[Sequence[float | None]], maximize: bool) -> Array:
    """Return the objectives as columns in which higher is better.

    Args:
        metrics: The metric of each network.
        costs: The costs of each network, above 0, in the same order for all; None if one is not known yet.
        maximize: Whether a larger metric is better.

    Returns:
        [networks, 1 + costs]: the metric, then the negative logarithm of each cost. An unknown cost counts as the median of the
        known ones.
    """
    signed = np.array(metrics, float)[:, None] * (1 if maximize else -1)
    logs = np.array([[math.nan if cost is None else -math.log(max(cost, 1e-12)) for cost in row] for row in costs])
    logs = logs.reshape(len(signed), -1)
    for column in logs.T:
        unknown = np.isnan(column)
        column[unknown] = np.median(column[~unknown]) if not unknown.all() else 0.0
    return np.concatenate([signed, logs], axis=1)


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


def front(metrics: Sequence[float], costs: Sequence[Sequence[float | None]], maximize: bool) -> list[int]:
    """Return the networks that no other dominates, in the order of `spread_order`.

    Args:
        metrics: The metric of each network.
        costs: The costs of each network, above 0, in the same order for all; None if one is not
            known yet.
        maximize: Whether a larger metric is better.

    Returns:
        The indices of these networks.
    """
    points = gains(metrics, costs, maximize)
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
