"""Writes what the validation images decided in the search into a config that is retrained on these images too."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from winnow.search.storage.json_lines import read_epochs
from winnow.search.storage.run_folder import RunFolder

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
    if schedule["name"] == "plateau" and schedule.get("reductions") is None:
        reductions = plateau_reductions(schedule, [line.get("lr") for line in lines])
        config = {**config, "schedule": {**schedule, "reductions": reductions}}
    return config


def plateau_reductions(schedule: Line, lrs: Sequence[float | None]) -> list[int]:
    """Return the epochs after which a plateau schedule reduced the learning rate, from 1.

    Args:
        schedule: The `schedule` section of the config.
        lrs: The learning rate at the end of each epoch; None if it was not recorded.
    """
    warmup = schedule.get("warmup", 0.0)
    reductions: list[int] = []
    for epoch, (before, after) in enumerate(pairwise(lrs), start=1):
        if not before or not after:
            continue
        rises = [min(1.0, end / warmup) if warmup else 1.0 for end in (epoch, epoch + 1)]
        ratio = (after / rises[1]) / (before / rises[0])
        if round(math.log(ratio) / math.log(schedule["factor"])) >= 1:
            reductions.append(epoch)
    return reductions
