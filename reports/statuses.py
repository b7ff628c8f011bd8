"""The statuses of trials in reports, in the order in which tables and legends show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from winnow.spaces.trial_status import FAILURES
from winnow.spaces.trial_status import TrialStatus as TrialStatus

STATUSES = tuple(status.value for status in TrialStatus)
FAILED_STATUSES = tuple(status.value for status in FAILURES)
UNRANKED_STATUSES = (*FAILED_STATUSES, TrialStatus.INFEASIBLE.value)
"""Statuses of trials that are never compared with others, whatever their objective."""


def is_ranked(trial: Mapping[str, Any]) -> bool:
    """Return whether a trial is compared with others: it has an objective, and it did not fail.

    Args:
        trial: A row of `trials`.
    """
    return trial["objective"] is not None and trial["status"] not in UNRANKED_STATUSES


def value_at_end(trial: Mapping[str, Any]) -> float:
    """Return the estimate of what a trial is worth after the full training; its last value if there is none.

    Args:
        trial: A row of `trials` that has an objective. A completed trial has no estimate: its last value is that of the end.
    """
    end = trial["estimated_end"]
    return float(trial["objective"] if end is None else end)


STATUS_WORDS: dict[str, str] = dict(zip(STATUSES, STATUSES, strict=True)) | {
    "stopped": "stopped early",
    "out_of_memory": "out of memory",
    "lost": "worker lost",
    "timed_out": "timed out",
    "running": "unfinished",
}
"""The words for each status in a sentence."""
