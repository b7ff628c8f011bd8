"""Defines the status of a trial, which the study, the files of a run, the tables and the views share."""

from __future__ import annotations

from enum import StrEnum


class TrialStatus(StrEnum):
    """The status of a trial of the search. A retraining has the same statuses except `STOPPED` and `SKIPPED`."""

    COMPLETED = "completed"
    """It trained its last epoch, or was ended by its own `early_stopping`."""
    STOPPED = "stopped"
    """The scheduler stopped it, or the search ended and no longer needed it."""
    DIVERGED = "diverged"
    """Its loss was not finite."""
    OUT_OF_MEMORY = "out_of_memory"
    """It ran out of memory, even in its second attempt with smaller micro-batches."""
    FAILED = "failed"
    """An error was raised, for example by a custom model; or the objective had no value where trials are compared."""
    LOST = "lost"
    """Its worker died repeatedly, without finishing an epoch in between."""
    INFEASIBLE = "infeasible"
    """It exceeds a limit of the search, or a custom model refused its config."""
    TIMED_OUT = "timed_out"
    """It hung: its training gave no sign of life for longer than `search.trial_timeout`."""
    RUNNING = "running"
    """It has not ended; it runs, waits at a rung, or was left open by an interrupted search."""
    SKIPPED = "skipped"
    """It never ran; only runs of early versions have such trials."""


FAILURES = (
    TrialStatus.DIVERGED,
    TrialStatus.OUT_OF_MEMORY,
    TrialStatus.FAILED,
    TrialStatus.LOST,
    TrialStatus.TIMED_OUT,
)
