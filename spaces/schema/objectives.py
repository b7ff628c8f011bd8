"""The objectives of a search: the metric that ranks trials, and the metrics and costs that are optimized along with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from winnow.spaces.epoch_figures import is_maximized
from winnow.spaces.schema.fields import Metric, Strict
from winnow.spaces.schema.limits import LIMITED

Cost = Literal["parameters", "multiply_adds", "latency_ms", "epoch_seconds"]


class Minimized(Strict):
    """An objective that is minimized."""

    minimize: Metric | Cost
    """Metric or cost to minimize."""


class Maximized(Strict):
    """An objective that is maximized."""

    maximize: Metric | Cost
    """Metric or cost to maximize."""


Objectives = list[Metric | Cost | Minimized | Maximized]


Stated = str | Minimized | Maximized | dict[str, str]
"""An objective as the schema holds it, or as `study.yaml` records it, where one with a direction is a mapping."""


def name_of(objective: Stated) -> str:
    """Return the name of an objective, with or without a direction."""
    stated = objective.model_dump() if isinstance(objective, Minimized | Maximized) else objective
    return str(next(iter(stated.values()))) if isinstance(stated, dict) else stated


def check_objectives(objectives: Objectives) -> None:
    """Check that the objectives are several different ones, of which the first is a metric, and that their directions are right.

    Raises:
        ValueError: They are not, or a direction is the wrong one for its figure.
    """
    names = [name_of(objective) for objective in objectives]
    metrics, costs = get_args(Metric), get_args(Cost)
    if len(names) < 2:
        raise ValueError(
            f"`objectives` needs at least two; write a single one as `objective: {names[0] if names else '...'}`"
        )
    if names[0] not in metrics:
        raise ValueError(
            f"the first objective must be a metric ({', '.join(metrics)}); the others may be metrics or costs ({', '.join(costs)}), "
            f"but got {', '.join(names)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"each objective may be listed only once, but got {', '.join(names)}")
    for objective, name in zip(objectives, names, strict=True):
        wrong, right = (Minimized, "maximized") if is_maximized(name) else (Maximized, "minimized")
        if isinstance(objective, wrong):
            raise ValueError(f"{name} must be {right}")


def further_of(objectives: Sequence[Stated] | None) -> list[str]:
    """Return the figures of a trial that rank it besides the first objective; none for a single objective.

    They have the names of their columns in the table `trials`: a metric such as `validation_macro_f1`, a cost such as `num_parameters`.

    Args:
        objectives: All objectives, the first one first; None or empty if there is only one.
    """
    names = [name_of(objective) for objective in (objectives or [])[1:]]
    return [LIMITED.get(name, name) for name in names]
