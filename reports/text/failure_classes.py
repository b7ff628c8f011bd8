"""Defines the classes of failure of a search, with their meaning and the action taken, and counts the trials in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from winnow.spaces.trial_status import TrialStatus

CLASSES: dict[str, tuple[str, str]] = {
    "diverged": (
        "the loss became non-finite",
        "ended immediately and reported to the sampler as failed; no second attempt",
    ),
    "out_of_memory": (
        "out of memory twice",
        "the second attempt had the same resources and split each batch into micro-batches; then ended",
    ),
    "failed": (
        "an error, for example in a custom model, or no value of the objective where trials are compared",
        "ended; the search stops at the third error with the same last line",
    ),
    "lost": ("the worker died repeatedly without finishing an epoch in between", "ended after the fourth time"),
    "timed_out": (
        "no batch was finished for longer than `search.trial_timeout`",
        "ended; its worker was killed and replaced",
    ),
    "recovered": ("the worker or node was lost", "resumed from the checkpoint; not counted against the trial"),
    "micro-batches": (
        "out of memory once",
        "tried again with the same resources and each batch split into micro-batches",
    ),
}


def class_rows(trials: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, str, str]]:
    """Count the trials in each class of failure.

    Args:
        trials: Rows of the table `trials`.

    Returns:
        (class, number of trials, meaning, action) for every class, including those without trials. The last two classes are trials
        that continued after a failure. A trial can count in several classes.
    """
    trials = list(trials)
    counts = {name: sum(row["status"] == name for row in trials) for name in CLASSES}
    counts["recovered"] = sum(row["worker_losses"] > 0 and row["status"] != TrialStatus.LOST for row in trials)
    counts["micro-batches"] = sum(
        row["micro_batches"] > 1 and row["status"] != TrialStatus.OUT_OF_MEMORY for row in trials
    )
    return [(name, counts[name], *about) for name, about in CLASSES.items()]
