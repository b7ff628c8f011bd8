"""Writes what the validation images decided in the search into a config that is retrained on these images too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from winnow.search.storage.json_lines import read_epochs
from winnow.search.storage.run_folder import RunFolder
from winnow.search.training.schedules import Plateau
from winnow.spaces.epoch_figures import to_minimize

Line = dict[str, Any]


def searched_epochs(folder: RunFolder) -> dict[int, list[Line]]:
    """Return the epochs of each trial in the search, in order, from `epochs.jsonl`."""
    epochs: dict[int, dict[int, Line]] = defaultdict(dict)
    for line in read_epochs(folder.epochs):
        if line["phase"] == "search":
            epochs[line["trial"]][line["epoch"]] = line
    return {trial: [lines[epoch] for epoch in sorted(lines)] for trial, lines in epochs.items()}


def as_searched(config: Line, lines: Sequence[Line]) -> Line:
    """Write what the validation images decided in the search into a config.

    `stop_after` becomes the epoch whose weights the search kept, if that is not the last one. Without a validation split, a
    training then runs that many epochs and keeps the last one. Its epochs have more steps than in the search, since it trains
    on the validation images too. A plateau schedule gets the epochs after which the search reduced the learning rate.

    Args:
        config: The complete config of a trial.
        lines: Its epochs in the search, in order. If there are none, the config is returned unchanged.
    """
    if not lines:
        return config
    kept = lines[-1].get("weights_epoch", config["epochs"])
    if kept != config["epochs"]:
        config = {**config, "stop_after": kept}
    schedule = config["schedule"]
    if schedule["name"] == "plateau" and schedule.get("reductions") is None and not config.get("train"):
        config = {**config, "schedule": {**schedule, "reductions": plateau_reductions(schedule, lines)}}
    return config


def plateau_reductions(schedule: Line, lines: Sequence[Line]) -> list[int]:
    """Return the epochs after which a plateau schedule reduced the learning rate, from 1.

    They follow from the recorded values of its metric. The learning rates would not do: a warm-up that is not a whole number of epochs
    ends at a rounded step.

    Args:
        schedule: The `schedule` section of the config.
        lines: The epochs of the trial in the search, in order.
    """
    plateau = Plateau(schedule["factor"], schedule["patience"])
    reductions: list[int] = []
    for line in lines:
        before = plateau.scale
        plateau.observe(line["epoch"], to_minimize(schedule["metric"], line))
        if plateau.scale != before:
            reductions.append(line["epoch"])
    return reductions
