"""What a search is asked to do: frozen, refuses bad values itself, written into `study.yaml` as it is."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from search.asha import Direction, default_grace_epochs, rung_epochs
from spaces.errors import InputError
from spaces.space import Space

Objective = Literal["validation_accuracy", "validation_loss"]
DIRECTIONS: dict[str, Direction] = {"validation_accuracy": "maximize", "validation_loss": "minimize"}


@dataclass(frozen=True)
class Retraining:
    top: int = 3
    seeds: int = 3


@dataclass(frozen=True)
class Settings:
    """`trials` counts trials that run (infeasible and duplicate suggestions do not); `time_budget_seconds` bounds one start of the search."""

    trials: int
    max_epochs: int
    objective: Objective = "validation_accuracy"
    sampler: str = "tpe"
    grace_epochs: int = 1
    reduction_factor: float = 3.0
    seed: int = 0
    time_budget_seconds: float | None = None
    retrain: Retraining = field(default_factory=Retraining)

    @property
    def direction(self) -> Direction:
        return DIRECTIONS[self.objective]

    def to_dict(self) -> dict[str, Any]:
        rungs = rung_epochs(self.grace_epochs, self.reduction_factor, self.max_epochs)
        return {**asdict(self), "direction": self.direction, "rungs": rungs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        derived = ("direction", "rungs", "retrain")
        retrain = Retraining(**values.get("retrain", {}))
        return cls(**{key: value for key, value in values.items() if key not in derived}, retrain=retrain)


def settings_for(
    space: Space,
    *,
    trials: int | None = None,
    objective: Objective | None = None,
    sampler: str | None = None,
    grace_epochs: int | None = None,
    reduction_factor: float | None = None,
    seed: int = 0,
    time_budget: str | float | None = None,
    top: int | None = None,
    seeds: int | None = None,
) -> Settings:
    """The space's own `search:` and `retrain:` sections, where an argument does not say otherwise."""
    of_space = space.settings
    if grace_epochs is not None and grace_epochs > space.max_epochs:
        raise InputError(
            f"--grace-epochs: at most the {space.max_epochs} epochs of the training, but got {grace_epochs}"
        )
    grace = grace_epochs or of_space.grace_epochs or default_grace_epochs(space.max_epochs)
    return Settings(
        trials=trials or of_space.trials,
        max_epochs=space.max_epochs,
        objective=objective or of_space.objective,
        sampler=sampler or of_space.sampler,
        grace_epochs=min(grace, space.max_epochs),
        reduction_factor=reduction_factor or of_space.reduction_factor,
        seed=seed,
        time_budget_seconds=parse_duration(time_budget),
        retrain=Retraining(top=top or space.retrain.top, seeds=seeds or space.retrain.seeds),
    )


def parse_duration(text: str | float | None) -> float | None:
    """Seconds of `90`, `90s`, `5m`, `2h` or `1h30m`."""
    if text is None or isinstance(text, int | float):
        return text
    units = {"h": 3600, "m": 60, "s": 1, "": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise InputError(f"time budget: give seconds or a duration such as 90s, 5m, 2h, 1h30m, but got {text!r}")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds <= 0:
        raise InputError(f"time budget: must be above 0, but got {text!r}")
    return seconds
