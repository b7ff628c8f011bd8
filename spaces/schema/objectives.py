"""The objectives of a search: the metric that ranks trials, and the costs that are minimized beside it."""

from __future__ import annotations

from typing import Literal, get_args

from winnow.spaces.epoch_figures import OBJECTIVES, QUALITY
from winnow.spaces.schema.fields import Metric, Strict
from winnow.spaces.schema.limits import LIMITED

Cost = Literal["parameters", "multiply_adds", "latency_ms", "epoch_seconds"]
_MAXIMIZED = {figure.name for figure in QUALITY if figure.name in OBJECTIVES and figure.better == "high"}


class Minimized(Strict):
    """An objective that is to be small."""

    minimize: Metric | Cost


class Maximized(Strict):
    """An objective that is to be large."""

    maximize: Metric | Cost


Objectives = list[Metric | Cost | Minimized | Maximized]


def name_of(objective: str | Minimized | Maximized) -> str:
    """The name of an objective, however it is written."""
    match objective:
        case Minimized():
            return objective.minimize
        case Maximized():
            return objective.maximize
    return objective


def check_objectives(objectives: Objectives) -> None:
    """Check that the objectives are a metric, then costs.

    Raises:
        ValueError: They are not, or a direction is not that in which the figure is better.
    """
    names = [name_of(objective) for objective in objectives]
    metrics, costs = get_args(Metric), get_args(Cost)
    if len(names) < 2:
        raise ValueError(
            f"several objectives are at least two; one alone is `objective: {names[0] if names else '...'}`"
        )
    if names[0] not in metrics or any(name not in costs for name in names[1:]):
        raise ValueError(
            f"the first objective must be a metric ({', '.join(metrics)}) and the others costs ({', '.join(costs)}), but got "
            + ", ".join(names)
        )
    if len(set(names)) < len(names):
        raise ValueError(f"each objective may stand once, but got {', '.join(names)}")
    for objective, name in zip(objectives, names, strict=True):
        if isinstance(objective, Minimized if name in _MAXIMIZED else Maximized):
            raise ValueError(f"{name} is better when it is {'large' if name in _MAXIMIZED else 'small'}")


def costs_of(objectives: Objectives | None) -> list[str]:
    """The figures of a trial that are minimized beside the metric, such as `num_parameters`; empty for one objective."""
    return [LIMITED[name_of(objective)] for objective in (objectives or [])[1:]]
