"""What a search is asked to do: frozen, refuses bad values itself, written into `study.yaml` as it is."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from winnow.spaces.errors import InputError
from winnow.spaces.grid import check_grid
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space

Direction = Literal["maximize", "minimize"]
Objective = Literal["validation_accuracy", "validation_loss"]
SETTINGS = (
    "trials",
    "objective",
    "sampler",
    "grace_epochs",
    "reduction_factor",
    "repeats",
    "checkpoint_quota",
    "audit",
    "seed",
    "time_budget",
    "top",
    "seeds",
)
"""The options of the command line that are arguments of `settings_for`."""

DIRECTIONS: dict[str, Direction] = {"validation_accuracy": "maximize", "validation_loss": "minimize"}


@dataclass(frozen=True)
class Retraining:
    top: int = 3
    seeds: int = 3


@dataclass(frozen=True)
class Settings:
    """`trials` counts trials that run (infeasible and duplicate suggestions do not), None: as many as the time allows;
    `time_budget_seconds` bounds one start of the search."""

    trials: int | None
    max_epochs: int
    objective: Objective = "validation_accuracy"
    sampler: str = "forecast"
    grace_epochs: int = 1
    reduction_factor: float = 3.0
    repeats: int = 1
    checkpoint_quota: float = 20.0
    """GB that the checkpoints of paused trials may take."""
    audit: float = 0.0
    seed: int = 0
    time_budget_seconds: float | None = None
    retrain: Retraining = field(default_factory=Retraining)

    @property
    def num_trials(self) -> int:
        """`trials`, or a number that no search reaches."""
        return self.trials or 10**6

    @property
    def direction(self) -> Direction:
        return DIRECTIONS[self.objective]

    def to_dict(self) -> dict[str, Any]:
        rungs = rung_epochs(self.grace_epochs, self.reduction_factor, self.max_epochs)
        return {**asdict(self), "direction": self.direction, "rungs": rungs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        derived = ("direction", "rungs", "retrain", "strata")
        if values.get("strata", 1) > 1:
            raise InputError(
                "this run was searched with --strata, which this version no longer has: it cannot be continued"
            )
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
    repeats: int | None = None,
    checkpoint_quota: float | None = None,
    audit: float | None = None,
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
    if spec_of(sampler or of_space.sampler).finite:
        check_grid(space)
    return Settings(
        trials=trials or of_space.trials,
        max_epochs=space.max_epochs,
        objective=objective or of_space.objective,
        sampler=sampler or of_space.sampler,
        grace_epochs=min(grace, space.max_epochs),
        reduction_factor=reduction_factor or of_space.reduction_factor,
        repeats=repeats or of_space.repeats,
        checkpoint_quota=checkpoint_quota or of_space.checkpoint_quota,
        audit=of_space.audit if audit is None else audit,
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


def rung_epochs(grace_epochs: int, reduction_factor: float, max_epochs: int) -> list[int]:
    """The epochs at which trials are compared, all below `max_epochs`."""
    rungs: list[int] = []
    level = float(grace_epochs)
    while round(level) < max_epochs:
        if not rungs or round(level) > rungs[-1]:
            rungs.append(round(level))
        level *= reduction_factor
    return rungs


def default_grace_epochs(max_epochs: int) -> int:
    """A sixteenth of the training: at Ray's default of 1 epoch, TPE with ASHA was worse than random search (DESIGN, section 4)."""
    return max(1, max_epochs // 16)
