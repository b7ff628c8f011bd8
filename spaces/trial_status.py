"""The status of a trial, in the one spelling that the study, the files of a run, the tables and the views share."""

from __future__ import annotations

from enum import StrEnum


class TrialStatus(StrEnum):
    """The status of a trial of the search; a retraining has the same ones, but for `STOPPED`, `TIMED_OUT` and `SKIPPED`."""

    COMPLETED = "completed"
    """It ran its last epoch, or stopped early by its own `early_stopping`."""
    STOPPED = "stopped"
    """Ended by the scheduler, or together with a search that had no use for it."""
    DIVERGED = "diverged"
    """Its loss was not finite."""
    OUT_OF_MEMORY = "out_of_memory"
    """It did not fit into memory, also not in its second try with smaller pieces of a batch."""
    FAILED = "failed"
    """An error was raised, as by a model of the user's own."""
    LOST = "lost"
    """Its worker died again and again, with no epoch finished in between."""
    INFEASIBLE = "infeasible"
    """It exceeds a limit of the search, or a model of the user's own refused its config."""
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
